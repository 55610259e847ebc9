//! Files that are data by themselves: SQLite databases, known by how they begin, and folders of uploads and the like.

use crate::found::{Engine, Sight, Undone};
use crate::naming::slug;
use crate::read;
use crate::sighting::{Place, SeenStore, Sightings, Written};
use crate::walk::{Tree, is_below, name_of, parent_of};
use std::path::Path;

/// How a SQLite database begins (<https://www.sqlite.org/fileformat.html#the_database_header>).
const MAGIC: [u8; 16] = *b"SQLite format 3\0";
/// What SQLite keeps beside a database.
const SIDECARS: &[&str] = &["-wal", "-shm", "-journal"];
/// Names of folders that hold data.
const DATA: &[&str] = &["attachments", "data", "media", "storage", "uploads"];
/// How deep such a folder may lie: further down the name is more often that of code.
const MAX_DEPTH: usize = 3;
/// Endings of code and of configuration. A folder with such files right in it is no data, whatever its name.
const CODE: &[&str] = &[
    "c", "conf", "go", "h", "java", "js", "jsx", "kt", "php", "py", "rb", "rs", "sh", "sql", "tf", "toml",
    "ts", "tsx", "yaml", "yml",
];

/// Whether a file is a SQLite database.
pub(crate) fn is_database(path: &Path) -> bool {
    read::beginning::<16>(path) == Some(MAGIC)
}

/// Looks for databases, then for folders of data.
pub(crate) fn look(root: &Path, tree: &Tree, seen: &mut Sightings) {
    let databases: Vec<&str> =
        tree.files.iter().map(String::as_str).filter(|path| is_database(&root.join(path))).collect();
    seen.stores.extend(databases.iter().map(|path| database(path)));
    let folders = data_folders(tree, seen);
    let engine_folders: Vec<String> = seen.engine_folders.iter().map(|(path, _)| path.clone()).collect();
    for (path, sight) in folders {
        seen.stores.extend(folder(tree, &path, sight, &databases, &engine_folders));
    }
    for cluster in &tree.clusters {
        if !engine_folders.iter().any(|folder| is_below(cluster, folder)) {
            seen.undone.push(Undone {
                what: format!("the data directory of a PostgreSQL server, {cluster}"),
                why: "a running server's files are not copied: make the server's URL a dataset".to_owned(),
                seen: vec![Sight::Path(cluster.clone())],
            });
        }
    }
}

fn database(path: &str) -> SeenStore {
    let name = name_of(path);
    let name_alone = name.rsplit_once('.').map_or(name, |(name, _)| name);
    SeenStore {
        engine: Engine::Sqlite,
        places: vec![Place::Path(path.to_owned())],
        written: Written::path(path),
        hints: vec![slug(name_alone), slug(&format!("{}-{name_alone}", parent_of(path)))],
        variables: Vec::new(),
        exclude: Vec::new(),
        remarks: Vec::new(),
        seen: vec![Sight::Path(path.to_owned())],
    }
}

/// Folders of data, the outermost alone: those that are named so, and those that are mounted into services.
fn data_folders(tree: &Tree, seen: &Sightings) -> Vec<(String, Vec<Sight>)> {
    let is_named_so = |path: &&String| {
        path.split('/').count() <= MAX_DEPTH && DATA.contains(&name_of(path).to_ascii_lowercase().as_str())
    };
    let named = tree.folders.iter().filter(is_named_so).map(|path| (path, Sight::Path(path.clone())));
    let mounted = seen.mounts.iter().filter(|(path, _)| tree.folders.contains(path));
    let mounted = mounted.map(|(path, sight)| (path, sight.clone()));
    let mut all: Vec<_> = named.chain(mounted).filter(|(path, _)| !holds_code(tree, path)).collect();
    all.sort();
    all.dedup();
    let mut folders: Vec<(String, Vec<Sight>)> = Vec::new();
    for (path, sight) in all {
        match folders.iter_mut().find(|(outer, _)| is_below(path, outer)) {
            Some((_, seen)) => seen.push(sight),
            None => folders.push((path.clone(), vec![sight])),
        }
    }
    folders
}

fn holds_code(tree: &Tree, folder: &str) -> bool {
    let ending = |path: &str| name_of(path).rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    tree.files_in(folder).any(|path| ending(path).is_some_and(|ending| CODE.contains(&ending.as_str())))
}

/// A folder as a dataset, without what is one by itself; none where nothing else is in it.
fn folder(
    tree: &Tree,
    path: &str,
    seen: Vec<Sight>,
    databases: &[&str],
    engine_folders: &[String],
) -> Option<SeenStore> {
    if engine_folders.iter().any(|engine| is_below(path, engine)) {
        return None;
    }
    let within: Vec<&str> = databases.iter().copied().filter(|database| is_below(database, path)).collect();
    let is_taken = |file: &str| {
        let is_of = |database: &str| {
            file.strip_prefix(database).is_some_and(|rest| rest.is_empty() || SIDECARS.contains(&rest))
        };
        within.iter().any(|database| is_of(database))
            || engine_folders.iter().any(|engine| is_below(file, engine))
    };
    let taken = tree.files_below(path).filter(|file| is_taken(file)).count();
    if taken > 0 && taken == tree.files_below(path).count() {
        return None;
    }
    let clusters = tree.clusters.iter().chain(engine_folders).filter(|inner| is_below(inner, path));
    let mut exclude: Vec<String> = clusters.map(|inner| format!("{}/", pattern(path, inner))).collect();
    for database in within {
        let pattern = pattern(path, database);
        exclude.extend(SIDECARS.iter().map(|sidecar| format!("{pattern}{sidecar}")));
        exclude.push(pattern);
    }
    exclude.sort();
    exclude.dedup();
    Some(SeenStore {
        engine: Engine::Files,
        places: vec![Place::Path(path.to_owned())],
        written: Written::path(path),
        hints: vec![slug(name_of(path)), slug(path)],
        variables: Vec::new(),
        exclude,
        remarks: Vec::new(),
        seen,
    })
}

/// The pattern that means one path in a folder, and nothing else.
fn pattern(folder: &str, path: &str) -> String {
    let below = path.strip_prefix(folder).unwrap_or(path);
    let mut pattern = String::new();
    for c in below.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '!') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_one_path() {
        assert_eq!(pattern("data", "data/a.db"), "/a.db");
        assert_eq!(pattern("data", "data/x/[a]*.db"), "/x/\\[a\\]\\*.db");
    }

    #[test]
    fn a_database_is_known_by_how_it_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        lifeboat_base::crashsafe::replace(&path, b"SQLite format 3\0and more").unwrap();
        assert!(is_database(&path));
        lifeboat_base::crashsafe::replace(&path, b"SQLite format 2\0and more").unwrap();
        assert!(!is_database(&path));
    }
}
