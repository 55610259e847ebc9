//! The receipts that commands leave: noted as things happen, recorded when the command has ended, whatever came of it.
//!
//! A command that notes nothing leaves the plainest receipt: that it was done, or why not. It knows no rule of
//! evidence: `lifeboat-receipts` keeps them, and where it cannot, that is said and nothing else fails.

use crate::args::{Command, HoldCommand, KeyCommand, RepoCommand, RunbookCommand, WritersCommand};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use lifeboat_base::{Hint, hex, report};
use lifeboat_evidence::{Action, Digest, Event, Fact, PlanVersion};
use lifeboat_receipts::{Begun, Ended, Recorder};
use lifeboat_recovery::import::Imported;
use lifeboat_recovery::protect::ProtectReport;
use lifeboat_recovery::prove::{Proof, Verdict};
use lifeboat_repository::{CheckReport, CopyReport, Problem, PruneReport, Published, Repository};
use lifeboat_store::Problems;
use std::sync::Arc;

/// What a command has noted so far.
#[derive(Default)]
pub(crate) struct Noted {
    /// The repository, once it is open.
    pub(crate) repository: Option<Arc<Repository>>,
    pub(crate) events: Vec<Event>,
}

/// What a command leaves a receipt of, if it leaves one.
pub(crate) fn action_of(command: &Command) -> Option<Action> {
    Some(match command {
        Command::Backup(_) => Action::Backup,
        Command::Prove(_) => Action::Proof,
        Command::Restore(_) => Action::Restore,
        Command::Export(_) => Action::Export,
        Command::Import(_) => Action::Import,
        Command::Copy(_) => Action::Copy,
        Command::Prune(args) if !args.dry_run => Action::Prune,
        Command::Check(_) => Action::Check,
        Command::Forget(_) => Action::Forget,
        Command::Hold(HoldCommand::Add { .. } | HoldCommand::Release { .. }) => Action::Hold,
        Command::Dump(_) => Action::KeyUse,
        Command::Key(KeyCommand::Add { .. } | KeyCommand::Rotate { .. } | KeyCommand::Retire { .. })
        | Command::Repo(RepoCommand::Init { .. }) => Action::KeyChange,
        Command::Repo(RepoCommand::Writers(WritersCommand::Enrol { .. } | WritersCommand::Revoke { .. })) => {
            Action::WriterChange
        }
        Command::Runbook(RunbookCommand::Run(args)) if !args.dry_run => Action::Run,
        Command::Runbook(RunbookCommand::Resume(_)) => Action::Run,
        _ => return None,
    })
}

/// Carries a command out and records what came of it.
pub(crate) fn recorded(
    context: &Context,
    action: Option<Action>,
    carry_out: impl FnOnce() -> Result<Outcome, Failure>,
) -> Result<Outcome, Failure> {
    let recorder = action.and_then(|action| Some((action, context.recorder()?)));
    let Some((action, recorder)) = recorder else { return carry_out() };
    let begun = recorder.begin(action.clone(), None);
    let ended = carry_out();
    let noted = context.take_noted();
    let mut events = noted.events;
    events.extend(plainest(action, &ended, events.is_empty()));
    let common = |event| with_common(context, noted.repository.as_deref(), event);
    let events = events.into_iter().map(common).collect();
    say(context, &recorder.end(begun, events, noted.repository.as_ref()));
    ended
}

/// Something that has begun in the midst of a command that goes on.
pub(crate) struct Pending {
    recorder: Recorder,
    begun: Begun,
}

/// Notes that something begins whose receipt does not wait for the command's end.
pub(crate) fn begin(context: &Context, action: Action, dataset: &str) -> Option<Pending> {
    let recorder = context.recorder()?;
    let begun = recorder.begin(action, Some(dataset));
    Some(Pending { recorder, begun })
}

/// Records what came of it. May take as long as the repository does.
pub(crate) fn end(context: &Context, pending: Pending, event: Event, repository: &Arc<Repository>) {
    let event = with_common(context, Some(&**repository), event);
    say(context, &pending.recorder.end(pending.begun, vec![event], Some(repository)));
}

