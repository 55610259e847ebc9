//! Driving a run: what happens is shown, what people type is passed on.

use super::of_run;
use super::page::Room;
use super::screen::{About, ending, news, screen};
use crate::args::Drive;
use crate::commands::follow::stop_on_signals;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::write_stdout;
use lifeboat_evidence::{Action, Event as Evidence};
use lifeboat_run::event::Ending;
use lifeboat_run::{
    Asker, Executor, Record, Request, Rest, RunError, RunId, RunState, Said, Standing, Until,
};
use lifeboat_runbook::Runbook;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// So many of the newest things that happened are on the screen.
const NEWS: usize = 8;
/// It is looked so often whether somebody wants it to end.
const LOOK: Duration = Duration::from_millis(100);
/// Why a run is paused whose process was told to end: whoever resumes it lets it go on.
pub(super) const TOLD_TO_END: &str = "its process was told to end";
/// Clears a terminal and goes to its beginning (ECMA-48: ED 2, CUP).
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";
/// Saves where the cursor is and goes to the beginning; goes back there (DEC: DECSC, CUP, DECRC).
const IN_PLACE: (&str, &str) = ("\u{1b}7\u{1b}[H", "\u{1b}8");
/// Clears to the end of the line (ECMA-48: EL).
const REST_OF_LINE: &str = "\u{1b}[K";
const HELP: &str = "type done|failed|again|skip STEP WHY, pause|abort WHY, continue; help says more";
const WHOLE_HELP: &str = "done STEP [NOTE] · failed STEP WHY · skip STEP WHY · again STEP WHY\n\
                          happened STEP WHY · not-happened STEP WHY · pause WHY · continue\n\
                          without-mirror WHY · abort WHY\n\
                          to agree: lifeboat runbook approve, in another terminal";

/// What a run shows of itself as it goes on.
struct Shown<'a> {
    context: &'a Context,
    runbook: &'a Runbook,
    run: RunId,
    is_screen: bool,
    news: VecDeque<String>,
    /// What is wrong with what was typed last.
    notice: Arc<Mutex<String>>,
    /// What is on the screen.
    drawn: String,
}

/// Drives a run until it is over, or as long as is asked for. What happened in it before stands on the screen as well.
pub(super) fn drive(
    context: &Context,
    mut executor: Executor,
    runbook: &Runbook,
    args: &Drive,
    past: &[Record],
) -> Result<Outcome, Failure> {
    let run = executor.state().begun.as_ref().map(|begun| begun.run.clone());
    let run = run.ok_or_else(|| Failure::failed("the run has no beginning".to_owned()))?;
    let is_screen = io::stdout().is_terminal() && !context.output.json;
    let (mut past, notice) =
        (past.iter().filter_map(news).collect::<Vec<_>>(), Arc::<Mutex<String>>::default());
    let news = VecDeque::from(past.split_off(past.len().saturating_sub(NEWS)));
    let mut shown =
        Shown { context, runbook, run, is_screen, news, notice: notice.clone(), drawn: String::new() };
    let who = super::person(args.by.as_deref())?;
    if is_screen && io::stdin().is_terminal() {
        listen(executor.asker(), who.clone(), notice);
    } else {
        context.output.note(&format!("run {}", shown.run));
    }
    let stop = stop_on_signals()?;
    pause_when_told(executor.asker(), stop.clone(), who);
    let rest = go_on(&mut executor, &mut shown, args, &stop).map_err(|error| of_run(&error));
    if executor.is_mirror_silent() {
        context.repository_is_silent();
    }
    let standing = executor.standing();
    note(context, &shown.run, runbook, &standing, &rest);
    shown.last(&standing)?;
    Ok(match rest? {
        Rest::Ended(Ending::Done) => Outcome::Done,
        Rest::Ended(_) => Outcome::Failed,
        Rest::Waiting => {
            context.output.hint(&format!("`lifeboat runbook resume {}` goes on with it.", shown.run));
            Outcome::Inconclusive
        }
    })
}

fn go_on(
    executor: &mut Executor,
    shown: &mut Shown<'_>,
    args: &Drive,
    stop: &AtomicBool,
) -> Result<Rest, RunError> {
    loop {
        let mut observer = |record: &Record, state: &RunState| shown.saw(record, state);
        let rest = executor.drive(Until::PeopleAreNeeded, &mut observer)?;
        if matches!(rest, Rest::Ended(_)) || args.no_wait || stop.load(Ordering::Relaxed) {
            let told = executor.finish_telling(&mut observer);
            if let (Rest::Ended(_), Err(error)) = (&rest, &told) {
                // The run is over all the same, and says how.
                let what =
                    format!("what became of messages is not recorded: {}", lifeboat_base::report(error));
                shown.context.output.note(&what);
                return Ok(rest);
            }
            return told.map(|()| rest);
        }
        shown.show(&executor.standing());
        std::thread::sleep(LOOK);
    }
}

/// No step is begun once this process is told to end; what runs goes on to its end.
fn pause_when_told(asker: Asker, stop: Arc<AtomicBool>, by: String) {
    std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
        }
        asker.ask(Request::Pause { by, reason: TOLD_TO_END.to_owned() });
    });
}

