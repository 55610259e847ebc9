//! SQL as a careful reader sees it: its words, in capitals, without quoted text.

/// The words of a text in capitals; what is no letter, digit or underscore divides them, and `;` is one.
pub(super) fn capitals(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in text.chars() {
        match words.last_mut() {
            Some(word) if c.is_alphanumeric() || c == '_' => word.extend(c.to_uppercase()),
            _ => {
                if c == ';' {
                    words.push(";".to_owned());
                }
                words.push(String::new());
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// So many words of a statement are looked at for what makes it one that destroys.
const LONGEST: usize = 500;

/// What SQL destroys, in the words that say so.
pub(super) fn destroys(words: &[String]) -> Option<String> {
    const DROPPED: &[&str] =
        &["TABLE", "DATABASE", "SCHEMA", "ROLE", "USER", "OWNED", "TABLESPACE", "INDEX", "COLUMN", "VIEW"];
    let is = |at: usize, what: &str| words.get(at).is_some_and(|word| word == what);
    for (at, word) in words.iter().enumerate() {
        let rest = || words[at..].iter().take(LONGEST).take_while(|word| *word != ";");
        let found = match word.as_str() {
            "DROP" => DROPPED.iter().find(|kind| is(at + 1, kind)).map(|kind| format!("DROP {kind}")),
            "TRUNCATE" if is(at + 1, "TABLE") => Some("TRUNCATE TABLE".to_owned()),
            "DELETE" if is(at + 1, "FROM") && !rest().any(|word| word == "WHERE") => {
                Some("DELETE without WHERE".to_owned())
            }
            "ALTER"
                if (is(at + 1, "USER") || is(at + 1, "ROLE")) && rest().any(|word| word == "PASSWORD") =>
            {
                Some(format!("ALTER {} … PASSWORD, after which the old one is worth nothing", words[at + 1]))
            }
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_destroys_is_seen() {
        for (text, part) in [
            ("drop table if exists a", "DROP TABLE"),
            ("select 1; DELETE FROM a; select 2 where x", "DELETE"),
            ("alter user a with password 'x'", "PASSWORD"),
            ("truncate\ntable a", "TRUNCATE"),
        ] {
            assert!(destroys(&capitals(text)).unwrap().contains(part), "{text}");
        }
        for text in
            ["delete from a where b = 1", "create table drop_table ()", "alter role a login", "select 'x'"]
        {
            assert_eq!(destroys(&capitals(text)), None, "{text}");
        }
    }
}
