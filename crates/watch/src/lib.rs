//! Objectives against reality: what would be lost now, how long getting back would take, and how bad that is.
//!
//! Pure judgement. Whoever assembles the house observes ([`observe`]) and says what time it is; [`report::judge`]
//! makes one [`report::Report`] of it, which is shown as JSON, as a table ([`render`]), as metrics ([`metrics`]) and
//! as an exit code. Lack of news is never `ok`: what was not observed is `unknown`, and silence has a reason.
//!
//! It does no I/O and asks for no time, and deliberately knows no store, no repository, no schedule and no plan file.

pub mod exposure;
pub mod forecast;
pub mod health;
pub mod metrics;
pub mod observe;
pub mod reason;
pub mod render;
pub mod report;
pub mod stream;
mod time;

pub use reason::{Reason, State};
pub use report::{Report, judge};
