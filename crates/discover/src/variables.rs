//! Variables that hold addresses of stores: those of the environment, and those of env files.

use crate::address::{self, Address};
use crate::files::is_database;
use crate::found::{Engine, PassedOver, Sight, Undone, written_path};
use crate::naming::slug;
use crate::read;
use crate::sighting::{Place, Rank, SeenStore, Sightings, Written};
use crate::walk::{Tree, name_of, parent_of, resolve};
use crate::{Surroundings, walk};
use std::collections::BTreeMap;
use std::path::Path;

/// How long an env file may be.
const MAX_ENV_FILE: u64 = 256 * 1024;
/// Endings of the names of variables that hold addresses.
const ENDINGS: &[&str] = &["_URL", "_URI", "_DSN", "_CONNECTION_STRING"];
/// The names that most people use, the best known first.
const FAMOUS: &[&str] = &["DATABASE_URL", "POSTGRES_URL", "POSTGRES_DSN", "REDIS_URL", "MONGODB_URI"];
/// Env files that hold examples instead of values.
const EXAMPLES: &[&str] = &["example", "sample", "template", "dist", "defaults"];
/// What the name of a variable says that holds a secret.
const SECRET_WORDS: &[&str] = &["PASSWORD", "SECRET", "TOKEN", "_KEY", "CREDENTIAL"];

/// Variables that other files refer to: those of the environment, then those of the folder's own env file.
#[derive(Debug, Default)]
pub(crate) struct Known {
    environment: BTreeMap<String, String>,
    file: BTreeMap<String, String>,
}

impl Known {
    fn get(&self, name: &str) -> Option<&str> {
        self.environment.get(name).or_else(|| self.file.get(name)).map(String::as_str)
    }

    /// Puts values in the place of `${NAME}`, `${NAME:-default}` and `$NAME`; nothing for what is not known.
    pub(crate) fn interpolate(&self, text: &str) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            rest = self.substitute(after, &mut out);
        }
        out.push_str(rest);
        out
    }

    /// Puts in the value of the variable that a text begins with; gives the text behind it.
    fn substitute<'t>(&self, text: &'t str, out: &mut String) -> &'t str {
        if let Some(rest) = text.strip_prefix('$') {
            out.push('$');
            return rest;
        }
        let braced = text.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        if let Some((inner, rest)) = braced {
            let end = inner.find(|c: char| !is_name(c)).unwrap_or(inner.len());
            let (name, operator) = inner.split_at(end);
            let default = operator.strip_prefix(":-").or_else(|| operator.strip_prefix('-'));
            let value = self.get(name).filter(|value| !value.is_empty()).or(default);
            out.push_str(value.unwrap_or_default());
            return rest;
        }
        let end = text.find(|c: char| !is_name(c)).unwrap_or(text.len());
        out.push_str(self.get(&text[..end]).unwrap_or_default());
        &text[end..]
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Looks at the environment and at env files.
pub(crate) fn look(surroundings: &Surroundings, tree: &Tree, seen: &mut Sightings) -> Known {
    let mut known = Known { environment: surroundings.variables.clone(), file: BTreeMap::new() };
    let mut look = Look { root: &surroundings.root, tree, seen, claimed: BTreeMap::new() };
    for (name, value) in &surroundings.variables {
        look.variable(name, value, Sight::Variable(name.clone()), "", Source::Environment);
    }
    look.postgres_variables(&surroundings.variables, |name| Sight::Variable(name.to_owned()));
    for file in tree.files.iter().filter(|path| is_env_file(name_of(path))) {
        let variables = look.env_file(file);
        if file == ".env" {
            known.file = variables;
        }
    }
    known
}

fn is_env_file(name: &str) -> bool {
    let ending = name.strip_prefix(".env.");
    name == ".env" || name.ends_with(".env") || ending.is_some_and(|ending| !EXAMPLES.contains(&ending))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Environment,
    File,
}

struct Look<'a> {
    root: &'a Path,
    tree: &'a Tree,
    seen: &'a mut Sightings,
    /// Where the store is that a variable names: `env:NAME` can mean only one.
    claimed: BTreeMap<String, Vec<Place>>,
}

