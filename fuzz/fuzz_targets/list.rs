//! Hands the target `list` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(repository, "list");
