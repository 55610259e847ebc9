//! What makes a block or an item of a document a step: its fence, the words behind it, the braces at its end. Knows
//! one line of it at a time.

use crate::attributes::Attributes;

/// The languages of blocks that can be steps.
pub(crate) const LANGUAGES: &[&str] = &["bash", "sh", "sql", "http", "lifeboat", "check"];

/// Whether the last line of a fenced block is its closing fence.
pub(crate) fn is_closed(raw: &str) -> bool {
    let opening = raw.trim_start();
    let mark = opening.chars().next().unwrap_or('`');
    let length = opening.len() - opening.trim_start_matches(mark).len();
    let last = raw.trim_end().lines().skip(1).last().unwrap_or_default();
    let last = last.trim_start_matches([' ', '\t', '>']);
    last.len() >= length && last.chars().all(|c| c == mark)
}

/// Language and attributes of a block that is a step, by what stands behind its fence.
pub(crate) fn attributes_of(info: &str, line: u32) -> Result<Option<(String, Attributes)>, String> {
    let names_a_step = info.split([' ', '\t', '{']).any(|word| word.starts_with("step="));
    let Some(open) = info.find('{') else {
        let what = "attributes stand in braces, or the block is prose: bash {step=name}";
        return if names_a_step { Err(what.to_owned()) } else { Ok(None) };
    };
    let language = info[..open].trim();
    let (attributes, behind) = match Attributes::parse(&info[open..], line) {
        Ok(read) => read,
        Err(_) if !names_a_step => return Ok(None),
        Err(what) => return Err(what),
    };
    if !attributes.has("step") {
        let is_ours = LANGUAGES.contains(&language) && attributes.are_ours();
        let what = "the block has attributes of a step, and no name: step=name";
        return if is_ours { Err(what.to_owned()) } else { Ok(None) };
    }
    if !behind.trim().is_empty() {
        return Err(format!("{:?} stands behind the attributes", behind.trim()));
    }
    Ok(Some((language.to_owned(), attributes)))
}

/// The attributes at the end of an item's text, and where they begin; none are fine.
pub(crate) fn at_the_end(raw: &str, line: u32) -> Result<(usize, Attributes), String> {
    let candidates = raw.match_indices('{').map(|(at, _)| at).filter(|at| {
        let is_apart = raw[..*at].chars().next_back().is_none_or(char::is_whitespace);
        is_apart && is_attribute(&raw[at + 1..])
    });
    let last_name = raw.rfind("step=");
    for at in candidates {
        match Attributes::parse(&raw[at..], line) {
            Ok((attributes, behind)) if behind.trim().is_empty() => return Ok((at, attributes)),
            Ok((attributes, _)) if attributes.has("step") => {
                return Err("attributes stand at the end of the item".to_owned());
            }
            Err(what) if raw.trim_end().ends_with('}') || last_name > Some(at) => return Err(what),
            Ok(_) | Err(_) => {}
        }
    }
    Ok((raw.len(), Attributes::none(line)))
}

/// Whether a text begins as `key=`.
fn is_attribute(text: &str) -> bool {
    let text = text.trim_start();
    let rest = text.trim_start_matches(|c: char| c.is_ascii_lowercase() || c == '_');
    rest.len() < text.len() && rest.starts_with('=')
}
