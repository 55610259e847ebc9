//! What the engine itself costs: a run of many steps that do nothing, on a real disk, synced as always.
//!
//! `cargo run --release -p lifeboat-run --example cost -- [STEPS] [FOLDER] [mirrored|wide]` prints milliseconds a step and
//! the memory at its height. The limits are 5 ms a step and 64 MiB for 10,000 steps.

#![expect(clippy::print_stdout, reason = "an example prints what it measures")]
#![expect(clippy::unwrap_used, reason = "an example that cannot measure has nothing to say")]

use lifeboat_base::clock::Stopwatch;
use lifeboat_run::event::Ended;
use lifeboat_run::mirror::FolderMirror;
use lifeboat_run::{
    Begin, Carried, Carriers, Carry, Executor, House, Order, Record, RunState, Runs, Stop, Until,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

struct Nothing;

impl Carry for Nothing {
    fn carry(&self, _: &Order, _: &Stop) -> Carried {
        Carried::ended(Ended::Done)
    }

    fn look(&self, _: &Order) -> Vec<String> {
        Vec::new()
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let steps: usize = words.next().map_or(10_000, |word| word.parse().unwrap());
    let folder = words.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let place = lifeboat_base::scratch::Scratch::new(&folder).unwrap();
    let mut house = House::new("cost", "here");
    house.carriers = Carriers::all(Arc::new(Nothing));
    let how = words.next();
    if how.as_deref() == Some("mirrored") {
        house.mirror = Some(Arc::new(FolderMirror::new(&place.path().join("mirror"))));
    }
    let document = document(steps, if how.as_deref() == Some("wide") { 1 } else { 10 });
    let runbook = lifeboat_runbook::compile(&document).unwrap();
    let before_kib = memory_kib();
    let begin =
        Begin { document: document.into_bytes(), runbook, inputs: BTreeMap::new(), since: None, rto: None };
    let mut executor = Executor::begin_run(&Runs::within(place.path()), house, begin).unwrap();
    let watch = Stopwatch::start();
    let rest = executor.drive(Until::PeopleAreNeeded, &mut |_: &Record, _: &RunState| {}).unwrap();
    let took = watch.elapsed();
    let records = executor.state().number;
    let ms = took.as_secs_f64() * 1000.0 / steps as f64;
    println!("{steps} steps, {records} records, {rest:?}: {ms:.3} ms a step");
    println!("memory: {} MiB when compiled, {} MiB at its height", before_kib >> 10, memory_kib() >> 10);
}

/// A third of the steps may be done once, each so many begin a branch of their own.
fn document(steps: usize, branch: usize) -> String {
    let mut text = "# Steps that do nothing\n\n".to_owned();
    for n in 0..steps {
        let repeat = if n % 3 == 0 { "never" } else { "safe" };
        let needs = if n % branch == 0 { " needs=none" } else { "" };
        text.push_str(&format!(
            "```bash {{step=s{n} repeat={repeat}{needs} undo=none why=x}}\ntrue\n```\n\n"
        ));
    }
    text
}

/// The most memory that this process had so far.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
