//! Hands the target `bodies` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(repository, "bodies");
