//! `lifeboat init`: looks around and writes a plan.
//!
//! It opens no repository and needs no plan: one that is there and broken must not keep it from making another.

use crate::args::{Global, InitArgs};
use crate::context::host_name;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use lifeboat_base::crashsafe::{self, Creation};
use lifeboat_base::{Hint, report};
use lifeboat_discover::{Engine, Found, FoundDataset, Kept, Surroundings, look_around, plan_text};
use lifeboat_objects::location::Location;
use lifeboat_plan::lint::{Known, Report, Weight, lint};
use lifeboat_plan::{FILE_NAME, Plan, SecretRef};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How many of the things that were passed over a person is shown.
const SHOWN: usize = 20;

pub(crate) fn run(global: &Global, args: &InitArgs) -> Result<Outcome, Failure> {
    let output = Output { json: global.json, quiet: global.quiet };
    let file = args.out.clone().or_else(|| global.plan.clone()).unwrap_or_else(|| args.dir.join(FILE_NAME));
    let file = (!args.print).then_some(file);
    if let Some(file) = file.as_deref().filter(|file| !args.force && file.exists()) {
        return Err(exists(file));
    }
    let surroundings = Surroundings {
        root: args.dir.clone(),
        variables: variables(),
        host: global.host.clone().unwrap_or_else(host_name),
    };
    let found = look_around(&surroundings).map_err(|error| Failure {
        code: 2,
        message: report(&error),
        hint: error.hint(),
    })?;
    let text = plan_text(&found, &kept(global)?);
    let plan = Plan::parse(&text, FILE_NAME)?;
    let report = lint(&plan, &Known::default());
    if let Some(file) = &file {
        write(file, &text, args.force)?;
    }
    let init = Init { dir: &args.dir, file: file.as_deref(), found: &found, text: &text, report: &report };
    output.result(|| init.json(), |out| init.text(out))?;
    let missed: Vec<String> = not_looked_at(&found, true).collect();
    for line in missed.iter().take(SHOWN) {
        output.warn(&format!("not looked at: {line}"));
    }
    if missed.len() > SHOWN {
        output.warn(&format!("not looked at: {} more, which --json lists", missed.len() - SHOWN));
    }
    Ok(if missed.is_empty() { Outcome::Done } else { Outcome::LeftOut })
}

/// What was passed over: what might have held something, or what by its name does not.
fn not_looked_at(found: &Found, is_missed: bool) -> impl Iterator<Item = String> {
    let passed = found.passed_over.iter().filter(move |passed| passed.is_missed == is_missed);
    passed.map(|passed| format!("{}: {}", shown(&passed.path), passed.why))
}

/// Variables that are text: an address is.
fn variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Where the plan keeps its recovery points: as the command line says, else as a first plan has it.
fn kept(global: &Global) -> Result<Kept, Failure> {
    let mut kept = Kept::default();
    if let Some(location) = &global.repository {
        kept.url = match Location::parse(location)? {
            Location::Directory(path) => {
                let path = std::path::absolute(&path).unwrap_or(path);
                format!("file:{}", path.display())
            }
            other => other.to_string(),
        };
    }
    if let Some(key) = &global.key {
        let reference = SecretRef::try_from(key.clone()).map_err(|what| {
            Failure::usage(what, "A secret on the command line is seen by everybody on the machine.")
        })?;
        kept.key = reference.to_string();
    }
    Ok(kept)
}

fn exists(file: &Path) -> Failure {
    Failure::usage(
        format!("{} exists", file.display()),
        "Look at what would be written with --print, write it elsewhere with --out FILE, or replace it with --force.",
    )
}

fn write(file: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let failed = |error: crashsafe::CrashsafeError| Failure {
        code: 1,
        message: report(&error),
        hint: Some("Name a file in a folder that exists and that you may write to.".to_owned()),
    };
    if force {
        return crashsafe::replace(file, text.as_bytes()).map_err(failed);
    }
    // Somebody else may have written it since it was looked for.
    match crashsafe::create(file, text.as_bytes()).map_err(failed)? {
        Creation::Created => Ok(()),
        Creation::Existed => Err(exists(file)),
    }
}

