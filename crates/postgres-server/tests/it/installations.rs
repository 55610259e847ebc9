//! Which installations are found, and what is said where one is missing or does not work.

use crate::{again, said};
use lifeboat_base::Hint;
use lifeboat_postgres_server::testing::{test_installation, test_installations};
use lifeboat_postgres_server::{Identity, Installation, SEARCH_VARIABLE, ServerError};
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Stands in for a `postgres`: only what it says of its version counts here.
fn install(bin: &Path, script: &str) {
    fs::create_dir_all(bin).unwrap();
    fs::set_permissions(bin, Permissions::from_mode(0o755)).unwrap();
    let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(bin.join("postgres"));
    file.unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn what_is_installed_is_found_by_its_own_word() {
    for installation in test_installations() {
        let same = Installation::at(&installation.bin).unwrap();
        assert_eq!(same, installation);
        assert!(installation.version.starts_with(&installation.major.to_string()), "{installation:?}");
        // `psql` needs libraries that `postgres` does not.
        for name in ["psql", "pg_controldata", "initdb"] {
            let identity = Identity::suitable().unwrap();
            let answer = installation.command(name, &identity).arg("--version").output().unwrap();
            assert!(said(&answer).contains(&installation.version), "{name}: {answer:?}");
        }
    }
}

#[test]
fn the_variable_comes_first_and_everything_is_found_once() {
    const ASKED: &str = "LIFEBOAT_TEST_ASKED";
    if let Ok(expected) = std::env::var(ASKED) {
        let found = Installation::find(77).unwrap();
        assert_eq!((found.bin.as_path(), found.version.as_str()), (Path::new(&expected), "77.1"));
        let all = Installation::all();
        assert_eq!(all.first(), Some(&found));
        assert_eq!(all.iter().filter(|each| **each == found).count(), 1, "{all:?}");
        return;
    }
    let folder = folder();
    let (bin, link) = (folder.path().canonicalize().unwrap().join("bin"), folder.path().join("link"));
    install(&bin, "echo 'postgres (PostgreSQL) 77.1 (of a test)'");
    std::os::unix::fs::symlink(&bin, &link).unwrap();
    let search = format!("/nonexistent:{}:{}", link.display(), bin.display());
    let test = "installations::the_variable_comes_first_and_everything_is_found_once";
    let mut run = again(test, &[(SEARCH_VARIABLE, &search), (ASKED, bin.to_str().unwrap())]);
    let answer = run.output().unwrap();
    assert!(answer.status.success() && said(&answer).contains("1 passed"), "{}", said(&answer));
}

#[test]
fn a_version_that_is_missing_is_said_with_what_is_there() {
    let error = Installation::find(7).unwrap_err();
    assert!(error.to_string().starts_with("PostgreSQL 7 is not installed here ("), "{error}");
    assert!(error.hint().unwrap().contains("postgresql-7"));
    if let Some(there) = test_installation(15).filter(|found| found.bin.starts_with("/usr/lib/postgresql")) {
        assert!(
            error.to_string().contains(&format!("{} in {}", there.version, there.bin.display())),
            "{error}"
        );
    }
}

#[test]
fn what_does_not_work_is_no_installation_and_says_why() {
    let folder = folder();
    let reason = |bin: &Path| match Installation::at(bin).unwrap_err() {
        ServerError::NotAnInstallation { reason, .. } => reason,
        other => panic!("{other}"),
    };
    assert!(reason(&folder.path().join("missing")).contains("No such file"));
    assert!(reason(folder.path()).contains("No such file"));
    install(&folder.path().join("broken"), "echo 'libfoo.so is missing' >&2; exit 127");
    assert!(reason(&folder.path().join("broken")).contains("libfoo.so is missing"));
    install(&folder.path().join("other"), "echo 'mysqld 8'");
    assert!(reason(&folder.path().join("other")).contains("mysqld 8"));
}

#[test]
fn libraries_beside_a_moved_installation_are_found() {
    let folder = folder();
    let needs = |path: &str| {
        format!("case $LD_LIBRARY_PATH in *{path}*) echo 'postgres (PostgreSQL) 18.6' ;; *) exit 127 ;; esac")
    };
    for (name, libraries) in [("packed/install", "packed/some.libs"), ("plain/install", "plain/install/lib")]
    {
        let bin = folder.path().join(name).join("bin");
        install(&bin, &needs(libraries));
        Installation::at(&bin).unwrap_err();
        fs::create_dir(folder.path().join(libraries)).unwrap();
        assert_eq!(Installation::at(&bin).unwrap().version, "18.6", "{name}");
    }
}

#[test]
fn programs_that_the_servers_user_cannot_reach_are_none() {
    if !Identity::suitable().unwrap().is_other() {
        return; // Only root can reach what those it starts cannot.
    }
    let folder = folder();
    install(&folder.path().join("bin"), "echo 'postgres (PostgreSQL) 18.6'");
    Installation::at(&folder.path().join("bin")).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    let error = Installation::at(&folder.path().join("bin")).unwrap_err().to_string();
    let closed = folder.path().canonicalize().unwrap();
    assert!(error.contains(&format!("cannot enter {}", closed.display())), "{error}");
}
