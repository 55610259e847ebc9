//! Recovery against real servers.

mod postgres;
