//! The export for people: one HTML file without scripts and without anything from elsewhere, to be read and printed.
//!
//! Failures come first. Everything that was read is escaped: a dataset's name is no markup.

use crate::audit::{self, NOT_RECORDED};
use crate::bundle::Bundle;
use crate::receipt::SignedReceipt;
use crate::report::{Report, Verdict};
use lifeboat_base::clock::Timestamp;
use serde_json::Value;
use std::fmt::{self, Write};

const STYLE: &str = "body{font:14px/1.45 sans-serif;margin:2em auto;max-width:60em;padding:0 1em;color:#111}\
h1{font-size:1.6em}h2{margin-top:2em;border-bottom:1px solid #999}\
table{border-collapse:collapse;width:100%;margin:.5em 0}\
th,td{text-align:left;vertical-align:top;padding:.2em .6em;border-bottom:1px solid #ddd;overflow-wrap:anywhere}\
th{width:30%;font-weight:600}\
section{break-inside:avoid-page;margin:1.5em 0}\
.flawed,.failed,.interrupted{color:#a00000}.inconclusive,.left-out{color:#8a5a00}.none{color:#666}\
@media print{body{margin:0;max-width:none}}";

/// The whole file.
pub fn page(bundle: &Bundle, report: &Report, exported: Timestamp) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut out, bundle, report, exported);
    out
}

fn write_page(out: &mut String, bundle: &Bundle, report: &Report, exported: Timestamp) -> fmt::Result {
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Evidence of repository {0}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Evidence of repository {0}</h1>\n<p>Exported at {1}. {2}</p>\n",
        bundle.repository,
        exported,
        Escaped(&scope(bundle))
    )?;
    write_verdict(out, report)?;
    write_chains(out, report)?;
    let mut signed: Vec<&SignedReceipt> = bundle.receipts().collect();
    signed.sort_by_key(|signed| std::cmp::Reverse(signed.receipt().draft.at));
    let (failures, rest): (Vec<_>, Vec<_>) =
        signed.into_iter().partition(|signed| audit::is_a_failure(&signed.receipt().draft.event));
    write_records(out, "Failed, interrupted, inconclusive or incomplete", &failures)?;
    write_records(out, "Done", &rest)?;
    out.push_str("</body>\n</html>\n");
    Ok(())
}

fn scope(bundle: &Bundle) -> String {
    let Some(excerpt) = &bundle.excerpt else { return "It holds every receipt.".to_owned() };
    let end = |at: Option<Timestamp>, open: &str| at.map_or(open.to_owned(), |at| at.to_string());
    let (from, to) = (end(excerpt.from, "the beginning"), end(excerpt.to, "the end"));
    format!("It is an excerpt, from {from} to {to}; other receipts are not in it.")
}

fn write_verdict(out: &mut String, report: &Report) -> fmt::Result {
    let verdict = report.verdict();
    writeln!(
        out,
        "<h2>Verification</h2>\n<p class=\"{0}\"><strong>{0}</strong>: {1}</p>",
        verdict.word(),
        meaning(verdict)
    )?;
    if report.findings.is_empty() && report.doubts.is_empty() {
        return Ok(());
    }
    out.push_str("<table>\n");
    for finding in &report.findings {
        let place = format!("writer {}, receipt {}", finding.chain.writer, finding.number);
        write_row(out, &place, &format!("{}: {}", finding.flaw.word(), finding.flaw))?;
    }
    for doubt in &report.doubts {
        let place = format!("writer {}, receipt {}", doubt.chain.writer, doubt.number);
        write_row(out, &place, &doubt.kind.to_string())?;
    }
    out.push_str("</table>\n");
    Ok(())
}

fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Sound => "every signature and every link is as its writer made it, as far as can be told.",
        Verdict::Flawed => "receipts were changed, removed or added; see below.",
        Verdict::Inconclusive => "nothing is known to be wrong, and not everything could be judged.",
    }
}

