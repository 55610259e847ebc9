//! Hands the target `envelope` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(repository, "envelope");
