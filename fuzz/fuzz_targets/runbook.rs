//! Hands the target `runbook` to libFuzzer.
#![no_main]

lifeboat_fuzz::hand_over!(runbook, "runbook");