fn write_chains(out: &mut String, report: &Report) -> fmt::Result {
    out.push_str("<h2>Chains</h2>\n<table>\n");
    for chain in &report.chains {
        let name = chain.name.as_deref().unwrap_or("unknown writer");
        let mut text = format!("{} receipts count; {}", chain.receipts, chain.tail());
        if let Some(through) = chain.expired_through {
            write!(text, "; receipts up to {through} have expired and may be gone")?;
        }
        write_row(out, &format!("{name} ({})", chain.chain), &text)?;
    }
    out.push_str("</table>\n");
    Ok(())
}

fn write_records(out: &mut String, title: &str, all: &[&SignedReceipt]) -> fmt::Result {
    writeln!(out, "<h2>{title} ({})</h2>", all.len())?;
    if all.is_empty() {
        out.push_str("<p class=\"none\">None.</p>\n");
    }
    all.iter().try_for_each(|signed| write_record(out, signed))
}

fn write_record(out: &mut String, signed: &SignedReceipt) -> fmt::Result {
    let event = &signed.receipt().draft.event;
    let subject = event.subject.dataset.as_deref().unwrap_or("");
    writeln!(
        out,
        "<section>\n<h3 class=\"{0}\">{1} {2}: {0}</h3>\n<table>",
        event.outcome.word(),
        Escaped(event.action.word()),
        Escaped(subject)
    )?;
    for field in audit::fields(signed) {
        match field.value {
            Some(value) => write_row(out, field.label, &text_of(&value))?,
            None => writeln!(out, "<tr><th>{}</th><td class=\"none\">{NOT_RECORDED}</td></tr>", field.label)?,
        }
    }
    out.push_str("</table>\n</section>\n");
    Ok(())
}

fn write_row(out: &mut String, head: &str, text: &str) -> fmt::Result {
    writeln!(out, "<tr><th>{}</th><td>{}</td></tr>", Escaped(head), Escaped(text))
}

/// A value for people: lists and names with commas, without quotes.
fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{name}: {}", text_of(value));
            members.iter().map(member).collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

/// Text as HTML shows it.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() && c != '\n' => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::append::{Entry, append};
    use crate::event::{Action, Event, Outcome};
    use crate::keys::KeyRing;
    use crate::memory::MemoryChains;
    use crate::testing::{BEGINNING, REPOSITORY, TestSigner, draft, key_of};
    use crate::verify::verify;

    fn exported() -> String {
        let (chains, signer) = (MemoryChains::new(), TestSigner::new(1));
        let failed = Event::new(Action::Proof, Outcome::Failed)
            .dataset("<script>alert(1)</script>")
            .because("\"a\" & 'b'\u{1b}[31m");
        for (n, event) in [(1, None), (2, Some(failed)), (3, None)] {
            let mut draft = draft(n);
            draft.event = event.unwrap_or(draft.event);
            let entry = Entry { draft, written: None, known: None };
            append(&chains, REPOSITORY, &signer, entry, &mut |_| Ok(())).unwrap();
        }
        let keys: KeyRing = [key_of(&signer)].into_iter().collect();
        let bundle = Bundle::collect(&chains, REPOSITORY, keys.clone()).unwrap();
        page(&bundle, &verify(&bundle, &keys, &[]), BEGINNING)
    }

    #[test]
    fn what_was_read_is_no_markup() {
        let html = exported();
        assert!(!html.contains("<script"), "{html}");
        assert!(
            html.contains("&lt;script&gt;alert(1)")
                && html.contains("&quot;a&quot; &amp; &#39;b&#39;\u{fffd}")
        );
        for tag in ["table", "section", "tr", "td", "th", "h3"] {
            let (opened, closed) =
                (html.matches(&format!("<{tag}")).count(), html.matches(&format!("</{tag}>")).count());
            assert_eq!(opened, closed, "{tag}");
        }
    }

    #[test]
    fn failures_come_first_and_what_is_not_known_is_said() {
        let html = exported();
        let (failed, done) = (html.find("proof &lt;script").unwrap(), html.find("backup users").unwrap());
        assert!(failed < done);
        let scenario =
            format!("<tr><th>Scenario and business impact</th><td class=\"none\">{NOT_RECORDED}</td></tr>");
        assert_eq!(html.matches(&scenario).count(), 3, "once a record");
        assert!(html.contains("<strong>sound</strong>"));
    }
}
