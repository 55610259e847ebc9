//! Runs: a runbook carried out so that no crash makes it do twice what may be done once, and nobody has to guess what
//! was done.
//!
//! # How it holds together
//! - What happens is a [`Record`] of the [`journal`], appended and synced before what it is about is done. What a run
//!   is like ([`RunState`]) is derived from its records, by one function for a step and one for a run ([`status`]).
//! - An [`Executor`] begins, resumes or takes over one run, and drives it. Blocks are carried out behind [`Carry`].
//! - People agree ([`Statement`]), confirm, skip, settle, pause and abort by [`Request`]s, on the machine or through
//!   the mirror.
//! - People are told what a run waits for them for by an [`Escalation`], through whatever [`Messenger`] the house has.
//! - A run may be mirrored ([`mirror`]), and then be continued elsewhere from that alone.
//! - [`Standing`] is where we are; an [`Observer`] sees every record.
//!
//! This crate deliberately knows no store, no repository and no database: what speaks to them is carried out by
//! whoever assembled the house, and a run needs nothing but its own folder.

mod approval;
mod carry;
mod compare;
mod dry;
mod engine;
mod error;
mod escalation;
pub mod event;
mod folder;
mod heard;
mod ids;
pub mod journal;
pub mod mirror;
mod people;
mod phases;
mod requests;
mod resolve;
mod secrets;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
mod standing;
mod state;
pub mod status;
mod takeover;
mod time;

pub use approval::{NotTaken, ShownBound, Signed, Statement};
pub use carry::{Bash, Capture, Carried, Carriers, Carry, Http, Masker, Order, Stop};
pub use dry::{DryRun, Finding, Obstacle, dry_run};
pub use engine::{
    Asker, Begin, CONFIRM_WITHIN, Compile, DEFAULT_WIDTH, Executor, Finished, HEAR_EVERY, House, Key,
    Observer, Rest, Task, Threads, Until, Workers,
};
pub use error::RunError;
pub use escalation::{
    About, Contact, Escalation, Failing, Messenger, Moment, Next, NotSent, Notice, Pace, Recipient, Stage,
    Telling, Tellings, Tells, Told, ToldOf, What,
};
pub use event::{Event, Given, Heard, Record, Said};
pub use folder::{FolderError, RunFolder, Runs, Story};
pub use heard::HeardSoFar;
pub use ids::{Generation, RequestId, RequestIdError, RunId, RunIdError};
pub use people::{People, Person};
pub use phases::PhaseTimes;
pub use requests::Request;
pub use resolve::{Resolved, Value, fill};
pub use secrets::{EnvironmentAndFiles, Secrets};
pub use standing::{Irrevocable, Named, Standing, Under, Waiting};
pub use state::{Asked, RunState, StepState, Unsound};
pub use status::{Illegal, RunStatus, StepStatus};
pub use takeover::Statement as StoppedStatement;
