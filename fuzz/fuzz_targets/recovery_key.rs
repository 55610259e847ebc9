//! Hands the target `recovery_key` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(repository, "recovery_key");
