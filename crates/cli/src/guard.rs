//! What must not stand on a command line: a URL with a password in it is seen by everybody on the machine, so
//! it is refused before anything else happens, and never repeated.

use crate::failure::Failure;
use lifeboat_recovery::is_postgres;
use std::ffi::{OsStr, OsString};

const HINT: &str = "Take the password out of the URL and give it by the environment or a file; it was visible to everybody on this machine, so replace it.";

/// Refuses a command line that holds a URL with a password.
pub(crate) fn refuse_passwords(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
    if arguments.into_iter().any(|argument| holds_password(&argument.to_string_lossy())) {
        return Err(Failure::usage("a URL on the command line holds a password", HINT));
    }
    Ok(())
}

/// Refuses a target that is a URL of something that is not protected. No part of it is repeated: nobody can tell
/// which of it is secret.
pub(crate) fn refuse_url(target: &OsStr) -> Result<(), Failure> {
    let text = target.to_string_lossy();
    if holds_password(&text) {
        return Err(Failure::usage("the target is a URL that holds a password", HINT));
    }
    if text.contains("://") && !is_postgres(&text) {
        return Err(Failure::usage(
            "the target is a URL, and this release protects folders, SQLite databases, PostgreSQL servers (postgres://…) and streams",
            "Pipe a dump into it: `… | lifeboat backup --stdin --name NAME`.",
        ));
    }
    Ok(())
}

/// Whether a text holds `scheme://user:password@` or a parameter named like a password.
fn holds_password(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        // A password may itself hold the characters that end an authority.
        let loose = rest.rsplit_once('@').and_then(|(before, _)| before.split_once(':'));
        user.is_some_and(|user| user.contains(':'))
            || loose.is_some_and(|(name, _)| !name.contains(['/', '?', '.']))
            || has_secret_parameter(rest)
    })
}

fn has_secret_parameter(rest: &str) -> bool {
    let query = rest.split_once('?').map_or("", |(_, query)| query).to_ascii_lowercase();
    query.split('&').filter_map(|pair| pair.split_once('=')).any(|(name, value)| {
        !value.is_empty() && ["password", "passwd", "secret", "token"].iter().any(|word| name.contains(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_seen() {
        for bad in [
            "postgres://u:p@h/db",
            "--repository=s3://a:b@bucket",
            "redis://:pw@h",
            "postgres://h/db?password=x",
            "postgres://u:p/w@h/db",
            "s3://bucket/p?secret_key=x",
            "curl https://u:p@h",
        ] {
            assert!(holds_password(bad), "{bad}");
        }
        for good in [
            "./tree",
            "s3://bucket/prefix?region=a&endpoint=http://127.0.0.1:8333",
            "postgres://u@h:5432/db",
            "a:b@c",
            "file:///x/y@z",
            "s3://bucket?endpoint=https://a.b:9000&timeout=5",
        ] {
            assert!(!holds_password(good), "{good}");
        }
    }

    #[test]
    fn no_refusal_repeats_what_it_refuses() {
        for target in ["postgres://u:hunter2@h/db", "redis://hunter2"] {
            let failure = refuse_url(OsStr::new(target)).unwrap_err();
            assert!(!format!("{failure:?}").contains("hunter2") && failure.code == 2);
        }
        assert!(refuse_url(OsStr::new("a:b")).is_ok());
        assert!(refuse_url(OsStr::new("postgres://backup@db-1/app")).is_ok());
    }
}
