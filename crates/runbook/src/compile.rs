//! From a document to a runbook, or to everything that is wrong with it.

use crate::document::{self, Piece};
use crate::fault::{Faults, Found};
use crate::front::Front;
use crate::graph::{self, Graph};
use crate::matter;
use crate::settle::{self, Draft};
use crate::step::{Repeat, Role, Runbook, Step, StepId, Undo};
use crate::values::{self, Repeatable};
use aws_lc_rs::digest::{SHA256, digest};
use std::collections::HashMap;

/// How long a document may be, in bytes.
pub const MAX_BYTES: usize = 8 << 20;
/// How many steps it may have.
pub const MAX_STEPS: usize = 20_000;

/// Compiles a document.
///
/// # Errors
/// With all that is wrong with it at once.
pub fn compile(text: &str) -> Result<Runbook, Faults> {
    let mut found = Found::default();
    let runbook = read(text, &mut found);
    match (runbook, found.into_faults()) {
        (Some(runbook), None) => Ok(runbook),
        (_, Some(faults)) => Err(faults),
        // Whatever cannot be read has been said; this says it where a rule forgot to.
        (None, None) => Err(Faults::unsaid()),
    }
}

/// The line with a carriage return that no line feed follows. Markdown, YAML and editors count lines there in different
/// ways, and a script would have another text than a person sees.
fn lone_return(text: &str) -> Option<u32> {
    let bytes = text.as_bytes();
    let at = (0..bytes.len()).find(|at| bytes[*at] == b'\r' && bytes.get(at + 1) != Some(&b'\n'))?;
    let before = bytes[..at].iter().filter(|byte| **byte == b'\n').count();
    Some(u32::try_from(before).map_or(u32::MAX, |before| before.saturating_add(1)))
}

fn read(text: &str, found: &mut Found) -> Option<Runbook> {
    if text.len() > MAX_BYTES {
        found.fault(1, format!("the document is longer than {MAX_BYTES} bytes"));
        return None;
    }
    if let Some(line) = lone_return(text) {
        let hint = "Lines end with a line feed, with or without a carriage return before it: some viewers begin a new line there, others none.";
        found.hinted(line, "a carriage return stands without a line feed", hint);
        return None;
    }
    let document = document::read(text, found);
    let front =
        document.front.as_ref().map_or_else(Front::default, |(text, line)| matter::read(text, *line, found));
    let title = document.title.filter(|title| !title.is_empty());
    if title.is_none() {
        found.hinted(1, "the runbook has no title", "Its first heading is its title: # Restore the users.");
    }
    if document.pieces.is_empty() {
        let hint =
            "A block is one by the attributes behind its language: bash {step=name}; so is `- [ ] text`.";
        found.hinted(1, "the runbook has no step", hint);
        return None;
    }
    if document.pieces.len() > MAX_STEPS {
        found.fault(document.pieces[MAX_STEPS].line, format!("there are more than {MAX_STEPS} steps"));
        return None;
    }
    let drafts = drafts(document.pieces, found);
    for draft in &drafts {
        if let Some(name) = graph::unmeasured(draft, &front) {
            found.fault(draft.line, format!("`bounds`: `{name}` is no number, length of time or size"));
        }
    }
    let graph = graph::graph(&drafts, &front, found);
    let steps = steps(drafts, &graph)?;
    Some(Runbook { title: title?, document: sha256(text), front, steps })
}

