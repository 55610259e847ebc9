//! Runbooks: a Markdown document that a tired person can follow by hand, and the typed graph of steps that the
//! same document compiles to.
//!
//! This crate deliberately does nothing: it reads no file, runs no command, keeps no journal and knows no person.
//! What a step means when it is carried out is the business of whoever carries it out.

mod step;

pub use step::{
    Action, Approval, Bound, Expectation, Fact, HttpRequest, Output, Passed, Phase, Relation, Repeat, Retry,
    Role, Runbook, Source, Step, StepId, StepIdError, Undo,
};
