//! Checks that say nothing: whose answer is thrown away, or is yes whatever is the matter.

use super::finding::{Finding, Rule};
use super::shell::{Command, commands};
use super::{Found, View};
use crate::step::{Action, Step};

/// The answer of a check reaches whoever asked.
pub(super) fn swallowed(view: &View<'_>, found: &mut Found) {
    for step in view.checks() {
        let Action::Bash { script } = &step.action else { continue };
        let commands = commands(script);
        if let Some(how) = swallows(step, &commands) {
            let what = format!("throws its own answer away ({how})");
            let hint = "Let the command that looks be the last, and end as it ends.";
            found.push(Finding::of(Rule::CheckSwallowed, step, what, hint));
        }
    }
}

fn swallows(step: &Step, commands: &[Command]) -> Option<String> {
    let says_yes = |command: &&Command| matches!(command.name(), "true" | ":" | "echo" | "printf");
    if let Some(instead) = commands.iter().find(|command| command.behind == "||" && says_yes(command)) {
        return Some(format!("|| {}", instead.name()));
    }
    if commands.iter().any(|command| command.text() == "set +e") {
        return Some("set +e".to_owned());
    }
    let last = commands.last().map(Command::text).unwrap_or_default();
    if commands.len() > 1 && matches!(last.as_str(), "true" | ":" | "exit 0") {
        return Some(last);
    }
    let is_lost = |command: &Command| {
        command
            .words
            .iter()
            .any(|word| matches!(word.text.as_str(), ">/dev/null" | "1>/dev/null" | "&>/dev/null"))
    };
    (step.expect.is_some() && commands.last().is_some_and(is_lost))
        .then(|| "> /dev/null beside `expect`".to_owned())
}

/// Something could make the check say no. SQL without `expect` is answered by its first value, and a request by its
/// status: only scripts can have looked at nothing.
pub(super) fn unable(view: &View<'_>, found: &mut Found) {
    for step in view.checks().filter(|step| step.expect.is_none()) {
        let Action::Bash { script } = &step.action else { continue };
        let why = unable_script(&commands(script));
        if let Some(why) = why {
            let what = format!("cannot say no: {why}");
            let hint = "Say what the answer must be: expect=\">= 1\", or compare it in the script.";
            found.push(Finding::of(Rule::CheckCannotFail, step, what, hint));
        }
    }
}

/// Why none of these commands can fail where it should; nothing if one of them can.
fn unable_script(commands: &[Command]) -> Option<String> {
    let mut why = None;
    for command in commands {
        why = Some(unable_command(command)?).filter(|why| !why.is_empty()).or(why);
    }
    why.or_else(|| Some("nothing in it looks at anything".to_owned()))
}

/// Why a command cannot fail where it should; empty for one that does not even look.
fn unable_command(command: &Command) -> Option<String> {
    const SAYS: &[&str] =
        &["", "echo", "printf", "true", ":", "sleep", "set", "export", "date", "cd", "local", "exit"];
    let name = command.name();
    if SAYS.contains(&name) {
        return Some(String::new());
    }
    let has = |program: &str, options: &[&str]| {
        let words = command.behind(program).unwrap_or_default();
        words.iter().any(|word| options.contains(&word.text.as_str()))
    };
    if has("gunzip", &["-t", "--test"]) || has("gzip", &["-t", "--test", "-dt", "-td"]) {
        return Some(
            "gzip's test knows whether the file is packed well, and nothing of what is in it".to_owned(),
        );
    }
    if has("pg_restore", &["-l", "--list"]) {
        return Some("the list of an archive stands at its beginning".to_owned());
    }
    let is_query = ["psql", "sqlite3"].iter().any(|program| command.behind(program).is_some());
    let text = command.text().to_lowercase();
    if is_query
        && !command.is_piped
        && ["count(", "integrity_check", "quick_check"].iter().any(|part| text.contains(part))
    {
        return Some("the query succeeds whatever it answers".to_owned());
    }
    let asks = command.behind("curl").filter(|_| !command.is_piped)?;
    let fails = asks.iter().any(|word| {
        let is_short = word.text.starts_with('-') && !word.text.starts_with("--") && word.text.contains('f');
        is_short || word.text.starts_with("--fail")
    });
    (!fails).then(|| "curl without --fail succeeds on any answer".to_owned())
}
