//! Hands the target `postgres_backend` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(wire_postgres, "postgres_backend");
