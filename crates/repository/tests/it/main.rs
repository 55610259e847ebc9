//! What a repository promises, tested from outside. One binary, so that it is linked once.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::print_stdout, reason = "seeds are printed")]

mod checking;
mod fuzzing;
mod leaders;
mod log_carrying;
mod log_checking;
mod log_expiring;
mod log_retiring;
mod logs;
mod pruning;
mod regressions;
mod rot;
mod run_requests;
mod runs;
mod snapshots;
mod support;
mod tips;
mod trust;
