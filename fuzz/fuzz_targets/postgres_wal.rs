//! Hands the target `postgres_wal` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(postgres_wal, "postgres_wal");