/// Names that others chose, for a terminal: nothing that moves its cursor, and one line each.
fn shown(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// A word as a shell reads it back.
fn word(text: &str) -> String {
    let is_plain =
        |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '@' | '=' | ',');
    if text.chars().all(is_plain) && !text.starts_with('-') {
        return text.to_owned();
    }
    format!("'{}'", shown(text).replace('\'', r"'\''"))
}

/// What was done.
struct Init<'a> {
    dir: &'a Path,
    file: Option<&'a Path>,
    found: &'a Found,
    text: &'a str,
    report: &'a Report,
}

impl Init<'_> {
    fn text(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(file) = self.file else {
            return out.write_all(self.text.as_bytes());
        };
        if self.found.is_empty() {
            writeln!(
                out,
                "{} names no dataset yet: nothing was found here; it shows how one is written",
                file.display()
            )?;
        } else {
            writeln!(out, "wrote {}", file.display())?;
        }
        self.datasets(out)?;
        self.services(out)?;
        self.left(out)?;
        self.lint(out)?;
        self.next(out)
    }

    fn datasets(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut protected = self.protected().peekable();
        if protected.peek().is_some() {
            writeln!(out, "\ndatasets")?;
        }
        for dataset in protected {
            let seen = dataset.seen.first().map(|seen| shown(&seen.to_string())).unwrap_or_default();
            writeln!(
                out,
                "  {:<24} {:<9} {:<32} {seen}",
                dataset.name,
                dataset.engine.word(),
                shown(&dataset.store)
            )?;
        }
        Ok(())
    }

    fn services(&self, out: &mut Vec<u8>) -> io::Result<()> {
        if !self.found.services.is_empty() {
            writeln!(out, "\nservices")?;
        }
        for service in &self.found.services {
            let probe = service.probe.as_ref().map_or("no probe".to_owned(), |probe| shown(&probe.url));
            let needs =
                if service.needs.is_empty() { "nothing".to_owned() } else { service.needs.join(", ") };
            writeln!(out, "  {:<24} needs {needs}; {probe}", service.name)?;
        }
        Ok(())
    }

    /// What was seen and is not in the plan.
    fn left(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut undriven =
            self.found.datasets.iter().filter(|dataset| !dataset.engine.has_driver()).peekable();
        if undriven.peek().is_some() || !self.found.undone.is_empty() {
            writeln!(out, "\nnot protected by this plan")?;
        }
        for dataset in undriven {
            writeln!(out, "  {}: this release has no driver for {}", dataset.name, dataset.engine.word())?;
        }
        for undone in &self.found.undone {
            writeln!(out, "  {}: {}", shown(&undone.what), undone.why)?;
        }
        let lines: Vec<String> =
            not_looked_at(self.found, false).map(|passed| format!("  {passed}")).collect();
        if !lines.is_empty() {
            writeln!(out, "\nnot looked at")?;
        }
        lines.iter().take(SHOWN).try_for_each(|line| writeln!(out, "{line}"))?;
        match lines.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => writeln!(out, "  {more} more, which --json lists"),
        }
    }

    /// What lint says, in one line: a first plan holds nothing that it objects to.
    fn lint(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let count = |weight| self.report.of(weight).count();
        let heavy = count(Weight::Contradiction) + count(Weight::Hazard);
        let open = count(Weight::Unknown);
        match heavy {
            0 => writeln!(
                out,
                "\nlint finds no contradiction and no hazard; {open} of its questions are open until more is stated or measured"
            ),
            _ => writeln!(out, "\nlint objects to {heavy} of its statements"),
        }
    }

    fn next(&self, out: &mut Vec<u8>) -> io::Result<()> {
        writeln!(out, "\nnext")?;
        for (command, why) in self.steps() {
            writeln!(out, "  {command:<40} {why}")?;
        }
        Ok(())
    }

    /// What to run next, and why.
    fn steps(&self) -> Vec<(String, &'static str)> {
        let mut steps = Vec::new();
        if self.dir != Path::new(".") {
            steps.push((
                format!("cd {}", word(&self.dir.to_string_lossy())),
                "paths in the plan are meant from there",
            ));
        }
        let named = self.file.filter(|file| *file != self.dir.join(FILE_NAME)).map(PathBuf::from);
        let plan = named.map_or(String::new(), |file| {
            let file = std::path::absolute(&file).unwrap_or(file);
            format!(" --plan {}", word(&file.to_string_lossy()))
        });
        steps.push((format!("lifeboat lint{plan}"), "what the plan promises, and what cannot be known yet"));
        let target = self.rehearsed().map_or(String::new(), |dataset| format!(" {}", word(&dataset.store)));
        steps
            .push((format!("lifeboat rehearse{target}"), "protect, restore and prove, without a repository"));
        if self.protected().next().is_some() {
            steps.push((
                format!("lifeboat repo init{plan}"),
                "make the repository; LIFEBOAT_PASSPHRASE opens it",
            ));
            steps.push((format!("lifeboat backup{plan}"), "the first snapshots"));
        }
        steps
    }

    fn protected(&self) -> impl Iterator<Item = &FoundDataset> {
        self.found.datasets.iter().filter(|dataset| dataset.engine.has_driver())
    }

    /// The dataset that a rehearsal needs nothing else for: a path.
    fn rehearsed(&self) -> Option<&FoundDataset> {
        let is_local = |dataset: &&FoundDataset| matches!(dataset.engine, Engine::Sqlite | Engine::Files);
        self.protected().find(is_local)
    }

    fn json(&self) -> Value {
        let seen =
            |seen: &[lifeboat_discover::Sight]| seen.iter().map(ToString::to_string).collect::<Vec<_>>();
        let datasets = self.found.datasets.iter().map(|dataset| {
            json!({
                "name": dataset.name, "store": dataset.store, "engine": dataset.engine.word(),
                "in_plan": dataset.engine.has_driver(), "names": dataset.names, "exclude": dataset.exclude,
                "remarks": dataset.remarks, "seen": seen(&dataset.seen),
            })
        });
        let services = self.found.services.iter().map(|service| {
            json!({
                "name": service.name, "needs": service.needs, "needs_unprotected": service.needs_unprotected,
                "probe": service.probe.as_ref().map(|probe| &probe.url), "ports": service.ports,
                "remarks": service.remarks, "seen": seen(&service.seen),
            })
        });
        let undone = self
            .found
            .undone
            .iter()
            .map(|undone| json!({ "what": undone.what, "why": undone.why, "seen": seen(&undone.seen) }));
        let passed_over = self
            .found
            .passed_over
            .iter()
            .map(|passed| json!({ "path": passed.path, "why": passed.why, "missed": passed.is_missed }));
        let count = |weight| self.report.of(weight).count();
        json!({
            "file": self.file.map(|file| file.display().to_string()),
            "plan": self.text,
            "datasets": datasets.collect::<Vec<_>>(),
            "services": services.collect::<Vec<_>>(),
            "not_in_plan": undone.collect::<Vec<_>>(),
            "not_looked_at": passed_over.collect::<Vec<_>>(),
            "lint": {
                "contradictions": count(Weight::Contradiction),
                "hazards": count(Weight::Hazard),
                "unknown": count(Weight::Unknown),
            },
            "next": self.steps().iter().map(|(command, _)| command).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_word_to_a_shell() {
        assert_eq!(word("./a/b.db"), "./a/b.db");
        assert_eq!(word("./it's; rm -r $HOME"), r"'./it'\''s; rm -r $HOME'");
        assert_eq!(word("-x"), "'-x'");
        assert!(!word("a\n\u{1b}[31m").contains(['\n', '\u{1b}']));
    }
}
