//! The comparison on the tree: rounds in which every tool takes its turn at every step.

use crate::data;
use crate::error::BenchError;
use crate::measure::{self, Cost};
use crate::objectives::{self, Verdict};
use crate::options::Files;
use crate::report::{self, Machine, Run, Sample, load};
use crate::tools::{Places, Step, TOOLS, Tool};
use crate::tree;
use lifeboat_base::clock::Clock;
use lifeboat_base::{crashsafe, report as say};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the whole comparison and prints it.
///
/// # Errors
/// Where the tree cannot be built or the results cannot be kept. A tool that fails is left out from there
/// on, and said.
pub(crate) fn run(options: &Files) -> Result<u8, BenchError> {
    let bench = Bench::open(options)?;
    let mut run = bench.describe()?;
    let (tools, missing) = bench.installed(&options.without);
    run.missing = missing;
    run.tools =
        tools.iter().map(|(tool, version)| (tool.name, format!("{version} ({})", tool.what))).collect();
    let mut tools: Vec<&Tool> = tools.into_iter().map(|(tool, _)| tool).collect();
    for round in 0..options.pairs {
        bench.round(round, &mut tools, &mut run)?;
    }
    run.load_after = load();
    run.own_peak_bytes = measure::own_peak_bytes();
    run.objectives = objectives::judge(&run);
    bench.keep_and_print(&run, options.json)?;
    Ok(exit_code(&run))
}

/// 1 where a tool failed, 3 where an objective is missed, 4 where one that must be measured was not.
fn exit_code(run: &Run) -> u8 {
    let any = |verdict| run.objectives.iter().any(|each| each.verdict == verdict && !each.optional);
    match () {
        () if !run.failures.is_empty() => 1,
        () if any(Verdict::Missed) => 3,
        () if any(Verdict::NotMeasured) => 4,
        () => 0,
    }
}

struct Bench {
    dir: PathBuf,
    tree: PathBuf,
    log: PathBuf,
    own: PathBuf,
    lifeboat: PathBuf,
    pairs: u32,
}

impl Bench {
    fn open(options: &Files) -> Result<Self, BenchError> {
        crashsafe::create_dir_all(&options.dir)?;
        let dir = fs::canonicalize(&options.dir).map_err(|e| BenchError::io("find", &options.dir, e))?;
        let own = std::env::current_exe().map_err(|e| BenchError::io("find", "this program", e))?;
        let (tree, log) = (data::tree_path(&dir), dir.join("last-command.log"));
        let bench = Self { dir, tree, log, own, lifeboat: options.lifeboat.clone(), pairs: options.pairs };
        progress("building the tree, unless it is there");
        bench.child("build-tree", &[&bench.dir])?;
        // The first reader must not pay for a cold cache that the others find warm.
        bench.shell("tar -C \"$1\" -cf - . | cat > /dev/null", &[&bench.tree])?;
        Ok(bench)
    }

    /// Runs one of our own subcommands as a child, so that its memory is not ours (see [`measure`]).
    fn child(&self, verb: &str, paths: &[&Path]) -> Result<Cost, BenchError> {
        measure::run(Command::new(&self.own).arg(verb).args(paths), &self.log)
    }

    fn shell(&self, script: &str, paths: &[&Path]) -> Result<Cost, BenchError> {
        let script = format!("set -e -o pipefail; {script}");
        measure::run(Command::new("bash").args(["-c", &script, "bench"]).args(paths), &self.log)
    }

    fn describe(&self) -> Result<Run, BenchError> {
        let (files, bytes) = data::describe(&self.tree)?;
        progress("sizing tar | zstd -3");
        let stream = self.dir.join("tar.zst");
        self.shell("tar -C \"$1\" -cf - . | zstd -q -3 -f -o \"$2\"", &[&self.tree, &stream])?;
        let size = fs::metadata(&stream).map_err(|e| BenchError::io("look at", &stream, e))?.len();
        fs::remove_file(&stream).map_err(|e| BenchError::io("remove", &stream, e))?;
        Ok(Run {
            began: Clock::System.now().to_string(),
            machine: Machine::look(&self.dir),
            pairs: self.pairs,
            tree_files: files,
            tree_bytes: bytes,
            tar_zstd_3_bytes: size,
            load_before: load(),
            ..Run::default()
        })
    }

