//! Having the disk begin before everything is written.
//!
//! What is written waits in memory until the system thinks that it is much, or until somebody waits for it. A restore
//! computes while it writes; if the disk only begins at the end, both take their time one after the other.

use std::os::fd::{AsFd, AsRawFd};

/// Lets the system begin to write out what was written into a file, and does not wait for it. It is no promise:
/// whoever needs the bytes to be durable syncs them as ever, and hears of errors then.
#[expect(unsafe_code, reason = "neither std nor rustix has this call of Linux")]
pub(crate) fn begin(file: impl AsFd) {
    // SAFETY: the call takes numbers alone, and the descriptor is open while `file` lives.
    unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
