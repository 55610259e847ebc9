//! Files beside the database that are damaged: an error or SQLite's own answer, never another image.

use crate::image::{Database, read};
use lifeboat_store_sqlite::{Snapshot, SnapshotError};

#[test]
fn a_wal_that_changed_under_its_index_is_an_error() {
    let database = Database::new("PRAGMA journal_mode=wal");
    let writer = database.writer("fill", "wal");
    let mut wal = database.read("-wal");
    let middle = wal.len() / 2;
    wal[middle] ^= 1;
    // Written in place: the writer's handle must stay the same file.
    overwrite(&database, "-wal", &wal);
    let error = Snapshot::take(&database.path, &database.options()).unwrap_err();
    assert!(matches!(&error, SnapshotError::WalDamaged { what: "last commit", .. }), "{error:?}");
    wal[middle] ^= 1;
    overwrite(&database, "-wal", &wal);
    assert_eq!(database.take_image().count(), 400);
    drop(writer);
}

#[test]
fn shared_memory_that_nobody_keeps_is_made_anew() {
    let database = Database::new("PRAGMA journal_mode=wal");
    database.writer("fill", "wal").kill();
    for garbage in [vec![], vec![0xff; 32_768], vec![1; 50]] {
        database.put("-shm", &garbage);
        let before = database.files();
        let (image, _) = read(database.take());
        assert_eq!(image.count(), 400);
        assert!(database.files() == before);
    }
}

fn overwrite(database: &Database, suffix: &str, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(database.beside(suffix)).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}
