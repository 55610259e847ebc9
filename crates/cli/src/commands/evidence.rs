//! `lifeboat evidence`: the receipts, listed, verified and exported.

use crate::args::{EvidenceCommand, EvidenceFormat, EvidenceListArgs};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::time::instant;
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_base::crashsafe;
use lifeboat_evidence::{
    Action, Bundle, Excerpt, KeyRing, Report, SignedReceipt, Verdict, audit, html, verify,
};
use lifeboat_receipts::{RepositoryChains, key_ring};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

pub(crate) fn run(context: &Context, command: &EvidenceCommand) -> Result<Outcome, Failure> {
    match command {
        EvidenceCommand::List(args) => list(context, args),
        EvidenceCommand::Verify { file: Some(file), keys } => verify_file(context, file, keys.as_deref()),
        EvidenceCommand::Verify { file: None, keys } => verify_repository(context, keys.as_deref()),
        EvidenceCommand::Export { format, out, from, to } => {
            let instant_of = |text: &Option<String>| text.as_deref().map(|t| time(context, t)).transpose();
            export(context, *format, out, instant_of(from)?, instant_of(to)?)
        }
    }
}

fn time(context: &Context, text: &str) -> Result<Timestamp, Failure> {
    instant(text, context.output)?.ok_or_else(|| {
        Failure::usage(format!("{text} is no time"), "Write RFC 3339, such as 2026-11-22T03:00:00Z.")
    })
}

/// Everything that the repository holds, with what this machine remembers of its own chain.
fn collect(context: &Context) -> Result<(Bundle, Vec<lifeboat_evidence::Head>), Failure> {
    let repository = context.open()?;
    let remembered = context.recorder().and_then(|recorder| recorder.remembered(&repository));
    let chains = RepositoryChains::new(&repository);
    let id = lifeboat_evidence::RepositoryId(repository.id().0);
    let bundle = Bundle::collect(&chains, id, key_ring(&repository))?;
    Ok((bundle, remembered.into_iter().collect()))
}

fn list(context: &Context, args: &EvidenceListArgs) -> Result<Outcome, Failure> {
    let kind = args.kind.as_deref().map(kind).transpose()?;
    let since = args.since.as_deref().map(|text| time(context, text)).transpose()?;
    let (bundle, _) = collect(context)?;
    let mut receipts: Vec<&SignedReceipt> = bundle
        .receipts()
        .filter(|signed| {
            let draft = &signed.receipt().draft;
            since.is_none_or(|since| draft.at >= since)
                && kind.as_ref().is_none_or(|kind| draft.event.action == *kind)
                && (args.dataset.is_none() || draft.event.subject.dataset == args.dataset)
        })
        .collect();
    receipts.sort_by_key(|signed| signed.receipt().draft.at);
    let first = receipts.len().saturating_sub(args.limit);
    let shown = &receipts[first..];
    context.output.result(
        || json!({ "receipts": shown.iter().map(|s| s.to_value()).collect::<Vec<_>>(), "more": first }),
        |text| {
            if first > 0 {
                writeln!(text, "{first} older receipts are not shown; --limit shows more")?;
            }
            shown.iter().try_for_each(|signed| line(signed, text))
        },
    )?;
    Ok(Outcome::Done)
}

fn kind(word: &str) -> Result<Action, Failure> {
    match Action::from_word(word) {
        Action::Other(_) => {
            let words: Vec<_> = Action::words().collect();
            Err(Failure::usage(
                format!("{word} is no kind of receipt"),
                format!("It is one of {}.", words.join(", ")),
            ))
        }
        known => Ok(known),
    }
}

fn line(signed: &SignedReceipt, text: &mut Vec<u8>) -> std::io::Result<()> {
    let receipt = signed.receipt();
    let (draft, event) = (&receipt.draft, &receipt.draft.event);
    let writer = receipt.chain.writer.to_string();
    let subject = event.subject.dataset.as_deref().unwrap_or("-");
    let snapshot = event.subject.snapshot.as_deref().map_or("", |id| id.get(..8).unwrap_or(id));
    writeln!(
        text,
        "{}  {:<13} {:<12} {subject} {snapshot}  {} on {}  {}/{}",
        draft.at,
        event.action.word(),
        event.outcome.word(),
        draft.who.word(),
        draft.host,
        &writer[..8],
        receipt.number
    )?;
    event.reasons.iter().try_for_each(|reason| writeln!(text, "    {reason}"))
}

fn verify_repository(context: &Context, keys: Option<&Path>) -> Result<Outcome, Failure> {
    let (bundle, remembered) = collect(context)?;
    let keys = keys.map(read_keys).transpose()?.unwrap_or_else(|| bundle.keys.clone());
    say(context, &verify(&bundle, &keys, &remembered))
}

