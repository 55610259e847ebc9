//! Proof, of databases that the real SQLite made, whole and damaged.

use super::*;

/// A database made by `sql`, and where it lies.
fn database(sql: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("restored 100%?.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    (directory, path)
}

fn names(questions: &Questions) -> Vec<(&str, TableKind, u64)> {
    questions.tables.iter().map(|table| (table.name.as_str(), table.kind, table.rows)).collect()
}

#[test]
fn every_kind_of_table_is_read() {
    let (directory, path) = database(
        "PRAGMA journal_mode=wal;
         CREATE TABLE plain(id INTEGER PRIMARY KEY AUTOINCREMENT, x, y AS (x || '!'));
         CREATE INDEX by_x ON plain(x); CREATE VIEW seen AS SELECT x FROM plain;
         CREATE TABLE keyed(a TEXT, b, PRIMARY KEY(a, b)) WITHOUT ROWID;
         CREATE TABLE \"odd \"\" name\"(rowid, oid, _rowid_);
         CREATE VIRTUAL TABLE words USING fts5(body); CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1);
         INSERT INTO plain(x) VALUES('a'), (2), (3.5), (x'00'), (NULL);
         INSERT INTO keyed VALUES('k', 1), ('k', 2); INSERT INTO \"odd \"\" name\" VALUES(1, 2, 3);
         INSERT INTO words VALUES('hello world'); INSERT INTO boxes VALUES(1, 0, 1);",
    );
    let before = std::fs::read(&path).unwrap();
    let questions = question(&path).unwrap();
    assert_eq!(questions.verdict(), Verdict::Proven, "{questions:?}");
    let found = names(&questions);
    for expected in [
        ("plain", TableKind::Ordinary, 5),
        ("sqlite_sequence", TableKind::Ordinary, 1),
        ("keyed", TableKind::WithoutRowid, 2),
        ("odd \" name", TableKind::Ordinary, 1),
        ("words", TableKind::Virtual, 1),
        ("words_content", TableKind::Shadow, 1),
        ("boxes", TableKind::Virtual, 1),
    ] {
        assert!(found.contains(&expected), "{expected:?} not in {found:?}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before, "asking changed the database");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "asking left a file");
}

#[test]
fn vacuum_and_the_order_of_rows_change_nothing_and_a_value_does() {
    let make = |sql: &str| {
        let (_directory, path) = database(&format!("CREATE TABLE t(x, y); CREATE INDEX i ON t(x, y); {sql}"));
        question(&path).unwrap()
    };
    let one = make("INSERT INTO t VALUES(1, 'a'), (2, 'b'), (3, 'c');");
    let other =
        make("INSERT INTO t VALUES(9, 9), (3, 'c'), (1, 'a'), (2, 'b'); DELETE FROM t WHERE x=9; VACUUM;");
    assert_eq!(one, other);
    let changed = make("INSERT INTO t VALUES(1, 'a'), (2, 'b'), (3, 'd');");
    assert_eq!(one.schema, changed.schema);
    assert_ne!(one.tables[0].checksum, changed.tables[0].checksum);
}

#[test]
fn the_schema_hash_sees_what_no_row_shows() {
    let (_kept, one) = database("CREATE TABLE t(x)");
    let one = question(&one).unwrap().schema;
    assert_eq!(one.objects, 1);
    let (_kept, other) =
        database("CREATE TABLE t(x); CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END");
    let other = question(&other).unwrap().schema;
    assert_eq!(other.objects, 2);
    assert_ne!(one.hash, other.hash);
    let missing = question(Path::new("/nowhere/at/all.db")).unwrap_err();
    assert!(matches!(missing, ProofError::Io { .. }) && missing.hint().is_some());
}

#[test]
fn foreign_keys_that_lead_nowhere_are_a_doubt() {
    let (_directory, path) = database(
        "PRAGMA foreign_keys=off; CREATE TABLE p(id INTEGER PRIMARY KEY);
         CREATE TABLE c(x REFERENCES p(id)); INSERT INTO c VALUES(1), (2), (NULL);",
    );
    let questions = question(&path).unwrap();
    assert_eq!(questions.verdict(), Verdict::Inconclusive);
    let [Doubt::ForeignKeys { violations: 2, first }] = questions.doubts.as_slice() else {
        panic!("{questions:?}");
    };
    assert_eq!(first[0], "c 1 → p");
}

#[test]
fn what_only_the_application_has_is_a_doubt_and_the_rest_is_still_asked() {
    let (_directory, path) = database("CREATE TABLE plain(x); INSERT INTO plain VALUES(1);");
    let connection = Connection::open(&path).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    connection
        .execute_batch(
            "PRAGMA writable_schema=on;
             INSERT INTO sqlite_schema VALUES('table','v','v',0,'CREATE VIRTUAL TABLE v USING nobody_has_it(1)');
             PRAGMA writable_schema=off;",
        )
        .unwrap();
    drop(connection);
    let questions = question(&path).unwrap();
    assert_eq!(questions.verdict(), Verdict::Inconclusive, "{questions:?}");
    assert!(
        matches!(&questions.doubts[..], [Doubt::VirtualTable { table, error }]
        if table == "v" && error.contains("no such module")),
        "{questions:?}"
    );
    assert_eq!(names(&questions), [("plain", TableKind::Ordinary, 1)]);
}

#[test]
fn an_unknown_collation_is_a_doubt_and_the_other_tables_are_checked() {
    let (_directory, path) = database(
        "CREATE TABLE odd(x TEXT COLLATE nocase); CREATE INDEX i ON odd(x); INSERT INTO odd VALUES('a'), ('b');
         CREATE TABLE plain(x); CREATE INDEX j ON plain(x); INSERT INTO plain VALUES(1);",
    );
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA writable_schema=on; UPDATE sqlite_schema SET sql=replace(sql, 'nocase', 'theirs'); PRAGMA writable_schema=off",
        )
        .unwrap();
    drop(connection);
    let questions = question(&path).unwrap();
    assert_eq!(questions.verdict(), Verdict::Inconclusive, "{questions:?}");
    assert!(questions.doubts.iter().any(|doubt| doubt.to_string().contains("theirs")), "{questions:?}");
    assert_eq!(names(&questions), [("odd", TableKind::Ordinary, 2), ("plain", TableKind::Ordinary, 1)]);
}

#[expect(clippy::disallowed_methods, reason = "a file that a test throws away")]
fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_a_fault_wherever_it_is() {
    let (_directory, path) = database(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x UNIQUE);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000)
         INSERT INTO t SELECT i, hex(randomblob(20)) FROM n;",
    );
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(question(&path).unwrap().verdict(), Verdict::Proven);
    for page in 0..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0xa5);
        put(&path, &damaged);
        let questions = question(&path).unwrap();
        assert_eq!(questions.verdict(), Verdict::Failed, "page {}: {questions:?}", page + 1);
    }
    put(&path, &whole[..whole.len() / 2]);
    assert_eq!(question(&path).unwrap().verdict(), Verdict::Failed);
    put(
        &path,
        b"not a database, whatever its name says, and longer than a header has to be, by a little, at least",
    );
    assert_eq!(question(&path).unwrap().verdict(), Verdict::Failed);
}

