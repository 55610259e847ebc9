//! What is printed: the machine, the medians, the objectives, what was missing; as Markdown and as JSON.

use crate::error::BenchError;
use crate::measure::Cost;
use crate::objectives::{Objective, Verdict};
use crate::stats::{median, ratio};
use crate::tools::{Step, TOOLS};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// Which tool.
    pub(crate) tool: &'static str,
    /// What it did.
    pub(crate) step: Step,
    /// In which round, from zero.
    pub(crate) round: u32,
    /// What it cost.
    pub(crate) cost: Cost,
}

/// What it was measured on.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    file_system: String,
}

impl Machine {
    /// Looks at this machine, and at the file system of `dir`.
    pub(crate) fn look(dir: &Path) -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let stat = Command::new("stat").args(["-f", "-c", "%T"]).arg(dir).output();
        Self {
            processor: model.map(|(_, name)| name.trim().to_owned()).unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: kernel.trim().to_owned(),
            file_system: stat
                .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
                .unwrap_or_default(),
        }
    }

    /// For the head of a report.
    pub(crate) fn line(&self) -> String {
        let Self { processor, cores, kernel, file_system } = self;
        format!("{cores} × {processor}, Linux {kernel}, {file_system}")
    }
}

/// The load average of the last minute, so that a busy machine shows.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// One run of the comparison.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Run {
    /// When, RFC 3339.
    pub(crate) began: String,
    /// On what.
    pub(crate) machine: Machine,
    /// How many rounds.
    pub(crate) pairs: u32,
    /// Files of the tree.
    pub(crate) tree_files: u64,
    /// Their bytes.
    pub(crate) tree_bytes: u64,
    /// The size of `tar | zstd -3` of it.
    pub(crate) tar_zstd_3_bytes: u64,
    /// Load average before the first round.
    pub(crate) load_before: String,
    /// And after the last.
    pub(crate) load_after: String,
    /// The peak of the measuring program itself, below which no peak can be told.
    pub(crate) own_peak_bytes: u64,
    /// The tools that took part, with version and manner.
    pub(crate) tools: Vec<(&'static str, String)>,
    /// Those that did not, and why.
    pub(crate) missing: Vec<String>,
    /// Those that failed on the way.
    pub(crate) failures: Vec<String>,
    /// All measurements.
    pub(crate) samples: Vec<Sample>,
    /// The size of each repository after the first backup.
    pub(crate) stored_bytes: BTreeMap<&'static str, u64>,
    /// The objectives.
    pub(crate) objectives: Vec<Objective>,
}

impl Run {
    /// The costs of one tool at one step, in the order of the rounds.
    pub(crate) fn costs(&self, tool: &str, step: Step) -> impl Iterator<Item = Cost> {
        self.samples
            .iter()
            .filter(move |sample| sample.tool == tool && sample.step == step)
            .map(|sample| sample.cost)
    }

    fn multiple(&self, other: &str, step: Step) -> Option<String> {
        let of = |take: fn(Cost) -> f64| {
            let side = |tool| self.costs(tool, step).map(take).collect::<Vec<_>>();
            ratio(&side("lifeboat"), &side(other)).map(|ratio| ratio.median)
        };
        Some(format!("{:.2} ({:.2})", of(|cost| cost.cpu_s)?, of(|cost| cost.wall_s)?))
    }

    fn cell(&self, tool: &str, step: Step) -> String {
        let of = |take: fn(&Cost) -> f64| {
            median(&self.costs(tool, step).map(|cost| take(&cost)).collect::<Vec<_>>())
        };
        let peak = self.costs(tool, step).map(|cost| cost.peak_bytes).max();
        match (of(|cost| cost.wall_s), of(|cost| cost.cpu_s), peak) {
            (Some(wall), Some(cpu), Some(peak)) => format!("{wall:.2} / {cpu:.2} / {:.0}", mib(peak)),
            _ => "–".to_owned(),
        }
    }
}

/// Bytes as MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The run as JSON, every sample included.
///
/// # Errors
/// Never for what is measured here; the type says so.
pub(crate) fn json(run: &Run) -> Result<String, BenchError> {
    Ok(serde_json::to_string_pretty(run)?)
}

/// The run as Markdown.
pub(crate) fn markdown(run: &Run) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = head(run, &mut text)
        .and_then(|()| table(run, &mut text))
        .and_then(|()| ratios(run, &mut text))
        .and_then(|()| foot(run, &mut text));
    text
}

fn head(run: &Run, text: &mut String) -> std::fmt::Result {
    writeln!(text, "Measured {} on {}.", run.began, run.machine.line())?;
    writeln!(
        text,
        "Tree: {} files, {:.1} MB; `tar | zstd -3` makes {:.1} MB of it. {} rounds, all tools in turn, warm cache, \
         everything synced inside the measured time. Load average {} before, {} after. Peaks below {:.0} MiB \
         are the measuring program's own.\n",
        run.tree_files,
        megabytes(run.tree_bytes),
        megabytes(run.tar_zstd_3_bytes),
        run.pairs,
        run.load_before,
        run.load_after,
        mib(run.own_peak_bytes)
    )?;
    for (name, version) in &run.tools {
        writeln!(text, "- {name}: {version}")?;
    }
    for line in &run.missing {
        writeln!(text, "- *{line}*")?;
    }
    for line in &run.failures {
        writeln!(text, "- **failed** {line}")?;
    }
    writeln!(text)
}