fn verify_file(context: &Context, file: &Path, keys: Option<&Path>) -> Result<Outcome, Failure> {
    let bundle = Bundle::parse(&read(file)?)?;
    let keys = match keys {
        Some(keys) => read_keys(keys)?,
        None => {
            context.output.warn("the public keys are those of the export itself: whoever could forge it could have put his own there; --keys gives those that you trust");
            bundle.keys.clone()
        }
    };
    say(context, &verify(&bundle, &keys, &[]))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| {
        Failure::usage(format!("read {}: {error}", file.display()), "Check the path and its permissions.")
    })
}

fn read_keys(file: &Path) -> Result<KeyRing, Failure> {
    Ok(KeyRing::parse(&read(file)?)?)
}

fn say(context: &Context, report: &Report) -> Result<Outcome, Failure> {
    context.output.result(|| report.to_value(), |text| to_text(report, text))?;
    Ok(match report.verdict() {
        Verdict::Sound => Outcome::Done,
        Verdict::Flawed => Outcome::Failed,
        Verdict::Inconclusive => Outcome::Inconclusive,
    })
}

fn to_text(report: &Report, text: &mut Vec<u8>) -> std::io::Result<()> {
    for finding in &report.findings {
        let (writer, number, flaw) = (finding.chain.writer, finding.number, &finding.flaw);
        writeln!(text, "{}: writer {writer}, receipt {number}: {flaw}", flaw.word())?;
    }
    for doubt in &report.doubts {
        writeln!(text, "unknown: writer {}, receipt {}: {}", doubt.chain.writer, doubt.number, doubt.kind)?;
    }
    for chain in &report.chains {
        let name = chain.name.as_deref().unwrap_or("unknown");
        writeln!(
            text,
            "writer {} ({name}): {} receipts count; {}",
            chain.chain.writer,
            chain.receipts,
            chain.tail()
        )?;
        if let Some(through) = chain.expired_through {
            writeln!(text, "  receipts up to {through} have expired and may be gone")?;
        }
    }
    if report.excerpt.is_some() {
        writeln!(text, "this is an excerpt: what is before and after it was not verified")?;
    }
    let (verdict, receipts) = (report.verdict().word(), report.receipts());
    let chains = report.chains.len();
    writeln!(text, "{receipts} receipts in {chains} chain{}: {verdict}", if chains == 1 { "" } else { "s" })
}

fn export(
    context: &Context,
    format: EvidenceFormat,
    out: &Path,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Outcome, Failure> {
    let (mut bundle, remembered) = collect(context)?;
    let whole = verify(&bundle, &bundle.keys, &remembered);
    let mut shown = whole.clone();
    if from.is_some() || to.is_some() {
        bundle = bundle.excerpt(Excerpt { from, to });
        // What was found in the whole is said of an excerpt as well.
        shown.excerpt = bundle.excerpt;
    }
    let exported = Clock::System.now();
    let bytes = match format {
        EvidenceFormat::Html => html::page(&bundle, &shown, exported).into_bytes(),
        EvidenceFormat::Json => document(&bundle, &shown, exported)?,
    };
    write_new(out, &bytes)?;
    let receipts = bundle.receipts().count();
    let verdict = whole.verdict().word();
    context.output.result(
        || json!({ "out": out.display().to_string(), "receipts": receipts, "verdict": verdict }),
        |text| writeln!(text, "{receipts} receipts exported to {}; verified: {verdict}", out.display()),
    )?;
    Ok(match whole.verdict() {
        Verdict::Sound => Outcome::Done,
        Verdict::Flawed => Outcome::Failed,
        Verdict::Inconclusive => Outcome::Inconclusive,
    })
}

/// The bundle, which `verify` reads, with the auditors' fields of each receipt, failures first.
fn document(bundle: &Bundle, report: &Report, exported: Timestamp) -> Result<Vec<u8>, Failure> {
    let mut signed: Vec<&SignedReceipt> = bundle.receipts().collect();
    signed.sort_by_key(|signed| {
        let draft = &signed.receipt().draft;
        (!audit::is_a_failure(&draft.event), std::cmp::Reverse(draft.at))
    });
    let mut value = bundle.to_value();
    value["exported"] = Value::from(exported.to_string());
    value["verification"] = report.to_value();
    value["records"] = signed.into_iter().map(audit::record).collect();
    let mut bytes = serde_json::to_vec_pretty(&value).map_err(std::io::Error::from)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn write_new(out: &Path, bytes: &[u8]) -> Result<(), Failure> {
    match crashsafe::create(out, bytes) {
        Ok(crashsafe::Creation::Created) => Ok(()),
        Ok(crashsafe::Creation::Existed) => Err(Failure::usage(
            format!("{} exists", out.display()),
            "Choose a new file; an export overwrites nothing.",
        )),
        Err(error) => Err(Failure {
            hint: Some("Choose a file in a folder that exists and can be written to.".to_owned()),
            ..Failure::failed(lifeboat_base::report(&error))
        }),
    }
}
