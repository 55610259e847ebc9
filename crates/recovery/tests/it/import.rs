//! Dumps of real servers: kept as they are, refused where they are not whole, really restored.

use crate::house::{House, on_each_version, on_one_version};
use lifeboat_base::clock::Timestamp;
use lifeboat_postgres_server::Installation;
use lifeboat_postgres_server::testing::{TestCluster, test_installation};
use lifeboat_recovery::RecoveryError;
use lifeboat_recovery::import::{
    DumpQuestions, ImportError, ImportOptions, Imported, Of, import, prove_dump,
};
use lifeboat_recovery::prove::{Proof, Verdict, prove};
use lifeboat_recovery::restore::{RestoreOptions, restore};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Published, Reader};
use lifeboat_store::progress::Progress;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cluster with everything that a dump takes for granted.
fn cluster(installation: &Installation) -> TestCluster {
    let cluster = TestCluster::start(installation);
    let space = cluster.place().join("space");
    std::fs::create_dir(&space).unwrap();
    let owner = std::fs::metadata(cluster.data()).unwrap();
    use std::os::unix::fs::MetadataExt;
    std::os::unix::fs::chown(&space, Some(owner.uid()), Some(owner.gid())).unwrap();
    cluster.psql(&format!("create tablespace fast location '{}'", space.display()));
    cluster.psql(
        "create role alice; create role \"Bob B\";
         create table users (id int primary key, name text) tablespace fast;
         create table orders (id int primary key, buyer int references users, note text);
         insert into users select i, E'na\\\\me\\n' || i from generate_series(1, 500) i;
         insert into orders select i, 1 + i % 500, repeat(md5(i::text), 5) from generate_series(1, 5000) i;
         create view mine as select * from orders;
         create function f() returns text language sql as $$ select '\n\\! nothing' $$;
         select lo_from_bytea(0, decode(repeat('ab', 1000), 'hex'));
         alter table users owner to alice;
         grant select on orders to \"Bob B\";",
    );
    cluster
}

/// Dumps a cluster in a form, and packs it.
fn dump(cluster: &TestCluster, into: &Path, name: &str, form: &[&str], pack: &[&str]) -> PathBuf {
    let made = cluster.place().join(name);
    let status = cluster.command("pg_dump").args(["-U", "postgres"]).args(form).arg("-f").arg(&made).status();
    assert!(status.unwrap().success());
    let path = into.join(name);
    copy(&made, &path);
    match pack {
        [] => path,
        [program, arguments @ ..] => {
            let packed = Command::new(program).args(arguments).arg("-c").arg(&path).output().unwrap();
            assert!(packed.status.success());
            let path = into.join(format!("{name}.{}", if *program == "gzip" { "gz" } else { "zst" }));
            lifeboat_base::crashsafe::replace(&path, &packed.stdout).unwrap();
            path
        }
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn try_import(
    house: &House,
    name: &str,
    path: &Path,
    options: &ImportOptions,
) -> Result<Vec<Imported>, RecoveryError> {
    import(&house.repository, &DatasetName::new(name).unwrap(), path, options, &Progress::default())
}

fn imported(house: &House, name: &str, path: &Path, options: &ImportOptions) -> Imported {
    let mut all = try_import(house, name, path, options)
        .unwrap_or_else(|error| panic!("{}: {}", path.display(), lifeboat_base::report(&error)));
    assert_eq!(all.len(), 1);
    all.pop().unwrap()
}

fn refused(house: &House, path: &Path) -> ImportError {
    refused_by(house, path, None)
}

fn refused_by(house: &House, path: &Path, installation: Option<&Installation>) -> ImportError {
    let options = ImportOptions { installation: installation.cloned(), ..ImportOptions::default() };
    match try_import(house, "refused", path, &options) {
        Err(RecoveryError::Import(error)) => error,
        other => panic!("{}: {other:?}", path.display()),
    }
}

fn proof(house: &House, published: &Published, installation: Option<&Installation>) -> Proof {
    let reader = Reader::new(&house.repository).unwrap();
    let questions = DumpQuestions { installation: installation.cloned(), ..DumpQuestions::default() };
    prove_dump(&reader, published, house.place.path(), &questions, &Progress::default())
        .unwrap_or_else(|error| panic!("{}", lifeboat_base::report(&error)))
}

fn tree(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    if path.is_file() {
        return BTreeMap::from([(path.file_name().unwrap().into(), std::fs::read(path).unwrap())]);
    }
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into(), std::fs::read(entry.path()).unwrap())).collect()
}

fn rows(proof: &Proof) -> Vec<(String, u64)> {
    let tables = &proof.dump.as_ref().unwrap().answers.tables;
    tables.iter().map(|table| (table.table.clone(), table.rows)).collect()
}

