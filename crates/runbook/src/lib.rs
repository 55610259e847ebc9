//! Runbooks: a Markdown document that a tired person can follow by hand, and the typed graph of steps that the
//! same document compiles to (docs/runbook.md).
//!
//! [`compile`] reads a document and says everything that is wrong with it at once; what it gives is settled. Filling
//! passed values into texts is [`template`]'s.
//!
//! This crate deliberately does nothing: it reads no file, runs no command, keeps no journal and knows no person.
//! What a step means when it is carried out is the business of whoever carries it out.

mod attributes;
mod compile;
mod document;
mod fault;
mod front;
mod graph;
pub mod lint;
mod mark;
mod matter;
mod request;
mod settle;
mod step;
pub mod template;
mod values;
mod yaml;

pub use compile::{MAX_BYTES, MAX_STEPS, compile};
pub use fault::{Fault, Faults};
pub use front::{Contact, Front, Input, InputKind, Objectives};
pub use step::{
    Action, Approval, Bound, Expectation, Fact, HttpRequest, Output, Passed, Phase, Relation, Repeat, Retry,
    Role, Runbook, Source, Step, StepId, StepIdError, Undo,
};
