//! Runs the searches: `--quick` those of the tests, `--full` the large ones, `--broken` the rules broken on
//! purpose. `--only TEXT` picks by name, `--most-states N` stops a search early, and says so.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use lifeboat_protocol_model::configurations::{FULL, MUTATIONS, QUICK, breaking};
use lifeboat_protocol_model::{Config, Ending, Tally, exhaust, shortest};

const USAGE: &str = "usage: lifeboat-protocol-model --quick|--full|--broken [--only TEXT] [--most-states N]";

/// What the command line asks for.
struct Request {
    work: Work,
    only: String,
    most_states: u64,
}

impl Request {
    /// The searches that are asked for by name; for broken rules the configurations that show them.
    fn picked(&self) -> impl Iterator<Item = Config> {
        let all = match self.work {
            Work::Quick => QUICK.to_vec(),
            Work::Full => FULL.to_vec(),
            Work::Broken => MUTATIONS.map(breaking).to_vec(),
        };
        all.into_iter().filter(|config| config.name.contains(&self.only))
    }
}

#[derive(Clone, Copy)]
enum Work {
    Quick,
    Full,
    Broken,
}

fn main() -> ExitCode {
    let Some(request) = parse(std::env::args().skip(1)) else {
        return fail(USAGE);
    };
    if request.picked().next().is_none() {
        return fail(&format!("no search has {:?} in its name", request.only));
    }
    match run(&request, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error.to_string()),
    }
}

/// Says `message` on stderr, which may itself be closed.
fn fail(message: &str) -> ExitCode {
    match writeln!(io::stderr(), "{message}") {
        Ok(()) => ExitCode::from(2),
        Err(_) => ExitCode::FAILURE,
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Request> {
    let mut work = None;
    let mut only = String::new();
    let mut most_states = u64::MAX;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => work = Some(Work::Quick),
            "--full" => work = Some(Work::Full),
            "--broken" => work = Some(Work::Broken),
            "--only" => only = words.next()?,
            "--most-states" => most_states = words.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some(Request { work: work?, only, most_states })
}

/// Whether everything that was asked for came out as it must.
fn run(request: &Request, out: &mut impl Write) -> io::Result<bool> {
    match request.work {
        Work::Quick | Work::Full => hold(request, out),
        Work::Broken => break_all(request, out),
    }
}

fn hold(request: &Request, out: &mut impl Write) -> io::Result<bool> {
    let mut all_complete = true;
    let mut sum = 0;
    for config in request.picked() {
        let start = Instant::now();
        let (ending, tally) = exhaust(&config, request.most_states, |tally| progress(&config, tally));
        let outcome = match &ending {
            Ending::Complete => "no violation".to_owned(),
            Ending::Limit => "stopped at the limit, the rest unknown".to_owned(),
            Ending::Broken(counterexample) => format!("VIOLATION\n{counterexample}"),
        };
        writeln!(
            out,
            "{}: {}, {:.0} s: {outcome}",
            config.name,
            Words(tally),
            start.elapsed().as_secs_f64()
        )?;
        all_complete &= ending == Ending::Complete;
        sum += tally.states;
    }
    writeln!(out, "{sum} states in all")?;
    Ok(all_complete)
}

fn break_all(request: &Request, out: &mut impl Write) -> io::Result<bool> {
    let mut all_found = true;
    for config in request.picked() {
        let name = config.name;
        let most = usize::try_from(request.most_states).unwrap_or(usize::MAX);
        match shortest(&config, most) {
            (Ending::Broken(found), tally) => writeln!(out, "{name}: {}\n{found}\n", Words(tally))?,
            (_, tally) => {
                writeln!(out, "{name}: not found in {}", Words(tally))?;
                all_found = false;
            }
        }
    }
    Ok(all_found)
}

/// Rewrites one line on stderr; that it cannot be written must not stop a search.
fn progress(config: &Config, tally: &Tally) {
    let _ = write!(io::stderr(), "\r{}: {}   ", config.name, Words(*tally));
}

/// A tally for people.
struct Words(Tally);

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tally { states, steps, depth, bytes } = self.0;
        write!(f, "{states} states, {steps} steps, depth {depth}, {} MiB", bytes >> 20)
    }
}