impl Look<'_> {
    fn variable(&mut self, name: &str, value: &str, seen: Sight, folder: &str, source: Source) {
        if !holds_address(name) {
            return;
        }
        let Some(address) = address::read(value) else { return };
        if let [Place::Path(path)] = address.places.as_slice() {
            return self.database(name, path, seen, folder);
        }
        let claimed = self.claimed.entry(name.to_owned()).or_insert_with(|| address.places.clone());
        let is_claimed = *claimed != address.places;
        self.seen.stores.push(of_variable(name, &address, seen, source, is_claimed));
    }

    /// A SQLite database that a variable names.
    fn database(&mut self, name: &str, path: &str, seen: Sight, folder: &str) {
        let below = walk::below_root(self.root, Path::new(path)).or_else(|| resolve(folder, path));
        match below.filter(|path| self.tree.files.contains(path) && is_database(&self.root.join(path))) {
            Some(path) => self.seen.stores.push(SeenStore {
                engine: Engine::Sqlite,
                places: vec![Place::Path(path.clone())],
                written: Written::path(&path),
                hints: Vec::new(),
                variables: vec![name.to_owned()],
                exclude: Vec::new(),
                remarks: Vec::new(),
                seen: vec![seen],
            }),
            None => self.seen.undone.push(Undone {
                what: format!("the SQLite database that {name} names"),
                why: "it is not in this folder yet, or outside of it: give its path as a dataset's store"
                    .to_owned(),
                seen: vec![seen],
            }),
        }
    }

    /// The variables by which libpq finds a server.
    fn postgres_variables(&mut self, variables: &BTreeMap<String, String>, seen: impl Fn(&str) -> Sight) {
        let value = |name: &str| variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let Some(host) = value("PGHOST").filter(|host| !host.starts_with('/')) else { return };
        let text = format!(
            "postgres://{}{host}:{}/{}",
            value("PGUSER").map_or(String::new(), |user| format!("{user}@")),
            value("PGPORT").unwrap_or("5432"),
            value("PGDATABASE").unwrap_or_default(),
        );
        let Some(address) = address::read(&text) else { return };
        let names =
            ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE"].into_iter().filter(|name| value(name).is_some());
        self.seen.stores.push(SeenStore {
            written: Written { text: address.url(), rank: Rank::Published, remark: None },
            seen: names.map(seen).collect(),
            ..bare(&address)
        });
    }

    /// Reads an env file: gives its variables, which nobody keeps.
    fn env_file(&mut self, file: &str) -> BTreeMap<String, String> {
        let text = match read::text(&self.root.join(file), MAX_ENV_FILE) {
            Ok(text) => text,
            Err(why) => {
                self.seen.passed_over.push(PassedOver { path: file.to_owned(), why, is_missed: true });
                return BTreeMap::new();
            }
        };
        let variables = parse_env(&text);
        for (name, value) in &variables {
            self.variable(name, value, Sight::key(file, name), parent_of(file), Source::File);
        }
        self.postgres_variables(&variables, |name| Sight::key(file, name));
        if variables.keys().any(|name| is_secret(name)) {
            self.seen.undone.push(Undone {
                what: format!("the secrets in {file}"),
                why: "there is no driver for secrets yet: keep them where they outlive this host".to_owned(),
                seen: vec![Sight::Path(file.to_owned())],
            });
        }
        variables
    }
}

/// Whether a variable is named like one that holds a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Lifeboat's own variables name its repository, which is no dataset.
fn holds_address(name: &str) -> bool {
    let is_named_so = ENDINGS.iter().any(|ending| name.ends_with(ending)) || name.starts_with("MONGO");
    is_named_so && !name.starts_with("LIFEBOAT_")
}

