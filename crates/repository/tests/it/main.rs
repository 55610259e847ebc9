//! What a repository promises, tested from outside. One binary, so that it is linked once.

mod checking;
mod leaders;
mod logs;
mod pruning;
mod rot;
mod snapshots;
mod support;
