//! Targets for the settings of a restored cluster, and for the files of a spool. What a file says is read here as PostgreSQL's own scanner of
//! configuration files reads it, so that it is PostgreSQL's opinion that ours is held against.

use lifeboat_postgres_wal::{Lsn, TimelineId};
use lifeboat_store_postgres::{AtTarget, RecoverySettings, fuzz_spool, with_recovery};

/// A target: its corpus, and the function that says whether it takes an input.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target of this module.
pub const TARGETS: &[Target] = &[("postgres_settings", settings), ("postgres_spool", fuzz_spool)];

/// `postgresql.conf`, `postgresql.auto.conf` and a `restore_command`, separated by zero bytes: nothing before what
/// is added changes, PostgreSQL reads what is added as it was meant, and what is said to be taken back is what
/// PostgreSQL would have read.
pub fn settings(bytes: &[u8]) -> bool {
    let Ok(input) = std::str::from_utf8(bytes) else { return false };
    let mut parts = input.splitn(3, '\0').chain(["", ""]);
    let [configuration, automatic, command] = [(); 3].map(|()| parts.next().unwrap_or_default());
    if command.contains('\0') {
        return false;
    }
    let settings = wanted(bytes.len(), command);
    let (text, taken_back) = with_recovery(configuration, automatic, &settings);
    let added = text.strip_prefix(automatic).expect("nothing before it changes");
    let added = read(added).unwrap_or_else(|| panic!("PostgreSQL refuses {added:?}"));
    is_as_wanted(&added, &settings);
    let (Some(configuration), Some(automatic)) = (read(configuration), read(automatic)) else { return false };
    assert!(read(&text).is_some(), "PostgreSQL refuses {text:?}");
    let harmful = added.iter().take_while(|(name, _)| name != "recovery_target");
    let meant = harmful.filter_map(|(name, harmless)| {
        let was = last(&automatic, name).or_else(|| last(&configuration, name))?;
        let was = (!was.is_empty() && was != harmless).then(|| String::from_utf8_lossy(was).into_owned())?;
        Some((name.clone(), was))
    });
    let said: Vec<_> = taken_back.into_iter().map(|taken| (taken.name, taken.was)).collect();
    assert_eq!(said, meant.collect::<Vec<_>>());
    true
}

/// Settings that depend on the input.
fn wanted(seed: usize, command: &str) -> RecoverySettings {
    RecoverySettings {
        timeline: TimelineId(seed as u32 + 1),
        stop: (!seed.is_multiple_of(3)).then_some((Lsn(seed as u64 * 0x1234_5678), seed % 3 == 1)),
        action: [AtTarget::Promote, AtTarget::Pause, AtTarget::Shutdown][seed % 3],
        restore_command: command.to_owned(),
    }
}

fn is_as_wanted(added: &[Setting], settings: &RecoverySettings) {
    let (stop, inclusive) = settings.stop.unzip();
    let stop = stop.map(|stop| stop.to_string()).unwrap_or_default();
    let action = match settings.action {
        AtTarget::Promote => "promote",
        AtTarget::Pause => "pause",
        AtTarget::Shutdown => "shutdown",
    };
    for (name, value) in [
        ("restore_command", settings.restore_command.as_str()),
        ("recovery_target_timeline", &settings.timeline.to_string()),
        ("recovery_target_lsn", &stop),
        ("recovery_target_inclusive", if inclusive == Some(false) { "off" } else { "on" }),
        ("recovery_target_action", action),
        ("recovery_target", ""),
        ("archive_command", ""),
        ("primary_conninfo", ""),
    ] {
        assert_eq!(last(added, name).map(Vec::as_slice), Some(value.as_bytes()), "{name}");
    }
}

/// A name, and a value in whatever encoding.
type Setting = (String, Vec<u8>);

fn last<'s>(settings: &'s [Setting], name: &str) -> Option<&'s Vec<u8>> {
    settings.iter().rev().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// What PostgreSQL reads in a file; `None` where it would refuse it, or read another file too.
fn read(text: &str) -> Option<Vec<Setting>> {
    let mut settings = Vec::new();
    for line in text.split('\n') {
        settings.extend(setting(line.as_bytes())?);
    }
    Some(settings)
}

/// A word of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Name,
    Qualified,
    Equals,
    Quoted,
    Bare,
}

/// What a line says: `None` where it is refused, `Some(None)` where it says nothing.
fn setting(line: &[u8]) -> Option<Option<Setting>> {
    let mut words = words(line)?.into_iter();
    let Some((kind, name)) = words.next() else { return Some(None) };
    let name = std::str::from_utf8(name).ok().filter(|_| matches!(kind, Word::Name | Word::Qualified))?;
    let mut value = words.next()?;
    if value.0 == Word::Equals {
        value = words.next()?;
    }
    let is_include = name.to_ascii_lowercase().starts_with("include");
    if is_include || words.next().is_some() {
        return None;
    }
    match value {
        (Word::Quoted, quoted) => Some(Some((name.to_owned(), unquoted(quoted)?))),
        (Word::Name | Word::Bare, word) => Some(Some((name.to_owned(), word.to_vec()))),
        _ => None,
    }
}

