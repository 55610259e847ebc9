//! Hands the target `log` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(repository, "log");