#[test]
fn every_form_comes_back_as_it_was_and_is_proven() {
    on_each_version(|installation| {
        let house = House::new();
        let cluster = cluster(installation);
        let dumps = house.place.path().join("dumps");
        std::fs::create_dir(&dumps).unwrap();
        let forms: Vec<(&str, &[&str], &[&str], &str)> = vec![
            ("app.dump", &["-Fc"], &[], "custom"),
            ("app.folder", &["-Fd"], &[], "directory"),
            ("app.tar", &["-Ft"], &[], "tar"),
            ("app.sql", &[], &[], "plain"),
            ("named.sql", &["--quote-all-identifiers", "--inserts"], &["gzip", "-6"], "plain"),
            ("packed.sql", &["--verbose"], &["zstd", "-3", "-q"], "plain"),
            ("packed.dump", &["-Fc", "-Z0"], &["gzip"], "custom"),
        ];
        for (name, form, pack, format) in forms {
            let path = dump(&cluster, &dumps, name, form, pack);
            let dataset = name.replace('.', "-");
            let options =
                ImportOptions { installation: Some(installation.clone()), ..ImportOptions::default() };
            let one = imported(&house, &dataset, &path, &options);
            let published = &one.report.published;
            let facts = &published.snapshot.facts;
            assert_eq!((published.snapshot.store.as_str(), facts["format"].as_str()), ("pg_dump", format));
            assert!(facts["server-version"].starts_with(&installation.major.to_string()), "{facts:?}");
            assert!(facts["checked"].starts_with("read through by"), "{name}: {facts:?}");
            let from = if format == "plain" && !form.contains(&"--verbose") { Of::File } else { Of::Dump };
            assert_eq!(one.taken.from, from, "{name}: {facts:?}");
            if format != "plain" {
                assert_eq!(facts["database"], "postgres");
            }
            let reader = Reader::new(&house.repository).unwrap();
            let into = house.place.path().join(format!("back-{dataset}"));
            restore(&reader, published, &into, &RestoreOptions::default(), &Progress::default()).unwrap();
            assert!(tree(&into) == tree(&path), "{name} came back otherwise");
            let proof = proof(&house, published, Some(installation));
            assert_eq!(proof.verdict, Verdict::Proven, "{name}: {:?}", proof.reasons);
            assert_eq!(rows(&proof), [("public.orders".to_owned(), 5000), ("public.users".to_owned(), 500)]);
            let found = proof.dump.unwrap();
            assert_eq!((found.answers.foreign_keys, found.roles.len() >= 2), (1, true), "{found:?}");
        }
    });
}

#[test]
fn what_is_damaged_or_not_whole_is_refused() {
    on_each_version(|installation| {
        let house = House::new();
        let cluster = cluster(installation);
        let dumps = house.place.path().join("dumps");
        std::fs::create_dir(&dumps).unwrap();
        let whole = |name: &str, form: &[&str], pack: &[&str]| dump(&cluster, &dumps, name, form, pack);
        let damaged = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = std::fs::read(path).unwrap();
            change(&mut bytes);
            let other =
                path.with_file_name(format!("damaged-{}", path.file_name().unwrap().to_str().unwrap()));
            lifeboat_base::crashsafe::replace(&other, &bytes).unwrap();
            refused_by(&house, &other, Some(installation))
        };
        let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() * 2 / 3);
        let flip = |bytes: &mut Vec<u8>| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x55;
        };
        for path in [whole("a.dump", &["-Fc"], &[]), whole("a.tar", &["-Ft"], &[])] {
            let error = damaged(&path, &cut);
            let is_tar = path.extension().is_some_and(|extension| extension == "tar");
            let as_it_should = match error {
                ImportError::Unreadable { .. } => !is_tar,
                ImportError::Damaged { .. } => is_tar,
                _ => false,
            };
            assert!(as_it_should, "{}: {error}", path.display());
        }
        let plain = whole("a.sql", &[], &[]);
        assert!(matches!(damaged(&plain, &cut), ImportError::Truncated { .. }));
        for path in [whole("b.sql", &[], &["gzip"]), whole("c.sql", &[], &["zstd", "-q", "--check"])] {
            for error in [damaged(&path, &cut), damaged(&path, &flip)] {
                assert!(matches!(error, ImportError::Damaged { .. }), "{}: {error}", path.display());
            }
        }
        // A pipe whose pg_dump failed: gzip itself is whole.
        let failed = damaged(&plain, &|bytes| {
            bytes.truncate(bytes.len() / 2);
        });
        assert!(matches!(failed, ImportError::Truncated { .. }));
        let folder = whole("a.folder", &["-Fd"], &[]);
        let data = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let data = data
            .filter(|path| path.file_name().unwrap() != "toc.dat")
            .max_by_key(|p| p.metadata().unwrap().len());
        std::fs::remove_file(data.unwrap()).unwrap();
        assert!(matches!(refused_by(&house, &folder, Some(installation)), ImportError::Unreadable { .. }));
        let named_like_one = dumps.join("only.dump");
        lifeboat_base::crashsafe::replace(&named_like_one, b"no dump at all").unwrap();
        assert!(matches!(refused(&house, &named_like_one), ImportError::NotABackup(_)));
        let torn_head = dumps.join("torn.dump");
        lifeboat_base::crashsafe::replace(&torn_head, b"PGDMP\x01\x0e\0\x04").unwrap();
        assert!(matches!(refused(&house, &torn_head), ImportError::Head(_)));
        let kept = house.repository.snapshots(None, &mut Vec::new()).unwrap();
        assert!(kept.is_empty(), "nothing of it was kept: {kept:?}");
    });
}

