//! Hands the target `sqlite_journal` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(wire_sqlite, "sqlite_journal");