    /// The tools that are here with their versions, and a line for each that is not.
    fn installed(&self, without: &[String]) -> (Vec<(&'static Tool, String)>, Vec<String>) {
        let (mut here, mut missing) = (Vec::new(), Vec::new());
        for tool in TOOLS {
            if without.iter().any(|name| name == tool.name) {
                missing.push(format!("{}: left out by --without", tool.name));
            } else if let Some(version) = tool.version(&self.places(tool, 0)) {
                here.push((tool, version));
            } else {
                missing.push(format!("{}: not there, so nothing is said about it", tool.name));
            }
        }
        (here, missing)
    }

    fn places(&self, tool: &Tool, round: u32) -> Places {
        Places {
            tree: self.tree.clone(),
            own: self.round_dir(round).join(tool.name),
            bench: self.own.clone(),
            lifeboat: self.lifeboat.clone(),
        }
    }

    fn round_dir(&self, round: u32) -> PathBuf {
        self.dir.join(format!("round-{round}"))
    }

    fn round(&self, round: u32, tools: &mut Vec<&'static Tool>, run: &mut Run) -> Result<(), BenchError> {
        data::remove_all(&self.round_dir(round))?;
        self.each(round, tools, run, |tool, _| {
            self.prepare(&self.places(tool, round)).and_then(|()| self.init(tool, round))
        });
        for step in Step::ALL {
            if step == Step::Changed {
                let undo = data::undo_path(&self.dir);
                self.child("change-tree", &[&self.tree, &undo])?;
                self.each(round, tools, run, |tool, run| self.step(tool, round, step, run));
                self.child("revert-tree", &[&self.tree, &undo])?;
            } else {
                self.each(round, tools, run, |tool, run| self.step(tool, round, step, run));
            }
        }
        data::remove_all(&self.round_dir(round))
    }

    /// Lets every tool take its turn, each round beginning with another; one that fails drops out.
    fn each(
        &self,
        round: u32,
        tools: &mut Vec<&'static Tool>,
        run: &mut Run,
        turn: impl Fn(&'static Tool, &mut Run) -> Result<(), BenchError>,
    ) {
        let mut order = tools.clone();
        let first = round as usize % order.len().max(1);
        order.rotate_left(first);
        for tool in order {
            if let Err(error) = turn(tool, run) {
                let failure = format!("{}: {}", tool.name, say(&error));
                progress(&failure);
                run.failures.push(failure);
                tools.retain(|other| other.name != tool.name);
            }
        }
    }

    fn prepare(&self, places: &Places) -> Result<(), BenchError> {
        fs::create_dir_all(&places.own).map_err(|e| BenchError::io("create folder", &places.own, e))
    }

    fn init(&self, tool: &Tool, round: u32) -> Result<(), BenchError> {
        match tool.prepare(&self.places(tool, round)) {
            Some(mut command) => measure::run(&mut command, &self.log).map(|_| ()),
            None => Ok(()),
        }
    }

    fn step(&self, tool: &'static Tool, round: u32, step: Step, run: &mut Run) -> Result<(), BenchError> {
        let places = self.places(tool, round);
        let Some(mut command) = tool.command(&places, step) else { return Ok(()) };
        if step == Step::Restore {
            let target = places.target();
            fs::create_dir_all(&target).map_err(|e| BenchError::io("create folder", &target, e))?;
        }
        if let Some(mut ready) = tool.ready(&places, step) {
            measure::run(&mut ready, &self.log)?;
        }
        // Nobody pays for what another left in the page cache.
        measure::run(Command::new("sync").arg("-f").arg(&self.dir), &self.log)?;
        let cost = measure::durable(&mut command, &self.dir, &self.log)?;
        progress(&format!(
            "round {} {:<12} {:<9} {:6.2} s wall {:6.2} s CPU {:5.0} MiB",
            round + 1,
            step.title(),
            tool.name,
            cost.wall_s,
            cost.cpu_s,
            report::mib(cost.peak_bytes)
        ));
        run.samples.push(Sample { tool: tool.name, step, round, cost });
        self.after(tool, step, round, &places, run)
    }

    /// What is looked at between the measurements: the size of a repository, and in the first round whether
    /// what was restored is the tree.
    fn after(
        &self,
        tool: &'static Tool,
        step: Step,
        round: u32,
        places: &Places,
        run: &mut Run,
    ) -> Result<(), BenchError> {
        if step == Step::First && round == 0 {
            run.stored_bytes.insert(tool.name, tree::size_bytes(&places.repository())?);
        }
        if step == Step::Restore && round == 0 {
            self.child("compare", &[&self.tree, &places.restored_tree()])?;
        }
        if step == Step::Restore {
            data::remove_all(&places.target())?;
        }
        Ok(())
    }

    fn keep_and_print(&self, run: &Run, json: bool) -> Result<(), BenchError> {
        let markdown = report::markdown(run);
        let as_json = report::json(run)?;
        crashsafe::replace(&self.dir.join("files.md"), markdown.as_bytes())?;
        crashsafe::replace(&self.dir.join("files.json"), as_json.as_bytes())?;
        crate::print(if json { &as_json } else { &markdown })
    }
}

fn progress(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