/// The words of a line, the longest that fits at each place.
fn words(mut line: &[u8]) -> Option<Vec<(Word, &[u8])>> {
    let mut words = Vec::new();
    while let Some(first) = line.first() {
        let length = match first {
            b'#' => break,
            b' ' | b'\t' | b'\r' => 1,
            _ => {
                let (kind, length) = word(line)?;
                words.push((kind, &line[..length]));
                length
            }
        };
        line = &line[length..];
    }
    Some(words)
}

const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

const fn is_of_name(byte: u8) -> bool {
    is_letter(byte) || byte.is_ascii_digit()
}

/// How many of the first bytes are such.
fn run(line: &[u8], such: impl Fn(u8) -> bool) -> usize {
    line.iter().take_while(|byte| such(**byte)).count()
}

fn word(line: &[u8]) -> Option<(Word, usize)> {
    match line.first()? {
        b'=' => Some((Word::Equals, 1)),
        b'\'' => quoted(line).map(|length| (Word::Quoted, length)),
        first if is_letter(*first) => Some(name_or_bare(line)),
        _ => Some(integer(line).max(real(line)))
            .filter(|length| *length > 0)
            .map(|length| (Word::Bare, length)),
    }
}

fn name_or_bare(line: &[u8]) -> (Word, usize) {
    let name = run(line, is_of_name);
    let bare = run(line, |byte| is_of_name(byte) || b"-._:/".contains(&byte));
    let behind =
        line[name..].strip_prefix(b".").filter(|rest| rest.first().is_some_and(|byte| is_letter(*byte)));
    let qualified = behind.map_or(0, |rest| name + 1 + run(rest, is_of_name));
    match bare {
        _ if bare > name.max(qualified) => (Word::Bare, bare),
        _ if qualified > name => (Word::Qualified, qualified),
        _ => (Word::Name, name),
    }
}

/// How long a text in quotes is; `None` where it has no end.
fn quoted(line: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += match (line.get(at)?, line.get(at + 1)) {
            (b'\\', next) => next.map(|_| 2)?,
            (b'\'', Some(b'\'')) => 2,
            (b'\'', _) => return Some(at + 1),
            _ => 1,
        };
    }
}

fn integer(line: &[u8]) -> usize {
    let sign = run(&line[..1], |byte| b"+-".contains(&byte));
    let digits = run(&line[sign..], |byte| byte.is_ascii_digit());
    if digits == 0 {
        return 0;
    }
    let hex = line[sign..].strip_prefix(b"0x").map_or(0, |rest| run(rest, |byte| byte.is_ascii_hexdigit()));
    let number = sign + if hex > 0 { 2 + hex } else { digits };
    number + run(&line[number..], |byte| byte.is_ascii_alphabetic())
}

fn real(line: &[u8]) -> usize {
    let sign = run(&line[..1], |byte| b"+-".contains(&byte));
    let whole = sign + run(&line[sign..], |byte| byte.is_ascii_digit());
    let Some(rest) = line[whole..].strip_prefix(b".") else { return 0 };
    let number = whole + 1 + run(rest, |byte| byte.is_ascii_digit());
    let exponent = &line[number..];
    let begin = run(exponent, |byte| b"eE".contains(&byte)).min(1);
    let signed =
        begin + run(exponent.get(begin..begin + 1).unwrap_or_default(), |byte| b"+-".contains(&byte));
    match run(&exponent[signed..], |byte| byte.is_ascii_digit()) {
        digits if begin == 1 && digits > 0 => number + signed + digits,
        _ => number,
    }
}

/// Takes the quotes and what is escaped in them away; `None` where that makes a zero byte, which ends a text.
fn unquoted(word: &[u8]) -> Option<Vec<u8>> {
    let mut rest = &word[1..word.len() - 1];
    let mut value = Vec::new();
    while let [first, behind @ ..] = rest {
        let (byte, behind) = match (first, behind) {
            (b'\\', [b'0'..=b'7', ..]) => octal(behind),
            (b'\\', [escaped, behind @ ..]) => (control(*escaped), behind),
            (b'\'', [_, behind @ ..]) => (b'\'', behind),
            _ => (*first, behind),
        };
        value.push(byte);
        rest = behind;
    }
    (!value.contains(&0)).then_some(value)
}

fn octal(text: &[u8]) -> (u8, &[u8]) {
    let digits = run(text, |byte| (b'0'..=b'7').contains(&byte)).min(3);
    let number =
        text[..digits].iter().fold(0u8, |number, digit| number.wrapping_mul(8).wrapping_add(digit - b'0'));
    (number, &text[digits..])
}

const fn control(escaped: u8) -> u8 {
    match escaped {
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    }
}
