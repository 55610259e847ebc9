//! Hands the target `listing` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(repository, "listing");
