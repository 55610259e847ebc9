//! Hands the target `pages` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(repository, "pages");
