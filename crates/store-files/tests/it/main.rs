//! Trees that go into a repository and come back. One binary, so that it is linked once.

mod changes;
mod leaving_out;
mod round_trip;
mod support;
