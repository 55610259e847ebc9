//! The reader and the targets against the real thing: PostgreSQL 15 and 18 write a log, `pg_waldump` reads it
//! beside us, and PostgreSQL itself restores to what we say.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do, the test cannot go on without")]

mod fuzzing;
mod log;
mod target;
mod waldump;
mod workload;
