//! Where a log ends, and why: the rest of a segment that was never written looks like damage, and only the
//! reason tells one from the other.

use crate::page::{PageSize, Version};
use crate::position::{Lsn, SegmentSize, SystemId, TimelineId};
use lifeboat_base::Hint;

/// The place behind the last record that is whole, and what is wrong with what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log ends at {at}: {reason}")]
pub struct End {
    /// Where the next record would begin.
    pub at: Lsn,
    /// Why it does not.
    pub reason: EndReason,
}

/// Why a log goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// Every byte was taken, and the last one ends a record.
    #[error("there are no more bytes")]
    Exhausted,
    /// Every byte was taken, in the middle of a record or of the header of a page.
    #[error("there are no more bytes, and the last record is not whole")]
    Torn,
    /// Zeros: never written.
    #[error("only zeros follow")]
    Zeros,
    /// No page of a log that is read begins so.
    #[error("a page begins with {found:#06X}, as none of PostgreSQL 15 to 18 does")]
    PageMagic {
        /// How it begins.
        found: u16,
    },
    /// The page is of another version than those before.
    #[error("a page is of PostgreSQL {found}, and those before are of {expected}")]
    PageVersion {
        /// Of those before.
        expected: Version,
        /// Of this one.
        found: Version,
    },
    /// The page says that it is elsewhere: what a segment holds that was used before and renamed.
    #[error("a page says that it is at {found}")]
    PageAddress {
        /// Where it says it is.
        found: Lsn,
    },
    /// The page has flags that no version knows.
    #[error("a page has the unknown flags {found:#06X}")]
    PageFlags {
        /// Its flags.
        found: u16,
    },
    /// The page is of a timeline that this place does not belong to.
    #[error("a page is of timeline {found}, where the history says {expected}")]
    PageTimeline {
        /// What the history says.
        expected: TimelineId,
        /// What the page says.
        found: TimelineId,
    },
    /// A segment begins without saying whose it is.
    #[error("a segment begins with a page that does not say whose log it is")]
    NoSegmentHeader,
    /// The log of another cluster.
    #[error("the segment is of the cluster {found}, not of {expected}")]
    System {
        /// The cluster that is being read.
        expected: SystemId,
        /// Whose the segment is.
        found: SystemId,
    },
    /// Segments of another size.
    #[error("the segment says that it has {found} bytes, not {}", expected.bytes())]
    SegmentSize {
        /// The size that the reader was given.
        expected: SegmentSize,
        /// What the segment says.
        found: u32,
    },
    /// A server built with pages of another size.
    #[error("the server was built with log pages of {found} bytes, not {}", expected.bytes())]
    PageSize {
        /// The size that the reader was given.
        expected: PageSize,
        /// What the segment says.
        found: u32,
    },
    /// A page does not begin with the rest of the record that it should begin with.
    #[error("a page does not go on with the record of the page before")]
    NoContinuation,
    /// A page begins with the rest of a record that did not begin.
    #[error("a page goes on with a record that did not begin")]
    UnexpectedContinuation,
    /// The reading began at a place where no record can begin.
    #[error("no record can begin here")]
    NoBoundary,
    /// A length that no record has.
    #[error("a record says that it has {found} bytes")]
    RecordLength {
        /// The length.
        found: u32,
    },
    /// A resource manager that cannot exist.
    #[error("a record is of the resource manager {found}, which cannot exist")]
    Manager {
        /// Its number.
        found: u8,
    },
    /// A record that does not follow the one before.
    #[error("a record says that the one before it is at {found}")]
    Previous {
        /// What it says.
        found: Lsn,
    },
    /// A record whose bytes are not those that were written.
    #[error("a record has the checksum {computed:08X} and should have {stored:08X}")]
    Crc {
        /// What it should have.
        stored: u32,
        /// What it has.
        computed: u32,
    },
    /// The history says that another timeline begins here, and the records go on with the old one.
    #[error("timeline {expected} should begin here, and the records are those of the timeline before")]
    NoTimelineSwitch {
        /// The timeline that should begin.
        expected: TimelineId,
    },
}

impl EndReason {
    /// Whether a log that is still being written, or a segment that was not filled, can look so: zeros, what a
    /// segment held when it was last used, or a write that did not come whole. Anything else is never that.
    pub const fn is_ordinary(&self) -> bool {
        matches!(
            self,
            Self::Exhausted
                | Self::Torn
                | Self::Zeros
                | Self::PageAddress { .. }
                | Self::PageTimeline { .. }
                | Self::NoContinuation
                | Self::UnexpectedContinuation
                | Self::RecordLength { .. }
                | Self::Manager { .. }
                | Self::Previous { .. }
                | Self::Crc { .. }
        )
    }
}

impl Hint for End {
    fn hint(&self) -> Option<String> {
        let hint = match self.reason {
            EndReason::PageSize { found, .. } => format!(
                "This server was built with --with-wal-blocksize={}; only the size of the default build is \
                 served unless another one is configured.",
                found >> 10
            ),
            EndReason::PageMagic { .. } => {
                "PostgreSQL 15 to 18 on little-endian machines are served; check the server's version.".into()
            }
            EndReason::System { .. } => {
                "The server behind this address is another one than before; protect it as a dataset of its own.".into()
            }
            EndReason::PageTimeline { .. } | EndReason::NoTimelineSwitch { .. } => {
                "Check that the segment is of the timeline that is to be restored, and not of the one that it left."
                    .into()
            }
            _ => return None,
        };
        Some(hint)
    }
}
