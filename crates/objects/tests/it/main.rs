//! The stores as their users see them: the conformance suite on every one of them, and their bad days.
//!
//! One binary, so that there is one link step. What needs S3 runs against a real SeaweedFS
//! (`scripts/test-tools.sh` installs it) and fails without one, unless `LIFEBOAT_SKIP_S3=1`.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do, the test cannot go on without")]

mod alone;
mod conformance;
mod directory;
mod fuzzing;
mod property;
mod s3;
