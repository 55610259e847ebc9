//! What is printed: what was measured, side by side, and the bounds.

use crate::measure::Cost;
use crate::report::{Machine, mib};
use crate::stats::{Ratio, median, ratio};
use serde::Serialize;
use std::fmt::Write as _;

/// One measurement of one tool.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    /// Which tool.
    pub(super) tool: &'static str,
    /// What it did.
    pub(super) step: &'static str,
    /// Its own processes.
    pub(super) cost: Cost,
    /// CPU of the server's processes meanwhile, in seconds.
    pub(super) server_cpu_s: f64,
    /// What its repository, or its folder, grew by.
    pub(super) stored_bytes: u64,
}

/// How a bound is meant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// A bound with what was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Held {
    pub(super) what: String,
    pub(super) bound: Bound,
    pub(super) measured: Option<Ratio>,
}

impl Held {
    /// Whether it holds, where it was measured.
    pub(super) fn is_met(&self) -> Option<bool> {
        let median = self.measured?.median;
        Some(match self.bound {
            Bound::AtMost(most) => median <= most,
            Bound::AtLeast(least) => median >= least,
        })
    }
}

/// All that a part has measured.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Run {
    pub(super) began: String,
    pub(super) machine: Machine,
    pub(super) load_before: String,
    pub(super) load_after: String,
    /// What it was measured with and on, a line each.
    pub(super) about: Vec<String>,
    pub(super) samples: Vec<Sample>,
    /// Lines for what fits no table.
    pub(super) found: Vec<String>,
    pub(super) held: Vec<Held>,
}

impl Run {
    /// One number of one tool at one step, in the order of the rounds.
    pub(super) fn each(&self, tool: &str, step: &str, take: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().filter(|s| s.tool == tool && s.step == step).map(take).collect()
    }

    /// Holds Lifeboat against another at one step.
    pub(super) fn hold(
        &mut self,
        what: &str,
        step: &str,
        other: &str,
        bound: Bound,
        take: impl Fn(&Sample) -> f64,
    ) {
        let measured = ratio(&self.each("lifeboat", step, &take), &self.each(other, step, &take));
        self.held.push(Held { what: format!("{what} of {step}, against {other}"), bound, measured });
    }

    /// Holds the largest peak of Lifeboat's against what it may be.
    pub(super) fn hold_peak(&mut self, more: &[u64], most_bytes: u64) {
        let own = self.samples.iter().filter(|s| s.tool == "lifeboat").map(|s| s.cost.peak_bytes);
        let peak = own.chain(more.iter().copied()).max();
        let measured = peak.and_then(|peak| ratio(&[peak as f64], &[most_bytes as f64]));
        let what = format!("peak memory of any process, against {:.0} MiB", mib(most_bytes));
        self.held.push(Held { what, bound: Bound::AtMost(1.0), measured });
    }

    /// 0 all bounds hold, 3 one does not, 4 one was not measured.
    pub(super) fn exit_code(&self) -> u8 {
        match () {
            () if self.held.iter().any(|held| held.is_met() == Some(false)) => 3,
            () if self.held.iter().any(|held| held.is_met().is_none()) => 4,
            () => 0,
        }
    }

    /// As Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "Measured {} on {}. Load average {} before, {} after.\n\n",
            self.began,
            self.machine.line(),
            self.load_before,
            self.load_after
        );
        // Writing into a String cannot fail.
        let _ = self.about.iter().try_for_each(|line| writeln!(text, "- {line}"));
        self.table(&mut text);
        let _ =
            writeln!(text).and_then(|()| self.found.iter().try_for_each(|line| writeln!(text, "- {line}")));
        self.bounds(&mut text);
        text
    }

    fn table(&self, text: &mut String) {
        if self.samples.is_empty() {
            return;
        }
        text.push_str("\n| | | wall s | CPU s, own | CPU s, server | peak MiB | stored MB |\n|---|---|---|---|---|---|---|\n");
        let mut rows: Vec<(&str, &str)> = Vec::new();
        for sample in &self.samples {
            if !rows.contains(&(sample.step, sample.tool)) {
                rows.push((sample.step, sample.tool));
            }
        }
        rows.sort_by_key(|(step, _)| self.samples.iter().position(|sample| sample.step == *step));
        for (step, tool) in rows {
            let of = |take: fn(&Sample) -> f64| median(&self.each(tool, step, take)).unwrap_or_default();
            let _ = writeln!(
                text,
                "| {step} | {tool} | {:.2} | {:.2} | {:.2} | {:.0} | {:.1} |",
                of(|s| s.cost.wall_s),
                of(|s| s.cost.cpu_s),
                of(|s| s.server_cpu_s),
                of(|s| mib(s.cost.peak_bytes)),
                of(|s| s.stored_bytes as f64 / 1e6)
            );
        }
    }

    fn bounds(&self, text: &mut String) {
        text.push_str(
            "\n| Lifeboat's | bound | median of the rounds | least – most | |\n|---|---|---|---|---|\n",
        );
        for held in &self.held {
            let bound = match held.bound {
                Bound::AtMost(most) => format!("at most {most}"),
                Bound::AtLeast(least) => format!("at least {least}"),
            };
            let (median, range) = held.measured.map_or_else(
                || ("–".to_owned(), "–".to_owned()),
                |r| (format!("{:.3}", r.median), format!("{:.3} – {:.3}", r.least, r.most)),
            );
            let verdict = match held.is_met() {
                Some(true) => "met",
                Some(false) => "**missed**",
                None => "not measured",
            };
            let _ = writeln!(text, "| {} | {bound} | {median} | {range} | {verdict} |", held.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(tool: &'static str, wall_s: f64) -> Sample {
        let cost = Cost { wall_s, cpu_s: 1.0, peak_bytes: 80 << 20 };
        Sample { tool, step: "full backup", cost, server_cpu_s: 0.5, stored_bytes: 2_000_000 }
    }

    #[test]
    fn a_bound_holds_or_is_missed_or_was_not_measured() {
        let samples = vec![sample("lifeboat", 1.2), sample("pg_basebackup", 1.0)];
        let mut run = Run { samples, ..Run::default() };
        run.hold("wall time", "full backup", "pg_basebackup", Bound::AtMost(1.1), |s| s.cost.wall_s);
        run.hold("CPU", "full backup", "pg_basebackup", Bound::AtLeast(0.9), |s| s.cost.cpu_s);
        run.hold("wall time", "restore", "pgbackrest", Bound::AtMost(0.7), |s| s.cost.wall_s);
        run.hold_peak(&[200 << 20], 160 << 20);
        let met: Vec<_> = run.held.iter().map(Held::is_met).collect();
        assert_eq!(met, [Some(false), Some(true), None, Some(false)]);
        assert_eq!(run.exit_code(), 3);
        let text = run.markdown();
        assert!(text.contains("| full backup | lifeboat | 1.20 | 1.00 | 0.50 | 80 | 2.0 |"), "{text}");
        assert!(text.contains("| at most 1.1 | 1.200 | 1.200 – 1.200 | **missed** |"), "{text}");
        run.held.retain(|held| held.is_met() != Some(false));
        assert_eq!(run.exit_code(), 4);
    }
}