fn table(run: &Run, text: &mut String) -> std::fmt::Result {
    writeln!(text, "Median wall s / median CPU s (user and system) / peak MiB:\n")?;
    writeln!(text, "| | {} | size MB |", Step::ALL.map(Step::title).join(" | "))?;
    writeln!(text, "|---|{}", "---|".repeat(Step::ALL.len() + 1))?;
    for tool in TOOLS.iter().filter(|tool| run.samples.iter().any(|sample| sample.tool == tool.name)) {
        let size = run.stored_bytes.get(tool.name).map(|bytes| format!("{:.1}", megabytes(*bytes)));
        let cells = Step::ALL.map(|step| run.cell(tool.name, step)).join(" | ");
        writeln!(text, "| {} | {cells} | {} |", tool.name, size.unwrap_or_else(|| "–".to_owned()))?;
    }
    writeln!(text)
}

/// Lifeboat as a multiple of each of the others; nothing where Lifeboat did not take part.
fn ratios(run: &Run, text: &mut String) -> std::fmt::Result {
    let others = || TOOLS.iter().filter(|tool| tool.name != "lifeboat");
    let rows: Vec<_> =
        others().map(|tool| (tool.name, Step::ALL.map(|step| run.multiple(tool.name, step)))).collect();
    if rows.iter().all(|(_, cells)| cells.iter().all(Option::is_none)) {
        return Ok(());
    }
    writeln!(text, "Lifeboat as a multiple of, CPU (wall), medians of the pairs:\n")?;
    writeln!(text, "| | {} |", Step::ALL.map(Step::title).join(" | "))?;
    writeln!(text, "|---|{}", "---|".repeat(Step::ALL.len()))?;
    for (name, cells) in rows.iter().filter(|(_, cells)| cells.iter().any(Option::is_some)) {
        let cells: Vec<_> = cells.iter().map(|cell| cell.as_deref().unwrap_or("–")).collect();
        writeln!(text, "| {name} | {} |", cells.join(" | "))?;
    }
    writeln!(text)
}

fn foot(run: &Run, text: &mut String) -> std::fmt::Result {
    writeln!(text, "| objective: Lifeboat's | at most | median of the pairs | least – most | |")?;
    writeln!(text, "|---|---|---|---|---|")?;
    for each in &run.objectives {
        let measured =
            each.measured.map(|r| (format!("{:.3}", r.median), format!("{:.3} – {:.3}", r.least, r.most)));
        let (median, range) = measured.unwrap_or_else(|| ("–".to_owned(), "–".to_owned()));
        let verdict = match each.verdict {
            Verdict::Met => "met",
            Verdict::Missed => "**missed**",
            Verdict::NotMeasured => "not measured",
        };
        // A bar within a cell would end it.
        let what = each.what.replace('|', "\\|");
        writeln!(text, "| {what} | {} | {median} | {range} | {verdict} |", each.at_most)?;
    }
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_medians_and_says_what_is_missing() {
        let cost = |seconds| Cost { wall_s: seconds, cpu_s: 2.0 * seconds, peak_bytes: 10 << 20 };
        let sample =
            |round, seconds| Sample { tool: "restic", step: Step::First, round, cost: cost(seconds) };
        let mut run = Run { samples: vec![sample(0, 1.0), sample(1, 9.0), sample(2, 2.0)], ..Run::default() };
        run.missing.push("rustic: not there, so nothing is said about it".to_owned());
        run.stored_bytes.insert("restic", 1_500_000);
        run.objectives = crate::objectives::judge(&run);
        let text = markdown(&run);
        assert!(text.contains("| restic | 2.00 / 4.00 / 10 | – | – | – | – | 1.5 |"), "{text}");
        assert!(text.contains("*rustic: not there"), "{text}");
        assert!(!text.contains("as a multiple"), "{text}");
        assert!(text.contains("| size of the repository, against `tar \\| zstd -3` | 1 |"), "{text}");
        assert!(
            text.contains("| CPU of first backup, against restic | 0.45 | – | – | not measured |"),
            "{text}"
        );
        for round in 0..3 {
            run.samples.push(Sample { tool: "lifeboat", step: Step::First, round, cost: cost(1.0) });
        }
        assert!(markdown(&run).contains("| restic | 0.50 (0.50) | – | – | – | – |"), "{}", markdown(&run));
        let parsed: serde_json::Value = serde_json::from_str(&json(&run).unwrap()).unwrap();
        assert_eq!(parsed["samples"][1]["cost"]["wall_s"], 9.0);
    }
}
