//! The roles and tablespaces that a dump takes for granted: they are a cluster's, so that no dump of a database
//! makes them.
//!
//! Names are looked for where pg_dump writes them. One that is found by mistake does no harm: it is made in a
//! scratch server that nobody else sees.

use super::tools::Line;
use std::collections::BTreeSet;

/// How many are believed.
const MAX_NAMES: usize = 10_000;
/// Names that the server has, or takes for something else.
const NOT_ROLES: [&str; 6] = ["public", "current_user", "session_user", "current_role", "none", "user"];

/// What a dump needs of the server that it is restored to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needed {
    pub(super) roles: BTreeSet<String>,
    pub(super) tablespaces: BTreeSet<String>,
    /// The encoding that its text is in.
    pub(super) encoding: Option<String>,
    /// It changes from one database to another.
    pub(super) connects: bool,
    /// What its meta-commands are guarded with, if they are.
    pub(super) guard: Option<Vec<u8>>,
}

impl Needed {
    /// Looks at a line of SQL.
    pub(super) fn see(&mut self, line: Line<'_>) {
        if line.is_data || !line.begins {
            return;
        }
        let bytes = line.bytes.trim_ascii_end();
        if let Some(guard) = bytes.strip_prefix(b"\\restrict ") {
            self.guard.get_or_insert_with(|| guard.to_vec());
        }
        self.connects |= bytes.starts_with(b"\\connect ");
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        self.see_statement(text);
    }

    fn see_statement(&mut self, text: &str) {
        if let Some(value) = text.strip_prefix("SET client_encoding = '") {
            self.encoding = value.strip_suffix("';").map(str::to_owned);
        }
        if let Some(value) = text.strip_prefix("SET default_tablespace = ") {
            let named = value.trim_end_matches(';').trim_matches('\'');
            add(&mut self.tablespaces, names(named));
        }
        if let Some(value) = text.strip_prefix("SET SESSION AUTHORIZATION ") {
            add(&mut self.roles, names(value.trim_end_matches(';').trim_matches('\'')));
        }
        let keywords: &[&str] = match text.split(' ').next() {
            Some("ALTER") => &[" OWNER TO ", " FOR ROLE ", " TO ", " FROM "],
            Some("GRANT") => &[" TO ", " GRANTED BY "],
            Some("REVOKE") => &[" FROM ", " GRANTED BY "],
            Some("CREATE") => &[" AUTHORIZATION ", " TO ", " MAPPING FOR "],
            _ => &[],
        };
        for keyword in keywords {
            for (at, _) in text.match_indices(keyword) {
                add(&mut self.roles, names(&text[at + keyword.len()..]));
            }
        }
    }

    /// A role that a program asked for in vain, in what it said.
    pub(super) fn see_complaint(&mut self, said: &str) -> bool {
        let found = said.split("role \"").skip(1).filter_map(|rest| rest.split_once("\" does not exist"));
        let before = self.roles.len();
        add(&mut self.roles, found.map(|(name, _)| name.replace("\"\"", "\"")));
        self.roles.len() > before
    }
}

fn add(to: &mut BTreeSet<String>, names: impl IntoIterator<Item = String>) {
    for name in names {
        let is_ours = !name.is_empty() && name.len() < 64 && !name.contains('\0');
        if is_ours && !name.starts_with("pg_") && !NOT_ROLES.contains(&name.as_str()) && to.len() < MAX_NAMES
        {
            to.insert(name);
        }
    }
}

/// The names that a list begins with: `a, "B c", d WITH …`.
fn names(text: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((name, behind)) = name(rest) {
        found.push(name);
        match behind.trim_start().strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None => break,
        }
    }
    found
}

fn name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_lowercase(), &text[end..]));
    };
    let (mut name, mut rest) = (String::new(), quoted);
    loop {
        let (part, behind) = rest.split_once('"')?;
        name.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(text: &str) -> Needed {
        let mut needed = Needed::default();
        for line in text.lines() {
            needed.see(Line { bytes: line.as_bytes(), begins: true, is_data: false });
        }
        needed
    }

    #[test]
    fn roles_are_found_where_pg_dump_writes_them() {
        let needed = needed(
            "ALTER TABLE public.t OWNER TO alice;\n\
             GRANT SELECT ON TABLE public.t TO \"Bob \"\"B\"\"\" WITH GRANT OPTION;\n\
             REVOKE ALL ON SCHEMA public FROM PUBLIC;\n\
             ALTER DEFAULT PRIVILEGES FOR ROLE carol IN SCHEMA public GRANT SELECT ON TABLES  TO dave;\n\
             CREATE POLICY p ON public.t TO erin, frank USING (true);\n\
             SET SESSION AUTHORIZATION 'gina';\n\
             GRANT SELECT ON public.t TO pg_read_all_data;\n\
             CREATE USER MAPPING FOR henry SERVER s;",
        );
        let roles: Vec<&str> = needed.roles.iter().map(String::as_str).collect();
        assert_eq!(roles, ["Bob \"B\"", "alice", "carol", "dave", "erin", "frank", "gina", "henry"]);
    }

    #[test]
    fn what_else_a_dump_needs() {
        let needed = needed(
            "\\restrict abc\nSET client_encoding = 'LATIN1';\nSET default_tablespace = '';\nSET default_tablespace = fast;\n\\connect app\n\\unrestrict abc",
        );
        assert_eq!(
            (needed.encoding.as_deref(), needed.guard.as_deref()),
            (Some("LATIN1"), Some(&b"abc"[..]))
        );
        assert!(needed.connects && needed.tablespaces.iter().eq(["fast"]));
    }

    #[test]
    fn a_role_that_was_missed_is_named_by_the_server() {
        let mut needed = Needed::default();
        assert!(needed.see_complaint("psql:<stdin>:4: ERROR:  role \"x\"\"y\" does not exist"));
        assert!(!needed.see_complaint("ERROR:  role \"x\"\"y\" does not exist"));
        assert!(needed.roles.contains("x\"y"));
    }
}
