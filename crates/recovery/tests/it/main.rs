//! Recovery against real servers.

mod bad_days;
mod clusters;
mod house;
mod postgres;
mod refused;
mod timelines;
