//! Hands the target `table` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(repository, "table");
