//! Hands the target `postgres_spool` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(store_postgres, "postgres_spool");
