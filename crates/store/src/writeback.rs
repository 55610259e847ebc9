//! Having the disk begin before everything is written.
//!
//! What is written waits in memory until the system thinks that it is much, or until somebody waits for it. A restore
//! computes while it writes; if the disk only begins at the end, both take their time one after the other.

use rustix::fs::{Advice, fadvise};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::AsFd;

/// Lets the system begin to write out a part of a file that has just been written, and does not wait for it. Linux
/// does so where it is told that the part is not needed soon; of that it drops only what is on the disk already, so
/// nothing of what was just written. It is no promise: whoever needs the bytes to be durable syncs them as ever, and
/// hears of errors then.
pub(crate) fn begin(file: impl AsFd, part: &Range<u64>) {
    if let Some(length) = NonZeroU64::new(part.end.saturating_sub(part.start)) {
        // A file system that does not know the call begins when it pleases.
        let _ = fadvise(file, part.start, Some(length), Advice::DontNeed);
    }
}
