//! Hands the target `patterns` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(store, "patterns");