impl Shown<'_> {
    fn saw(&mut self, record: &Record, state: &RunState) {
        if self.context.output.json {
            let line = json!({ "run": self.run, "record": record });
            let _ = write_stdout(format!("{line}\n").as_bytes());
        }
        let Some(line) = news(record) else { return };
        if !self.context.output.json && !self.is_screen {
            let _ = write_stdout(format!("{line}\n").as_bytes());
        }
        self.news.push_back(line);
        while self.news.len() > NEWS {
            self.news.pop_front();
        }
        if self.is_screen {
            let now = lifeboat_base::clock::Clock::System.now();
            self.show(&Standing::of(state, self.runbook, now));
        }
    }

    fn text(&mut self, standing: &Standing, room: Room) -> String {
        let news = self.news.make_contiguous();
        screen(&About { run: &self.run, title: &self.runbook.title, news }, standing, room)
    }

    /// Draws what has changed. What is being typed below stays where it is, unless the screen has other lines now.
    fn show(&mut self, standing: &Standing) {
        if !self.is_screen {
            return;
        }
        let notice = self.notice.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let below = format!("\n{HELP}\n{notice}");
        // And the row that is typed in, and one to which typing goes on.
        let room = Room::on_terminal(below.lines().count() + 2);
        let text = self.text(standing, room) + &below;
        if text == self.drawn {
            return;
        }
        let has_same_lines = text.lines().count() == self.drawn.lines().count();
        let drawing = if has_same_lines && !self.drawn.is_empty() {
            let lines: String = text.lines().map(|line| format!("{line}{REST_OF_LINE}\n")).collect();
            format!("{}{lines}{}", IN_PLACE.0, IN_PLACE.1)
        } else {
            format!("{CLEAR}{text}\n> ")
        };
        let _ = write_stdout(drawing.as_bytes());
        self.drawn = text;
    }

    /// Where it is in the end.
    fn last(&mut self, standing: &Standing) -> Result<(), Failure> {
        if self.context.output.json {
            let line = json!({ "run": self.run, "standing": standing });
            return write_stdout(format!("{line}\n").as_bytes());
        }
        if self.is_screen {
            let text = self.text(standing, Room::without_end());
            return write_stdout(format!("{CLEAR}{text}").as_bytes());
        }
        self.news.clear();
        let text = self.text(standing, Room::without_end());
        write_stdout(format!("\n{text}").as_bytes())
    }
}

/// Passes on what is typed. It waits for input, which nothing can end: so it is never waited for.
fn listen(asker: Asker, who: String, notice: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let said = match request(&line, &who) {
                _ if line.trim() == "help" => WHOLE_HELP.to_owned(),
                Ok(Some(request)) => {
                    asker.ask(request);
                    String::new()
                }
                Ok(None) => String::new(),
                Err(why) => format!("{:.70}: {why}", line.trim()),
            };
            // Another line, so that the screen is drawn anew below what was typed.
            let mut notice = notice.lock().unwrap_or_else(PoisonError::into_inner);
            *notice = if notice.ends_with('\n') { said } else { said + "\n" };
        }
    });
}

/// What a line means.
pub(super) fn request(line: &str, who: &str) -> Result<Option<Request>, String> {
    let by = who.to_owned();
    let (verb, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let rest = rest.trim();
    let reason = |text: &str| {
        if text.is_empty() { Err("say why as well".to_owned()) } else { Ok(text.to_owned()) }
    };
    let about = || {
        let (step, why) = rest.split_once(' ').unwrap_or((rest, ""));
        let step = step.parse().map_err(|_| format!("{step:?} is no name of a step"))?;
        Ok::<_, String>((step, why.trim().to_owned()))
    };
    let said = || {
        let (step, why) = about()?;
        Ok::<_, String>(Said { step, by: by.clone(), reason: reason(&why)? })
    };
    let settled = |done| {
        let Said { step, by, reason } = said()?;
        Ok::<_, String>(Request::Settle { step, done, by, reason, outputs: BTreeMap::new() })
    };
    Ok(Some(match verb {
        "" => return Ok(None),
        "done" => {
            let (step, note) = about()?;
            Request::Confirm { step, by, done: true, note: Some(note).filter(|note| !note.is_empty()) }
        }
        "failed" => {
            let Said { step, by, reason } = said()?;
            Request::Confirm { step, by, done: false, note: Some(reason) }
        }
        "skip" => Request::Skip(said()?),
        "again" => Request::Again(said()?),
        "happened" => settled(true)?,
        "not-happened" => settled(false)?,
        "pause" => Request::Pause { by, reason: reason(rest)? },
        "continue" => Request::Resume { by },
        "without-mirror" => Request::LeaveMirror { by, reason: reason(rest)? },
        "abort" => Request::Abort { by, reason: reason(rest)?, undo: true },
        other => return Err(format!("{other:?} means nothing here")),
    }))
}

/// The receipt of a run, or of the part of it that this process carried out.
fn note(
    context: &Context,
    run: &RunId,
    runbook: &Runbook,
    standing: &Standing,
    rest: &Result<Rest, Failure>,
) {
    use lifeboat_evidence::Outcome::{Done, Failed, Inconclusive};
    let (outcome, why) = match rest {
        Ok(Rest::Ended(Ending::Done)) => (Done, None),
        Ok(Rest::Ended(how)) => (Failed, Some(ending(*how).to_owned())),
        Ok(Rest::Waiting) => (Inconclusive, Some("people are needed".to_owned())),
        Err(failure) => (Failed, Some(failure.message.clone())),
    };
    let mut event = Evidence::new(Action::Run, outcome)
        .fact("run", run.as_str())
        .fact("runbook", runbook.title.as_str())
        .fact("document", lifeboat_base::hex::encode(&runbook.document))
        .fact("steps", standing.steps as u64)
        .fact("over", standing.over as u64)
        .took("recovery", standing.elapsed);
    if let Some(why) = why {
        event = event.because(&why);
    }
    context.did(event);
}
