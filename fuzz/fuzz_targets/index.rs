//! Hands the target `index` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(repository, "index");
