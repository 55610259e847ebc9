//! How long the lint takes over ten thousand datasets: `cargo run --release -p lifeboat-plan --example lint_time`.

#![expect(clippy::print_stdout, reason = "an example prints what it measures")]

use lifeboat_base::clock::Stopwatch;
use lifeboat_plan::Plan;
use lifeboat_plan::lint::{Known, lint};
use std::fmt::Write;

const DATASETS: usize = 10_000;
const ROUNDS: usize = 11;

/// Every tenth dataset has a service and a name that nobody has; of those that are kept by a calendar there are
/// sixty different ones.
fn text() -> String {
    let mut text = "[tiers.t]\nrto = \"1h\"\n[repository]\nurl = \"s3://bucket/repo\"\n".to_owned();
    for n in 0..DATASETS {
        let protect = match n % 3 {
            0 => "\"continuous\"".to_owned(),
            1 => "{ every = \"30m\", takes = \"1m\" }".to_owned(),
            _ => format!("{{ cron = \"{} 2 * * *\" }}", n % 60),
        };
        let _ = writeln!(
            text,
            "[datasets.d{n}]\nstore = \"/srv/{n}.db\"\nrpo = \"1h\"\nprotect = {protect}\nretain = {{ daily = 7 }}\nprove = {{ every = \"1d\" }}"
        );
        if n % 10 == 0 {
            let _ =
                writeln!(text, "[services.s{n}]\ntier = \"t\"\nneeds = [\"d{n}\", \"d{}\", \"x{n}\"]", n / 2);
        }
    }
    text
}

fn main() -> Result<(), lifeboat_plan::PlanError> {
    let plan = Plan::parse(&text(), "plan.toml")?;
    let mut times = Vec::new();
    let mut findings = 0;
    for _ in 0..ROUNDS {
        let watch = Stopwatch::start();
        findings = lint(&plan, &Known::default()).findings.len();
        times.push(watch.elapsed());
    }
    times.sort_unstable();
    let (median, most) = (times[ROUNDS / 2], times[ROUNDS - 1]);
    println!(
        "{DATASETS} datasets, {findings} findings: {median:.1?} (median of {ROUNDS}), {most:.1?} at the most"
    );
    Ok(())
}
