//! The driver against real servers of each version.

mod children;
mod fuzzing;
mod names;
mod support;
mod synchronous;