#[test]
fn an_index_that_misses_a_row_is_a_fault() {
    let (_directory, path) =
        database("CREATE TABLE t(x); CREATE INDEX i ON t(x); INSERT INTO t VALUES(1), (2);");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA writable_schema=on;
             CREATE TEMP TABLE root AS SELECT rootpage FROM sqlite_schema WHERE name='i';
             DELETE FROM sqlite_schema WHERE name='i'; PRAGMA writable_schema=reset;
             INSERT INTO t VALUES(3); PRAGMA writable_schema=on;
             INSERT INTO sqlite_schema SELECT 'index','i','t',rootpage,'CREATE INDEX i ON t(x)' FROM temp.root;",
        )
        .unwrap();
    drop(connection);
    let questions = question(&path).unwrap();
    assert_eq!(questions.verdict(), Verdict::Failed, "{questions:?}");
    assert!(questions.faults[0].to_string().contains("index i"), "{questions:?}");
}

#[test]
fn an_empty_file_is_an_empty_database() {
    let (_directory, path) = database("");
    put(&path, b"");
    let questions = question(&path).unwrap();
    assert_eq!(questions.verdict(), Verdict::Proven);
    assert_eq!((questions.schema.objects, questions.rows()), (0, 0));
}

#[test]
fn what_is_in_a_wal_beside_it_counts() {
    let directory = tempfile::tempdir().unwrap();
    let live = directory.path().join("live.db");
    let connection = Connection::open(&live).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES(1), (2)")
        .unwrap();
    let restored = directory.path().join("restored.db");
    put(&restored, &std::fs::read(&live).unwrap());
    put(&beside(&restored, "-wal"), &std::fs::read(beside(&live, "-wal")).unwrap());
    assert_eq!(question(&restored).unwrap().rows(), 2);
}
