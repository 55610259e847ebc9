//! Hands the target `sqlite_wal_index` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(wire_sqlite, "sqlite_wal_index");
