//! Hands the target `key` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(objects, "key");