/// What is said of the command as a whole. What was asked for wrongly was not begun.
fn plainest(action: Action, ended: &Result<Outcome, Failure>, alone: bool) -> Option<Event> {
    match ended {
        // A check that found nothing changed nothing.
        Ok(Outcome::Done) if action == Action::Check => None,
        Ok(outcome) if alone => Some(Event::new(action, of_outcome(*outcome)?)),
        Err(failure) if failure.code != 2 => {
            Some(Event::new(action, lifeboat_evidence::Outcome::Failed).because(&failure.message))
        }
        _ => None,
    }
}

fn of_outcome(outcome: Outcome) -> Option<lifeboat_evidence::Outcome> {
    Some(match outcome {
        Outcome::Done => lifeboat_evidence::Outcome::Done,
        Outcome::Failed => lifeboat_evidence::Outcome::Failed,
        Outcome::Inconclusive => lifeboat_evidence::Outcome::Inconclusive,
        Outcome::LeftOut => lifeboat_evidence::Outcome::LeftOut,
        Outcome::Refused | Outcome::Missed => return None,
    })
}

fn with_common(context: &Context, repository: Option<&Repository>, mut event: Event) -> Event {
    if !context.plan_text.is_empty() {
        let hash = Digest::of(context.plan_text.as_bytes());
        event.plan.get_or_insert(PlanVersion { version: None, hash });
    }
    match repository.and_then(Repository::opened_slot) {
        Some(slot) => event.key(format!("slot:{slot}")),
        None => event,
    }
}

fn say(context: &Context, ended: &Ended) {
    let Some(trouble) = &ended.trouble else { return };
    let text = report(trouble);
    let (what, then) = match (ended.lost, ended.waiting) {
        (0, 0) => (
            "is written, and nothing can be kept on this host",
            "should the repository be away, it would be lost",
        ),
        (0, _) => ("waits on this host", "it goes with the next one"),
        _ => ("is lost", "what was done stays done"),
    };
    context.output.note(&format!("the receipt of this {what}: {text}; {then}"));
    if let Some(hint) = trouble.hint() {
        context.output.note(&format!("  {hint}"));
    }
}

/// Lets receipts go that are older than their retention. Prune does not fail for it.
pub(crate) fn expire(context: &Context, repository: &Arc<Repository>) {
    let Some(recorder) = context.recorder() else { return };
    match recorder.expire(repository, lifeboat_evidence::DEFAULT_RETENTION_DAYS) {
        Ok(0) => {}
        Ok(gone) => context.output.note(&format!("{gone} receipts have expired and are gone")),
        Err(error) => context.output.warn(&format!("no receipt expires: {}", report(&error))),
    }
}

/// A dataset of several that failed.
pub(crate) fn failed(action: Action, dataset: &str, failure: &Failure) -> Event {
    Event::new(action, lifeboat_evidence::Outcome::Failed).dataset(dataset).because(&failure.message)
}

fn because(event: Event, problems: &Problems) -> Event {
    problems.first.iter().fold(event, |event, problem| event.because(&report(problem)))
}

fn about(event: Event, published: &Published) -> Event {
    let snapshot = &published.snapshot;
    event
        .dataset(snapshot.position.dataset.as_str())
        .snapshot(published.id)
        .fact("taken", snapshot.taken.to_string())
        .fact("store", snapshot.store.as_str())
}

/// A snapshot that was taken, or taken in.
pub(crate) fn protected(action: Action, protected: &ProtectReport) -> Event {
    let whole = protected.left_out.is_empty() && protected.torn.is_empty();
    let outcome = if whole { lifeboat_evidence::Outcome::Done } else { lifeboat_evidence::Outcome::LeftOut };
    let stats = &protected.published.snapshot.stats;
    let event = about(Event::new(action, outcome), &protected.published)
        .fact("files", stats.files)
        .fact("content_bytes", stats.content_bytes)
        .fact("new_bytes", stats.new_bytes)
        .fact("stored_bytes", stats.stored_bytes)
        .fact("left_out", protected.left_out.count)
        .fact("changed_while_read", protected.torn.count)
        .took("all", protected.took);
    because(because(event, &protected.left_out), &protected.torn)
}

/// A dump of another tool that was taken in.
pub(crate) fn imported(imported: &Imported) -> Event {
    protected(Action::Import, &imported.report).fact("path", imported.path.display().to_string())
}

