//! Hands the target `names` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(repository, "names");
