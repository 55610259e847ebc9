//! What Lifeboat must reach on the tree, and whether it did.

use crate::measure::Cost;
use crate::report::Run;
use crate::stats::{self, Ratio};
use crate::tools::Step;
use serde::Serialize;

/// No operation may need more memory than this.
const PEAK_BYTES_MAX: u64 = 160 << 20;

/// How an objective came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// Reached.
    Met,
    /// Not reached.
    Missed,
    /// One side of the ratio is not there.
    NotMeasured,
}

/// One objective with its outcome.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Objective {
    /// What must be.
    pub(crate) what: String,
    /// The bound.
    pub(crate) at_most: f64,
    /// What was measured, where it could be.
    pub(crate) measured: Option<Ratio>,
    /// How it came out.
    pub(crate) verdict: Verdict,
    /// Holds only where that tool is installed.
    pub(crate) optional: bool,
}

/// What of a cost is compared.
#[derive(Clone, Copy)]
enum Of {
    Cpu,
    Wall,
}

impl Of {
    fn take(self, cost: &Cost) -> f64 {
        match self {
            Self::Cpu => cost.cpu_s,
            Self::Wall => cost.wall_s,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Wall => "wall time",
        }
    }
}

/// Lifeboat against another: step, what, whom, at most how many times as much, optional.
const RATIOS: &[(Step, Of, &str, f64, bool)] = &[
    (Step::First, Of::Cpu, "floor", 1.35, false),
    (Step::First, Of::Cpu, "restic", 0.45, false),
    (Step::Unchanged, Of::Cpu, "restic", 0.25, false),
    (Step::Restore, Of::Cpu, "floor-on-packs", 1.2, false),
    (Step::Restore, Of::Wall, "restic", 1.0, false),
    (Step::Restore, Of::Wall, "rustic", 1.0, true),
    (Step::Check, Of::Cpu, "floor-on-packs", 1.2, false),
];

/// Every objective with its outcome.
pub(crate) fn judge(run: &Run) -> Vec<Objective> {
    let ratios = RATIOS.iter().map(|(step, of, other, at_most, optional)| {
        let what = format!("{} of {}, against {other}", of.name(), step.title());
        let side = |tool| run.costs(tool, *step).map(|cost| of.take(&cost)).collect::<Vec<_>>();
        objective(what, *at_most, stats::ratio(&side("lifeboat"), &side(other)), *optional)
    });
    ratios.chain([size(run), memory(run)]).collect()
}

fn objective(what: String, at_most: f64, measured: Option<Ratio>, optional: bool) -> Objective {
    let verdict = match measured {
        Some(ratio) if ratio.median <= at_most => Verdict::Met,
        Some(_) => Verdict::Missed,
        None => Verdict::NotMeasured,
    };
    Objective { what, at_most, measured, verdict, optional }
}

fn size(run: &Run) -> Objective {
    let stored = run.stored_bytes.get("lifeboat").map(|bytes| *bytes as f64);
    let ratio = stored.and_then(|stored| stats::ratio(&[stored], &[run.tar_zstd_3_bytes as f64]));
    objective("size of the repository, against `tar | zstd -3`".to_owned(), 1.0, ratio, false)
}

fn memory(run: &Run) -> Objective {
    let peak = run
        .samples
        .iter()
        .filter(|sample| sample.tool == "lifeboat")
        .map(|sample| sample.cost.peak_bytes)
        .max();
    let ratio = peak.and_then(|peak| stats::ratio(&[peak as f64], &[PEAK_BYTES_MAX as f64]));
    objective("peak memory of any operation, against 160 MiB".to_owned(), 1.0, ratio, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Sample;

    fn sample(tool: &'static str, step: Step, round: u32, seconds: f64) -> Sample {
        let cost = Cost { wall_s: seconds, cpu_s: seconds, peak_bytes: 100 << 20 };
        Sample { tool, step, round, cost }
    }

    fn verdict_of(run: &Run, start: &str) -> Verdict {
        judge(run).iter().find(|each| each.what.starts_with(start)).unwrap().verdict
    }

    #[test]
    fn a_ratio_is_held_against_its_bound() {
        let mut run = Run::default();
        for round in 0..3 {
            run.samples.push(sample("lifeboat", Step::First, round, 4.0));
            run.samples.push(sample("restic", Step::First, round, 10.0));
            run.samples.push(sample("floor", Step::First, round, 2.0));
        }
        assert_eq!(verdict_of(&run, "CPU of first backup, against restic"), Verdict::Met);
        assert_eq!(verdict_of(&run, "CPU of first backup, against floor"), Verdict::Missed);
        assert_eq!(verdict_of(&run, "CPU of restore"), Verdict::NotMeasured);
        assert_eq!(verdict_of(&run, "peak memory"), Verdict::Met);
    }

    #[test]
    fn the_repository_must_be_smaller_than_the_stream() {
        let mut run = Run { tar_zstd_3_bytes: 1000, ..Run::default() };
        assert_eq!(verdict_of(&run, "size"), Verdict::NotMeasured);
        run.stored_bytes.insert("lifeboat", 999);
        assert_eq!(verdict_of(&run, "size"), Verdict::Met);
        run.stored_bytes.insert("lifeboat", 1001);
        assert_eq!(verdict_of(&run, "size"), Verdict::Missed);
    }
}
