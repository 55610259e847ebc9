//! Fuzz targets for every parser of stored or foreign bytes, a module for each crate that has one.
//!
//! A target is a function that takes any bytes and panics where the parser breaks a promise. The same
//! functions run as properties in the tests of their crates, which include these modules by path, over the
//! same corpora (docs/fuzzing.md). This crate deliberately knows no fuzzer: `fuzz_targets/` hands them over.

pub mod objects;
pub mod postgres_wal;
pub mod repository;
pub mod runbook;
pub mod store;
pub mod store_postgres;
pub mod wire_postgres;
pub mod wire_sqlite;

/// A target by the name of its corpus.
///
/// # Panics
/// Where there is none: a name in `fuzz_targets/` is wrong.
pub fn target(targets: &[(&'static str, fn(&[u8]) -> bool)], name: &str) -> fn(&[u8]) -> bool {
    targets.iter().find(|(own, _)| *own == name).unwrap_or_else(|| panic!("no target {name}")).1
}

/// The program of one target.
#[macro_export]
macro_rules! hand_over {
    ($module:ident, $name:literal) => {
        static TARGET: std::sync::LazyLock<fn(&[u8]) -> bool> =
            std::sync::LazyLock::new(|| $crate::target($crate::$module::TARGETS, $name));
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
            TARGET(bytes);
        });
    };
}
