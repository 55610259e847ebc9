//! The settings that a restored cluster starts with.
//!
//! They are written at the end of `postgresql.auto.conf`, which PostgreSQL reads last. What the dead primary was
//! set to do to the world outside (archive into the same place, wait for its standbys, follow another server) is
//! taken back, and said, so that a person can set it again once the restored cluster is the primary.

use lifeboat_postgres_wal::{Lsn, TimelineId};
use std::fmt::Write;

/// Where recovery ends, and what happens then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverySettings {
    /// The timeline to recover along.
    pub timeline: TimelineId,
    /// The position to stop at; `None`: at the end of what is there.
    pub stop: Option<(Lsn, Inclusive)>,
    /// What the server does there.
    pub action: AtTarget,
    /// How the server gets a segment that is not in `pg_wal`.
    pub restore_command: String,
}

/// Whether the record at the stop position is replayed.
pub type Inclusive = bool;

/// What a server does when it has recovered to its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtTarget {
    /// Begin a new timeline and take writes.
    #[default]
    Promote,
    /// Wait, readable, until a person resumes or shuts it down.
    Pause,
    /// Shut down.
    Shutdown,
}

impl AtTarget {
    fn as_setting(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Pause => "pause",
            Self::Shutdown => "shutdown",
        }
    }
}

/// A setting of the dead primary that was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neutralised {
    /// Its name.
    pub name: String,
    /// What it was.
    pub was: String,
}

/// What is taken back, and to what. Every release from 15 on knows all of these.
const HARMFUL: [(&str, &str); 9] = [
    ("archive_mode", "off"),
    ("archive_command", ""),
    ("archive_library", ""),
    ("archive_cleanup_command", ""),
    ("recovery_end_command", ""),
    ("synchronous_standby_names", ""),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("recovery_min_apply_delay", "0"),
];

/// Other kinds of target than the one that we set: two at once are refused by the server.
const OTHER_TARGETS: [&str; 4] =
    ["recovery_target", "recovery_target_time", "recovery_target_xid", "recovery_target_name"];

/// The new content of `postgresql.auto.conf`, and what it takes back of what the other files had set.
///
/// `configuration` is what the cluster's `postgresql.conf` says, where it lies in the data directory, and
/// `automatic` its `postgresql.auto.conf`.
pub fn with_recovery(
    configuration: &str,
    automatic: &str,
    settings: &RecoverySettings,
) -> (String, Vec<Neutralised>) {
    let mut text = automatic.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str("# Added by lifeboat restore. Remove what follows once the cluster is what you want.\n");
    let mut set = |name: &str, value: &str| {
        let _ = writeln!(text, "{name} = {}", quoted(value));
    };
    let mut neutralised = Vec::new();
    for (name, harmless) in HARMFUL {
        let was = value_of(automatic, name).or_else(|| value_of(configuration, name));
        neutralised.extend(
            was.filter(|was| !was.is_empty() && was != harmless)
                .map(|was| Neutralised { name: name.to_owned(), was }),
        );
        set(name, harmless);
    }
    for name in OTHER_TARGETS {
        set(name, "");
    }
    set("restore_command", &settings.restore_command);
    set("recovery_target_timeline", &settings.timeline.to_string());
    let (stop, inclusive) = settings.stop.unzip();
    set("recovery_target_lsn", &stop.map(|stop| stop.to_string()).unwrap_or_default());
    set("recovery_target_inclusive", if inclusive.unwrap_or(true) { "on" } else { "off" });
    set("recovery_target_action", settings.action.as_setting());
    (text, neutralised)
}

/// PostgreSQL takes a backslash in quotes for an escape. A line break as it is would end the setting.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n"))
}

/// What a configuration file sets a parameter to: the last time counts. Included files are not looked into.
fn value_of(text: &str, name: &str) -> Option<String> {
    text.lines().rev().find_map(|line| {
        let line = line.trim_start_matches(is_space);
        let rest = line.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name))?;
        let rest = Some(&line[rest.len()..]).filter(|rest| !rest.starts_with(goes_on_with_a_word))?;
        value(rest.trim_start_matches(|c: char| c == '=' || is_space(c)))
    })
}

/// What PostgreSQL passes over within a line (guc-file.l). Every other character beyond ASCII belongs to a word, spaces
/// of Unicode too.
const fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r')
}

/// Whether a word does not end here. A value needs nothing between it and its name, if it is quoted.
fn goes_on_with_a_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || !character.is_ascii() || "_-.:/".contains(character)
}

