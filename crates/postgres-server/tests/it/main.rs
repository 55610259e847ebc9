//! Real servers of every version that tests run against: found, started, stopped, killed, and never left behind.

mod clusters;
