//! Scratch: writes a repository to a directory for a second reader. Not committed.
#![allow(dead_code, unused_crate_dependencies, missing_docs)]
#[path = "it/support.rs"]
mod support;
use lifeboat_base::Secret;
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_repository::tree::*;
use lifeboat_repository::*;
use std::sync::Arc;
use std::time::Duration;
use support::*;

fn tree(seed: u64, writer: &mut SnapshotWriter, out: &std::path::Path) -> Result<(), RepositoryError> {
    let mut files = sample(seed);
    files.insert("long.bin".to_owned(), noise(77, 5_000_000));
    let mut pages = noise(2, 512 * 2500 + 100);
    for n in 0..seed as usize * 3 {
        pages[n * 512 * 7..][..512].copy_from_slice(&noise(seed * 100 + n as u64, 512));
    }
    files.insert("app.db".to_owned(), pages);
    for n in 0..3000 {
        files.insert(format!("many/{n:05}"), format!("{n}").into_bytes());
    }
    for (path, bytes) in &files {
        let at = out.join(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, bytes).unwrap();
    }
    write_files(writer, &files)?;
    let mut hard = Entry::new("zz-hard", EntryKind::File);
    hard.content = Content::HardLink { path: b"dir/003.txt".to_vec() };
    hard.size = files["dir/003.txt"].len() as u64;
    writer.add(hard)?;
    let mut link = Entry::new("zz-link", EntryKind::Symlink);
    link.content = Content::Target { path: b"dir/\xff".to_vec() };
    link.metadata.xattrs.push(Xattr { name: b"user.x".to_vec(), value: vec![0, 1] });
    link.metadata.modified = FileTime { secs: -5, nanos: 999_999_999 };
    writer.add(link)?;
    writer.add(Entry::new("zz-pipe", EntryKind::Fifo))?;
    let data = noise(9, 30_000);
    let extents = vec![Extent { offset: 1000, length: 10_000 }, Extent { offset: 100_000, length: 20_000 }];
    let mut sparse = Entry::new("zz-sparse", EntryKind::File);
    let stored = writer.content(b"zz-sparse", extents, &mut data.as_slice())?;
    sparse.size = 200_000;
    sparse.content = stored.content;
    writer.add(sparse)?;
    let mut whole = vec![0; 200_000];
    whole[1000..11_000].copy_from_slice(&data[..10_000]);
    whole[100_000..120_000].copy_from_slice(&data[10_000..]);
    std::fs::write(out.join("zz-sparse"), whole).unwrap();
    Ok(())
}

#[test]
fn dump() {
    let Ok(root) = std::env::var("SCRATCH_DUMP") else { return };
    let root = std::path::PathBuf::from(root);
    let store = Arc::new(DirectoryStore::create(root.join("repo")).unwrap());
    let environment =
        Environment { state: Some(root.join("state")), host: "h".into(), ..Environment::default() };
    let (recovery, text) = new_recovery_lock();
    let (private, public) = EpochPrivateKey::generate();
    std::fs::write(root.join("recovery"), text.to_text().as_bytes()).unwrap();
    std::fs::write(root.join("private"), private.expose()).unwrap();
    let locks = [
        (Lock::Passphrase(passphrase()), "a".to_owned()),
        (recovery, "b".to_owned()),
        (Lock::PublicKey(public), "c".to_owned()),
        (Lock::Command(Secret::new(vec![7; 32])), "d".to_owned()),
    ];
    let options = InitOptions { lease: Duration::from_secs(5), ..small_options() };
    let repository = Arc::new(Repository::init(store, &locks, &options, environment).unwrap());
    repository.add_slot(&Lock::Passphrase(Secret::new(b"plain".to_vec())), "plain", false).unwrap();
    let mut all = Vec::new();
    for seed in 0..14 {
        let mut writer = SnapshotWriter::begin(&repository, source("data")).unwrap();
        writer.set_fact("k", seed);
        let out = root.join("expected").join(seed.to_string());
        std::fs::create_dir_all(&out).unwrap();
        tree(seed, &mut writer, &out).unwrap();
        let published = writer.finish(Metadata::default()).unwrap();
        std::fs::write(root.join("expected").join(format!("{seed}.id")), published.id.to_string()).unwrap();
        all.push(published);
        drop(SnapshotWriter::begin(&repository, source("other")).unwrap());
    }
    let signer = repository.writer().unwrap();
    repository.hold(&signer, &all[13], "why").unwrap();
    for published in &all[..10] {
        repository.forget(&signer, published, "test").unwrap();
    }
    for _ in 0..3 {
        let report =
            prune(&repository, PruneOptions { wait: Duration::from_secs(20), ..PruneOptions::default() })
                .unwrap();
        println!("{report:?}");
    }
    std::mem::forget(
        ReaderPin::take(&repository, &signer, &[all[13].snapshot.position.clone()], "read").unwrap(),
    );
}
