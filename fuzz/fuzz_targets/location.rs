//! Hands the target `location` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(objects, "location");