/// A value: quoted, with `''` and `\'` for a quote, or a word; a comment may follow.
fn value(text: &str) -> Option<String> {
    let Some(mut rest) = text.as_bytes().strip_prefix(b"'") else {
        let end = text.find(|c: char| c == '#' || is_space(c)).unwrap_or(text.len());
        return Some(text[..end].to_owned()).filter(|word| !word.is_empty());
    };
    let mut value = Vec::new();
    loop {
        let (byte, behind) = match rest {
            [b'\'', b'\'', behind @ ..] => (b'\'', behind),
            [b'\'', ..] => return Some(String::from_utf8_lossy(&value).into_owned()),
            [b'\\', b'0'..=b'7', ..] => octal(&rest[1..]),
            [b'\\', escaped, behind @ ..] => (unescaped(*escaped), behind),
            [other, behind @ ..] => (*other, behind),
            [] => return None,
        };
        value.push(byte);
        rest = behind;
    }
}

/// A byte as one to three octal digits.
fn octal(text: &[u8]) -> (u8, &[u8]) {
    let count = text.iter().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    let (digits, behind) = text.split_at(count);
    (digits.iter().fold(0, |byte, digit| byte << 3 | (digit - b'0')), behind)
}

const fn unescaped(byte: u8) -> u8 {
    match byte {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> RecoverySettings {
        RecoverySettings {
            timeline: TimelineId(2),
            stop: Some((Lsn(0x300_0060), true)),
            action: AtTarget::Promote,
            restore_command: "/bin/false".to_owned(),
        }
    }

    #[test]
    fn what_would_hurt_is_taken_back_and_said() {
        let configuration = "archive_mode = on\t# keep\nArchive_Command='cp %p ''/a b''/%f'\n#primary_conninfo = 'x'\nsynchronous_standby_names 'one'";
        let automatic = "synchronous_standby_names = 'ANY 1 (a, b)'\nprimary_slot_name = ''";
        let (text, taken) = with_recovery(configuration, automatic, &settings());
        let taken: Vec<_> = taken.iter().map(|n| (n.name.as_str(), n.was.as_str())).collect();
        assert_eq!(
            taken,
            [
                ("archive_mode", "on"),
                ("archive_command", "cp %p '/a b'/%f"),
                ("synchronous_standby_names", "ANY 1 (a, b)")
            ]
        );
        assert!(text.starts_with(automatic));
        for line in [
            "\nsynchronous_standby_names = ''\n",
            "\nrecovery_target_lsn = '0/3000060'\n",
            "\nrecovery_target_inclusive = 'on'\n",
            "\nrecovery_target_timeline = '2'\n",
            "\nrestore_command = '/bin/false'\n",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn quotes_do_not_break_out() {
        let settings =
            RecoverySettings { restore_command: "cp '/a b/%f' %p".to_owned(), stop: None, ..settings() };
        let (text, _) = with_recovery("", "", &settings);
        assert!(text.contains("restore_command = 'cp ''/a b/%f'' %p'\n"));
        assert!(text.contains("recovery_target_lsn = ''\n"));
    }

    #[test]
    fn a_line_break_does_not_break_out_either() {
        let command = "cp %f %p\narchive_mode = on";
        let settings = RecoverySettings { restore_command: command.to_owned(), ..settings() };
        let (text, _) = with_recovery("", "", &settings);
        assert!(text.contains("restore_command = 'cp %f %p\\narchive_mode = on'\n"));
        assert_eq!(value_of(&text, "restore_command").as_deref(), Some(command));
    }

    #[test]
    fn values_are_read_as_postgresql_reads_them() {
        let text = "a = 'a\\tb\\\\c\\'d\\303\\244\\0601' # no\r\nb'x'\nc=1#no\nab = 2\nd-e 3\nf = 'open";
        let value = |name| value_of(text, name);
        assert_eq!(value("a").as_deref(), Some("a\tb\\c'dä01"));
        assert_eq!(value("b").as_deref(), Some("x"), "nothing need stand before a quote");
        assert_eq!(value("c").as_deref(), Some("1"));
        assert_eq!((value("d"), value("f"), value("e")), (None, None, None));
        // Found by fuzzing: the next line belongs to the name here, and is no space.
        assert_eq!(value_of("\u{85}archive_mode = on", "archive_mode"), None);
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic_and_what_is_written_is_read_back(configuration in ".{0,200}", word in "[ -~]{0,20}") {
            let settings = RecoverySettings { restore_command: word.clone(), ..settings() };
            let (text, _) = with_recovery(&configuration, &configuration, &settings);
            prop_assert_eq!(value_of(&text, "restore_command"), Some(word));
        }
    }
}