/// A snapshot that was restored into scratch and questioned.
pub(crate) fn proven(published: &Published, proof: &Proof) -> Event {
    let outcome = match proof.verdict {
        Verdict::Proven => lifeboat_evidence::Outcome::Done,
        Verdict::Failed => lifeboat_evidence::Outcome::Failed,
        Verdict::Inconclusive => lifeboat_evidence::Outcome::Inconclusive,
    };
    let mut event = about(Event::new(Action::Proof, outcome), published)
        .fact("files", proof.files)
        .fact("bytes", proof.bytes)
        .took("resolve", proof.resolving)
        .took("restore", proof.restoring)
        .took("question", proof.questioning);
    event = proof.reasons.iter().fold(event, |event, reason| event.because(reason));
    for query in &proof.queries {
        event = event.fact(&format!("query:{}", query.name), query.answer.as_deref().unwrap_or("no answer"));
    }
    for table in proof.questions.iter().flat_map(|questions| &questions.tables) {
        event = event.checksum(&format!("table:{}", table.name), hex::encode(&table.checksum));
    }
    if let Some(cluster) = &proof.cluster {
        let rows: u64 = cluster.answers.tables.iter().map(|table| table.rows).sum();
        event = event
            .point(format!("lsn:{} on timeline {}", cluster.stop, cluster.timeline))
            .fact("rows", rows)
            .fact("wal_bytes", cluster.wal_bytes)
            .took("replay", cluster.replaying);
    }
    event
}

/// A snapshot that was put back, or written in another form.
pub(crate) fn brought_back(
    action: Action,
    outcome: Outcome,
    published: &Published,
    left_out: &Problems,
) -> Event {
    let outcome = of_outcome(outcome).unwrap_or(lifeboat_evidence::Outcome::Failed);
    because(about(Event::new(action, outcome), published), left_out)
}

/// Snapshots that were copied.
pub(crate) fn copied(to: &str, copied: &CopyReport, outcome: Outcome) -> Event {
    let outcome = of_outcome(outcome).unwrap_or(lifeboat_evidence::Outcome::Failed);
    let event = Event::new(Action::Copy, outcome)
        .fact("to", to)
        .fact("snapshots", ids(copied.copied.iter()))
        .fact("already", copied.already)
        .fact("stored_bytes", copied.stored_bytes)
        .fact("logs", copied.logs)
        .fact("receipts", copied.receipts);
    let left_out = copied.left_out.iter().chain(&copied.receipts_left_out);
    left_out.fold(event, |event, left_out| event.because(left_out))
}

/// Space that was given back.
pub(crate) fn pruned(pruned: &PruneReport, forgotten: &[Published], outcome: Outcome) -> Event {
    let outcome = of_outcome(outcome).unwrap_or(lifeboat_evidence::Outcome::Failed);
    let event = Event::new(Action::Prune, outcome)
        .fact("forgotten", ids(forgotten.iter().map(|published| published.id)))
        .fact("deleted_bytes", pruned.deleted_bytes)
        .fact("deleted_packs", pruned.deleted_packs)
        .fact("deleted_logs", pruned.deleted_logs)
        .fact("live_bytes", pruned.live_bytes);
    pruned
        .waiting_for
        .iter()
        .fold(event, |event, waiting| event.because(&format!("still waiting for {waiting}")))
}

/// Damage that was found.
pub(crate) fn checked(report: &CheckReport) -> Event {
    let event = Event::new(Action::Check, lifeboat_evidence::Outcome::Failed)
        .fact("snapshots", report.snapshots)
        .fact("packs", report.packs)
        .fact("logs", report.logs)
        .fact("read_bytes", report.read_bytes)
        .fact("problems", report.problems.len() as u64)
        .fact("lost", (report.lost.len() + report.lost_logs.len()) as u64);
    let said =
        |event: Event, problem: &Problem| event.because(&format!("{}: {}", problem.object, problem.what));
    report.problems.iter().fold(event, said)
}

/// Something that was done to named snapshots.
pub(crate) fn done_to(action: Action, published: &Published, what: &str, reason: &str) -> Event {
    let event = about(Event::new(action, lifeboat_evidence::Outcome::Done), published).fact("what", what);
    if reason.is_empty() { event } else { event.fact("reason", reason) }
}

/// A change of who may open or write.
pub(crate) fn changed(action: Action, what: &str, id: impl ToString) -> Event {
    Event::new(action, lifeboat_evidence::Outcome::Done).fact("what", what).fact("id", id.to_string())
}

fn ids(ids: impl Iterator<Item = impl ToString>) -> Fact {
    ids.map(|id| id.to_string()).collect()
}