#[test]
fn without_its_packing_a_second_dump_stores_little() {
    on_one_version(|installation| {
        let house = House::new();
        let cluster = cluster(installation);
        cluster.psql("create table much as select i, md5(i::text) x, md5((i * 7)::text) y from generate_series(1, 60000) i");
        let mut stored = BTreeMap::new();
        for round in ["first", "second"] {
            let path = dump(&cluster, house.place.path(), &format!("{round}.sql"), &[], &["gzip"]);
            for (name, unpack) in [("packed", false), ("unpacked", true)] {
                let options = ImportOptions { unpack, ..ImportOptions::default() };
                let one = imported(&house, name, &path, &options);
                let snapshot = &one.report.published.snapshot;
                stored.insert((name, round), snapshot.stats.new_bytes);
                assert_eq!(snapshot.facts.get("unpacked-from").map(String::as_str), unpack.then_some("gzip"));
                let proof = proof(&house, &one.report.published, Some(installation));
                assert_eq!(proof.verdict, Verdict::Proven, "{:?}", proof.reasons);
            }
            cluster.psql("update much set x = 'changed' where i = 100");
        }
        let (first, second) = (stored[&("unpacked", "first")], stored[&("unpacked", "second")]);
        assert!(first > 2 << 20 && second * 2 < first, "{stored:?}");
        assert!(stored[&("packed", "second")] * 2 > stored[&("packed", "first")], "{stored:?}");
    });
}

#[test]
fn a_proof_tells_damage_from_what_only_the_old_server_had() {
    on_one_version(|installation| {
        let house = House::new();
        let cluster = cluster(installation);
        let sql = std::fs::read_to_string(dump(&cluster, house.place.path(), "app.sql", &[], &[])).unwrap();
        let verdict = |name: &str, text: String| {
            let path = house.place.path().join(format!("{name}.sql"));
            lifeboat_base::crashsafe::replace(&path, text.as_bytes()).unwrap();
            let one = imported(&house, name, &path, &ImportOptions::default());
            let proof = proof(&house, &one.report.published, Some(installation));
            (proof.verdict, proof.reasons.join("; "))
        };
        let before_data = |extra: &str| {
            sql.replacen("SET default_tablespace", &format!("{extra}\nSET default_tablespace"), 1)
        };
        let (missing, said) = verdict("extension", before_data("CREATE EXTENSION no_such_thing;"));
        assert_eq!(missing, Verdict::Inconclusive, "{said}");
        // A row that names no user: psql stops where the key is made.
        let (broken, said) = verdict("broken", sql.replacen("\n500\tna", "\n50000\tna", 1));
        assert!(broken == Verdict::Failed && said.contains("orders_buyer_fkey"), "{said}");
        let flag = house.place.path().join("was-here");
        let (command, said) = verdict("command", before_data(&format!("\\! touch {}", flag.display())));
        assert_eq!(command, Verdict::Inconclusive, "{said}");
        assert!(!flag.exists(), "a dump ran a command");
        let unrestricted = sql.replacen("\\restrict ", "\\unrestrict ", 1);
        let (escape, said) = verdict("escape", unrestricted);
        assert_ne!(escape, Verdict::Proven, "{said}");
        let path = dump(&cluster, house.place.path(), "created.sql", &["--create"], &[]);
        let one = imported(&house, "created", &path, &ImportOptions::default());
        let created = proof(&house, &one.report.published, Some(installation));
        assert_eq!(created.verdict, Verdict::Inconclusive, "{:?}", created.reasons);
        // A role that stands where nobody looks for it.
        let (found, said) = verdict("role", before_data("COMMENT ON ROLE nobody_knows IS 'x';"));
        assert_eq!(found, Verdict::Proven, "{said}");
    });
}

