//! Hands the target `sqlite_header` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(wire_sqlite, "sqlite_header");
