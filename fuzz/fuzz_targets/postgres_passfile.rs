//! Hands the target `postgres_passfile` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(wire_postgres, "postgres_passfile");
