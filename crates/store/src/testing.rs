//! What the tests of this crate share.

/// Whether this process is root. Where it is not, says loudly which test was skipped.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED, needs root: {test}");
    }
    root
}