fn of_variable(name: &str, address: &Address, seen: Sight, source: Source, is_claimed: bool) -> SeenStore {
    let mut store = SeenStore { seen: vec![seen.clone()], ..bare(address) };
    store.hints.push(slug(stem(name)));
    if is_claimed {
        store.written.remark =
            Some(format!("{name} says something else elsewhere, so the address stands here"));
        return store;
    }
    store.variables.push(name.to_owned());
    if address.engine == Engine::Bucket {
        return store;
    }
    if address.engine == Engine::Postgres && !address.is_plain {
        let remark =
            format!("{name} is written in a dialect; the password comes from PGPASSWORD or ~/.pgpass");
        store.written = Written { text: address.url(), rank: Rank::Published, remark: Some(remark) };
        return store;
    }
    let fame = FAMOUS.iter().position(|famous| *famous == name).unwrap_or(FAMOUS.len()) as u8;
    let (rank, remark) = match source {
        Source::Environment => (Rank::Environment(fame), None),
        Source::File => {
            (Rank::EnvFile(fame), Some(format!("{seen} is read here; export it before Lifeboat runs")))
        }
    };
    store.written = Written { text: format!("env:{name}"), rank, remark };
    store
}

/// A store as its address says it: without the secret, which then comes from elsewhere.
pub(crate) fn bare(address: &Address) -> SeenStore {
    SeenStore {
        engine: address.engine,
        places: address.places.clone(),
        written: Written { text: address.url(), rank: Rank::Internal, remark: None },
        hints: address.database.iter().filter(|name| !is_number(name)).map(|name| slug(name)).collect(),
        variables: Vec::new(),
        exclude: Vec::new(),
        remarks: Vec::new(),
        seen: Vec::new(),
    }
}

/// What Redis calls a database is no name.
fn is_number(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit())
}

/// What is said of an address that holds only in one place, and of its password.
pub(crate) fn address_remark(engine: Engine, within: Option<&str>) -> Option<String> {
    let place = within
        .map(|within| format!("this address holds within {within}: run Lifeboat there, or publish the port"));
    let password = "the password comes from PGPASSWORD or ~/.pgpass".to_owned();
    match engine {
        Engine::Bucket => None,
        Engine::Postgres => Some(place.map_or(password.clone(), |place| format!("{place}; {password}"))),
        _ => place,
    }
}

/// The name of a variable without its ending.
fn stem(name: &str) -> &str {
    ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

impl Written {
    /// A path below the folder.
    pub(crate) fn path(path: &str) -> Self {
        Self { text: written_path(path), rank: Rank::Path, remark: None }
    }
}

/// Lines of `NAME=value`, as shells and compose read them; what is no such line is passed over.
pub(crate) fn parse_env(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(env_line).collect()
}

fn env_line(line: &str) -> Option<(String, String)> {
    let line = line.trim().trim_start_matches("export ");
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let is_variable = !name.is_empty() && name.chars().all(is_name);
    let value = value.trim();
    let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.split_once(*quote));
    // A comment begins only behind a space: a password may hold a `#`.
    let value =
        quoted.map_or_else(|| value.split(" #").next().unwrap_or(value).trim_end(), |(inner, _)| inner);
    is_variable.then(|| (name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_files_are_read_as_shells_read_them() {
        let text = "# A=1\nexport B=2\nC = \"3 # not a comment\" # one\nD='4'\nE=pa#ss # x\n no line\n=5\nF-G=6\nH=\n";
        let read: Vec<(String, String)> = parse_env(text).into_iter().collect();
        let expected = [("B", "2"), ("C", "3 # not a comment"), ("D", "4"), ("E", "pa#ss"), ("H", "")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn references_are_filled_in() {
        let of = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let known = Known { environment: of("A", "1"), file: of("B", "2") };
        for (text, filled) in [
            ("${A}:${B}", "1:2"),
            ("$A/$B", "1/2"),
            ("${C:-3}${C-4}${C:?say it}$C", "34"),
            ("$$A", "$A"),
            ("${A", "{A"),
            ("plain", "plain"),
        ] {
            assert_eq!(known.interpolate(text), filled, "{text}");
        }
    }

    #[test]
    fn examples_are_no_env_files() {
        assert!(is_env_file(".env") && is_env_file(".env.production") && is_env_file("app.env"));
        assert!(!is_env_file(".env.example") && !is_env_file("environment"));
    }
}