#[test]
fn a_newer_server_takes_an_older_dump_and_not_the_other_way() {
    let (Some(old), Some(new)) = (test_installation(15), test_installation(18)) else { return };
    let house = House::new();
    let of = |installation: &Installation, name: &str| {
        let path = dump(&cluster(installation), house.place.path(), &format!("{name}.dump"), &["-Fc"], &[]);
        imported(&house, name, &path, &ImportOptions::default()).report.published
    };
    let (from_old, from_new) = (of(&old, "old"), of(&new, "new"));
    let upwards = proof(&house, &from_old, Some(&new));
    assert_eq!(upwards.verdict, Verdict::Proven, "{:?}", upwards.reasons);
    assert!(upwards.dump.unwrap().server.unwrap().starts_with("18"));
    let downwards = proof(&house, &from_new, Some(&old));
    assert_eq!(downwards.verdict, Verdict::Inconclusive);
    // The usual way finds one by itself; the snapshot's store says what it is.
    let reader = Reader::new(&house.repository).unwrap();
    let found = prove(&reader, &from_old, Some(house.place.path()), &[], &Progress::default()).unwrap();
    assert_eq!(found.verdict, Verdict::Proven, "{:?}", found.reasons);
}

#[test]
fn a_folder_of_backups_is_taken_thing_by_thing_as_of_its_name() {
    on_one_version(|installation| {
        let house = House::new();
        let folder = house.place.path().join("backup_20260113_100000");
        std::fs::create_dir(&folder).unwrap();
        for name in ["aragora_users.db", "aragora_debates.db"] {
            let database = rusqlite::Connection::open(folder.join(name)).unwrap();
            database.execute_batch("create table t (x); insert into t values (1), (2);").unwrap();
        }
        dump(&cluster(installation), &folder, "receipts.sql", &[], &["gzip"]);
        std::fs::remove_file(folder.join("receipts.sql")).unwrap();
        lifeboat_base::crashsafe::replace(&folder.join("NOTES"), b"by hand\n").unwrap();
        let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
        let options = ImportOptions { zone: Some(zone), ..ImportOptions::default() };
        let all = try_import(&house, "aragora", &folder, &options).unwrap();
        let found: Vec<(String, String)> = all
            .iter()
            .map(|one| (one.dataset.to_string(), one.report.published.snapshot.store.clone()))
            .collect();
        let expected = [
            ("aragora-aragora_debates", "sqlite"),
            ("aragora-aragora_users", "sqlite"),
            ("aragora-receipts", "pg_dump"),
            ("aragora", "files"),
        ];
        assert_eq!(found, expected.map(|(name, store)| (name.to_owned(), store.to_owned())));
        for one in &all {
            assert_eq!(
                one.report.published.snapshot.taken.to_string(),
                "2026-01-13T09:00:00Z",
                "{}",
                one.dataset
            );
            assert_eq!((one.taken.from, one.taken.zone.as_deref()), (Of::Name, Some("Europe/Berlin")));
            let reader = Reader::new(&house.repository).unwrap();
            let proof =
                prove(&reader, &one.report.published, Some(house.place.path()), &[], &Progress::default())
                    .unwrap();
            assert_eq!(proof.verdict, Verdict::Proven, "{}: {:?}", one.dataset, proof.reasons);
        }
        assert_eq!(all[3].report.published.snapshot.stats.files, 1, "only what is nothing of its own");
    });
}

#[test]
fn a_time_that_is_none_is_refused_and_can_be_given() {
    let house = House::new();
    let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    let options = ImportOptions { zone: Some(zone), ..ImportOptions::default() };
    for (name, is_one) in [
        ("backup_20251026_023000", false),
        ("backup_20250330_023000", false),
        ("backup_20250330_033000", true),
    ] {
        let folder = house.place.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        lifeboat_base::crashsafe::replace(&folder.join("file"), b"x").unwrap();
        let result = try_import(&house, "times", &folder, &options);
        assert_eq!(result.is_ok(), is_one, "{name}");
        if let Err(error) = result {
            assert!(matches!(error, RecoveryError::Import(ImportError::AmbiguousTime { .. })), "{error}");
        }
        let given = ImportOptions { taken: Some(Timestamp::from_secs(1_760_000_000)), ..options.clone() };
        let one = imported(&house, "times", &folder, &given);
        assert_eq!(one.report.published.snapshot.taken, Timestamp::from_secs(1_760_000_000));
    }
    let future = house.place.path().join("backup_21000101_000000");
    std::fs::create_dir(&future).unwrap();
    assert!(matches!(refused(&house, &future), ImportError::Future { .. }));
    let empty = house.place.path().join("backup_20260101_000000");
    std::fs::create_dir(&empty).unwrap();
    assert!(matches!(refused(&house, &empty), ImportError::Empty(_)));
}