fn sha256(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

/// Names every piece and settles it.
fn drafts(pieces: Vec<Piece>, found: &mut Found) -> Vec<Draft> {
    let names = names(&pieces, found);
    let drafts = pieces.into_iter().zip(names).map(|(piece, name)| {
        let mut draft = settle::draft(piece, name, found);
        graph::facts_by_passed_names(&mut draft);
        draft
    });
    drafts.collect()
}

/// The name of each piece: its own, or one from its text that nobody else has.
fn names(pieces: &[Piece], found: &mut Found) -> Vec<StepId> {
    let mut taken: HashMap<String, u32> = HashMap::new();
    let own: Vec<Option<StepId>> = pieces.iter().map(|piece| own_name(piece, &mut taken, found)).collect();
    let mut next: HashMap<String, u32> = HashMap::new();
    let named = own.into_iter().zip(pieces).map(|(own, piece)| {
        own.unwrap_or_else(|| free_name(&slug(&piece.under), &mut taken, &mut next, piece.line))
    });
    named.collect()
}

fn own_name(piece: &Piece, taken: &mut HashMap<String, u32>, found: &mut Found) -> Option<StepId> {
    let text = piece.attributes.get("step")?;
    let id = found.take(piece.line, values::step(text).map_err(|what| format!("`step`: {what}")))?;
    if let Some(line) = taken.insert(text.to_owned(), piece.line) {
        found.fault(piece.line, format!("there is a step `{text}` already, at line {line}"));
        return None;
    }
    Some(id)
}

/// The first of `slug`, `slug-2`, … that is free.
fn free_name(
    slug: &str,
    taken: &mut HashMap<String, u32>,
    next: &mut HashMap<String, u32>,
    line: u32,
) -> StepId {
    let number = next.entry(slug.to_owned()).or_insert(1);
    loop {
        let name = if *number == 1 { slug.to_owned() } else { format!("{slug}-{number}") };
        *number += 1;
        if let (false, Ok(id)) = (taken.contains_key(&name), StepId::new(&name)) {
            taken.insert(name, line);
            return id;
        }
    }
}

/// A name out of a text: its words, as far as they go into 48 letters, so that a number goes behind.
fn slug(text: &str) -> String {
    const LONGEST: usize = 48;
    let mut slug = String::new();
    for word in
        text.to_ascii_lowercase().split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
    {
        let is_first = slug.is_empty();
        if !is_first && slug.len() + 1 + word.len() > LONGEST {
            break;
        }
        let begins_well = word.starts_with(|first: char| first.is_ascii_lowercase());
        slug += if !is_first {
            "-"
        } else if begins_well {
            ""
        } else {
            "step-"
        };
        slug.extend(word.chars().take(LONGEST));
    }
    if slug.is_empty() || slug == "none" { "step".to_owned() } else { slug }
}

/// The steps in their order; nothing where one of them could not be read.
fn steps(drafts: Vec<Draft>, graph: &Graph) -> Option<Vec<Step>> {
    let ids: Vec<StepId> = drafts.iter().map(|draft| draft.id.clone()).collect();
    let mut drafts: Vec<Option<Draft>> = drafts.into_iter().map(Some).collect();
    if graph.order.len() < drafts.len() {
        return None;
    }
    let steps = graph.order.iter().map(|at| {
        let draft = drafts[*at].take()?;
        let needs = graph.needs[*at].iter().map(|need| ids[*need].clone()).collect();
        step(draft, graph.roles[*at], needs)
    });
    steps.collect()
}

fn step(draft: Draft, role: Role, needs: Vec<StepId>) -> Option<Step> {
    let is_check = draft.bearer == crate::attributes::Bearer::Check;
    let repeat = match (draft.repeat, draft.probe) {
        (Repeatable::Safe, _) => Repeat::Safe,
        (Repeatable::Never, _) => Repeat::Never,
        (Repeatable::Check, probe) => Repeat::Check(probe?),
    };
    Some(Step {
        id: draft.id,
        title: draft.title,
        section: draft.section,
        line: draft.line,
        role,
        action: draft.action?,
        is_check,
        needs,
        timeout: draft.timeout,
        retry: draft.retry,
        repeat,
        undo: if role == Role::Forward { draft.undo } else { Undo::Nothing },
        approval: draft.approval,
        passed: draft.passed,
        outputs: draft.outputs,
        expect: draft.expect,
        phase: draft.phase,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_texts() {
        for (text, name) in [
            ("On-call personnel notified", "on-call-personnel-notified"),
            ("3 of 5: ändern!", "step-3-of-5-ndern"),
            ("…", "step"),
            ("None", "step"),
            (
                "a b c d e f g h i j k l m n o p q r s t u v w x y z",
                "a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p-q-r-s-t-u-v-w-x",
            ),
        ] {
            assert_eq!(slug(text), name);
        }
        assert!(slug(&"9".repeat(100)).len() <= 60);
    }
}
