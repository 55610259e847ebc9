//! Secrets that stand in the document. What was found is never repeated.

use super::finding::{Finding, Rule};
use super::{Found, View};
use lifeboat_plan::lint::Weight;

/// A document is read by many, and kept.
pub(super) fn written(view: &View<'_>, found: &mut Found) {
    for (n, line) in view.text.lines().enumerate() {
        let Some(what) = secret(line) else { continue };
        let at = u32::try_from(n).map_or(u32::MAX, |n| n.saturating_add(1));
        let hint =
            "Take it out, change it, and name where it is: an input of type secret (env:NAME, file:PATH).";
        found.push(Finding::at(Rule::SecretWritten, Weight::Hazard, at, format!("here stands {what}"), hint));
    }
}

fn secret(line: &str) -> Option<&'static str> {
    if line.contains("-----BEGIN ") && line.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    if words(line).any(is_access_key) {
        return Some("what looks like an access key");
    }
    if in_address(line) {
        return Some("an address with its password");
    }
    let is_info = line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~");
    if !is_info && (assigned(line) || spoken(line)) {
        return Some("what looks like a password");
    }
    None
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
}

/// Keys that say by their first letters whose they are.
fn is_access_key(word: &str) -> bool {
    let is_capital = |text: &str| text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let aws = ["AKIA", "ASIA"].iter().find_map(|start| word.strip_prefix(start));
    if aws.is_some_and(|rest| rest.len() == 16 && is_capital(rest)) {
        return true;
    }
    ["ghp_", "github_pat_", "xoxb-", "xoxp-", "sk_live_", "glpat-"]
        .iter()
        .any(|start| word.strip_prefix(start).is_some_and(|rest| rest.len() >= 16))
}

/// `scheme://user:password@host`.
fn in_address(line: &str) -> bool {
    line.match_indices("://").any(|(at, _)| {
        let authority =
            line[at + 3..].split(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '>')).next();
        let user = authority.and_then(|authority| authority.rsplit_once('@')).map(|(user, _)| user);
        user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| is_literal(password))
    })
}

/// `PASSWORD=…`, `api_key = "…"`.
fn assigned(line: &str) -> bool {
    const NAMES: &[&str] = &[
        "password",
        "passwd",
        "pgpassword",
        "passphrase",
        "secret",
        "token",
        "api_key",
        "apikey",
        "secret_key",
        "access_key",
        "requirepass",
    ];
    line.match_indices('=').any(|(at, _)| {
        let name = line[..at].trim_end();
        let start = name.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(0, |end| end + 1);
        let name = name.get(start..).unwrap_or_default().to_ascii_lowercase();
        NAMES.iter().any(|known| name.ends_with(known))
            && is_literal(line[at + 1..].trim_start_matches([' ', '=']))
    })
}

/// `PASSWORD '…'` of SQL, `requirepass …` of Redis, `Bearer …` of HTTP.
fn spoken(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    let behind = |word: &str| lower.find(word).map(|at| line[at + word.len()..].trim_start());
    let is_sql = ["alter ", "create ", "identified "].iter().any(|word| lower.contains(word));
    let sql = behind("password ").filter(|rest| is_sql && rest.starts_with('\'')).is_some_and(is_literal);
    let redis = behind("requirepass ").is_some_and(|rest| rest.starts_with(['"', '\'']) && is_literal(rest));
    let bearer = behind("bearer ").and_then(|rest| rest.split_whitespace().next());
    sql || redis || bearer.is_some_and(|token| token.len() >= 20 && is_literal(token))
}

/// Whether a value stands for itself: no variable, no reference, no placeholder.
fn is_literal(value: &str) -> bool {
    let value = value.trim_start_matches(['"', '\'']);
    let stands_for_another =
        ["$", "<", "{", "*", "…", "...", "%", ":", "env:", "file:", "vault:", "command:", "[", "/", "("];
    let first = value.chars().next();
    let is_empty = first
        .is_none_or(|first| first.is_whitespace() || matches!(first, '"' | '\'' | '`' | ',' | ';' | ')'));
    !is_empty && !stands_for_another.iter().any(|start| value.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_seen_and_what_stands_for_one_is_not() {
        let key = format!("AKIA{}", "ABCDEFGHIJKLMNOP");
        for line in [
            "export PGPASSWORD=hunter2",
            "psql postgres://u:hunter2@db/x",
            "ALTER USER a PASSWORD 'new-strong-password';",
            "redis-cli CONFIG SET requirepass \"x\"",
            "api_key = \"abc\"",
            "Authorization: Bearer abcdefghijklmnopqrstuv",
            key.as_str(),
            "-----BEGIN EC PRIVATE KEY-----",
        ] {
            assert!(secret(line).is_some(), "{line}");
        }
        for line in [
            "export PGPASSWORD=\"$PASSWORD\"",
            "psql \"postgres://u:${password}@db/x\"",
            "postgres://u@db/x",
            "ALTER USER a PASSWORD '$NEW';",
            "Reset the password 'as usual' of affected users? No: see PASSWORD env:X",
            "password=<yours>",
            "```bash {step=a pass=password=creds.password}",
            "echo \"token=$(take)\" >> \"$LIFEBOAT_OUTPUT\"",
            "if [ \"$token\" = \"\" ]; then",
            "key = \"env:LIFEBOAT_PASSPHRASE\"",
        ] {
            assert_eq!(secret(line), None, "{line}");
        }
    }
}
