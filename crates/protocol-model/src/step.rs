//! One step of one actor, and how it reads in words.

use std::fmt;

use crate::config::{Content, MAX_ATTEMPTS, MAX_INITIAL, MAX_RUNS};
use crate::set::Set;
use crate::store::SLOTS;

/// Who takes a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actor {
    /// A writer, by number.
    Writer(usize),
    /// A pruner, by number.
    Pruner(usize),
    /// Requests under way, and deletions, which any pruner may carry out at any time after a verdict.
    Store,
    /// Whoever forgets snapshots and places holds.
    Operator,
}

/// What is done: at most one request to the store. The fields say to what, or what was seen.
#[expect(missing_docs, reason = "the fields are named for what they hold, and every variant is described")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// A lease is created for a slot.
    Lease { slot: u8 },
    /// The condemn lists are read.
    ReadLists { lists: Set },
    /// The verdicts are read.
    ReadVerdicts { verdicts: Set },
    /// The base's tombstone is looked for, after the lease that names the base.
    LookAtBase { forgotten: bool },
    /// The writer reads the index and decides what to upload.
    Compare { missing: Set, content: Content },
    /// A bulk object is uploaded, and the answer comes.
    Put { object: u8 },
    /// A bulk object is sent, and no answer comes.
    PutHangs { object: u8 },
    /// A bulk object, sent long ago, comes to exist.
    Lands { object: u8 },
    /// The snapshot is created at its slot.
    Publish { slot: u8 },
    /// The snapshot's creation is sent, and no answer comes.
    PublishHangs { slot: u8 },
    /// A snapshot's creation, sent long ago, finds its slot free.
    SnapshotLands { slot: u8 },
    /// A snapshot's creation, sent long ago, finds its slot filled.
    SnapshotFails { slot: u8 },
    /// The writer finds its slot void.
    FindVoid { slot: u8 },
    /// The writer gives up and releases its slot.
    Release { slot: u8 },
    /// The writer is killed and starts again with nothing in memory.
    Restart,
    /// The pruner reads lists and verdicts and decides which number to work on.
    Look { number: u8, help: bool },
    /// A condemn list is created.
    Open { number: u8, list: Set },
    /// A condemn list of that number existed already.
    OpenLost { number: u8 },
    /// The leases are listed.
    ListLeases { open: Set },
    /// A lease is judged lapsed, and its slot is filled.
    Void { slot: u8 },
    /// Snapshots and tombstones are read.
    ReadSnapshots { live: Set },
    /// Leases and holds are read for what they pin.
    ReadPins { live: Set },
    /// The pruner reads the index and decides upon its verdict.
    Plan { content: Content, entries: Set, verdict: Set },
    /// A verdict is created.
    Decide { number: u8, verdict: Set },
    /// A verdict of that number existed already.
    DecideLost { number: u8 },
    /// A dead object is deleted.
    Delete { object: u8 },
    /// A tombstone is created.
    Forget { snapshot: u8 },
    /// A hold is created.
    Hold,
    /// The holder looks for a tombstone.
    CheckHold { effective: bool },
}

/// One step of one actor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Who.
    pub actor: Actor,
    /// What.
    pub deed: Deed,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.actor, self.deed)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Writer(number) => write!(f, "writer {number}"),
            Actor::Pruner(number) => write!(f, "pruner {number}"),
            Actor::Store => f.write_str("the store"),
            Actor::Operator => f.write_str("the operator"),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Deed::Lease { slot } => write!(f, "takes a lease on {}", SlotName(slot)),
            Deed::ReadLists { lists } => write!(f, "reads the condemn lists: {}", Numbers(lists)),
            Deed::ReadVerdicts { verdicts } => write!(f, "reads the verdicts: {}", Numbers(verdicts)),
            Deed::LookAtBase { forgotten: true } => f.write_str("finds its base forgotten"),
            Deed::LookAtBase { forgotten: false } => f.write_str("finds its base still there"),
            Deed::Compare { missing, .. } if missing.is_empty() => {
                f.write_str("reads the index and finds every chunk present")
            }
            Deed::Compare { missing, content } => {
                write!(f, "reads the index, misses {} and will upload {content}", Chunks(missing))
            }
            Deed::Put { object } => write!(f, "uploads {}", BulkName(object)),
            Deed::PutHangs { object } => write!(f, "sends {} and gets no answer", BulkName(object)),
            Deed::Lands { object } => write!(f, "carries out a late upload of {}", BulkName(object)),
            Deed::Publish { slot } => write!(f, "publishes its snapshot at {}", SlotName(slot)),
            Deed::PublishHangs { slot } => {
                write!(f, "sends its snapshot for {} and gets no answer", SlotName(slot))
            }
            Deed::SnapshotLands { slot } => {
                write!(f, "carries out a late creation of the snapshot at {}", SlotName(slot))
            }
            Deed::SnapshotFails { slot } => {
                write!(f, "refuses a late creation of the snapshot at {}, which is filled", SlotName(slot))
            }
            Deed::FindVoid { slot } => write!(f, "finds {} void", SlotName(slot)),
            Deed::Release { slot } => write!(f, "gives up and releases {}", SlotName(slot)),
            Deed::Restart => f.write_str("is killed and starts again with an empty memory"),
            Deed::Look { number, help: true } => write!(f, "finds list {} without a verdict", number + 1),
            Deed::Look { number, help: false } => write!(f, "decides to open list {}", number + 1),
            Deed::Open { number, list } => write!(f, "creates list {}: {}", number + 1, Objects(list)),
            Deed::OpenLost { number } => write!(f, "finds that list {} exists, and reads it", number + 1),
            Deed::ListLeases { open } if open.is_empty() => {
                f.write_str("lists the leases and has none to wait for")
            }
            Deed::ListLeases { open } => write!(f, "lists the leases and waits for {}", Slots(open)),
            Deed::Void { slot } => write!(f, "judges the lease on {} lapsed and fills it", SlotName(slot)),
            Deed::ReadSnapshots { live } => write!(f, "reads the snapshots, live so far: {}", Chunks(live)),
            Deed::ReadPins { live } => write!(f, "reads what is pinned, live so far: {}", Chunks(live)),
            Deed::Plan { content, entries, verdict } => {
                f.write_str("reads the index")?;
                if !content.is_empty() {
                    write!(f, ", will upload {content}")?;
                }
                if !entries.is_empty() {
                    write!(f, ", will name {} in a new index object", Objects(entries))?;
                }
                write!(f, ", wants the verdict {}", Objects(verdict))
            }
            Deed::Decide { number, verdict } => {
                write!(f, "creates verdict {}: {}", number + 1, Objects(verdict))
            }
            Deed::DecideLost { number } => {
                write!(f, "finds that verdict {} exists, and discards its own", number + 1)
            }
            Deed::Delete { object } => write!(f, "deletes {} for some pruner", BulkName(object)),
            Deed::Forget { snapshot } => write!(f, "forgets {}", SlotName(snapshot)),
            Deed::Hold => f.write_str("places a hold on the first snapshot"),
            Deed::CheckHold { effective: true } => f.write_str("sees no tombstone: the hold is effective"),
            Deed::CheckHold { effective: false } => f.write_str("sees a tombstone: the hold failed"),
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = Set::of(u32::from(self.full));
        let delta = Set::of(u32::from(self.delta));
        match (full.is_empty(), delta.is_empty()) {
            (_, true) => write!(f, "{}", Chunks(full)),
            (true, false) => write!(f, "{} as delta", Chunks(delta)),
            (false, false) => write!(f, "{}, and {} as delta", Chunks(full), Chunks(delta)),
        }
    }
}

/// A bulk object's name in words.
pub(crate) struct BulkName(pub(crate) u8);

impl fmt::Display for BulkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.0 < 16 { "pack" } else { "index object" };
        let at = usize::from(self.0 % 16);
        let of_writers = at.wrapping_sub(MAX_INITIAL);
        let of_pruners = of_writers.wrapping_sub(2 * MAX_ATTEMPTS);
        if at < MAX_INITIAL {
            write!(f, "initial {kind} {at}")
        } else if of_writers < 2 * MAX_ATTEMPTS {
            let (writer, attempt) = (of_writers / MAX_ATTEMPTS, of_writers % MAX_ATTEMPTS);
            write!(f, "{kind} {attempt} of writer {writer}")
        } else {
            let (pruner, run) = (of_pruners / MAX_RUNS, of_pruners % MAX_RUNS);
            write!(f, "{kind} {run} of pruner {pruner}")
        }
    }
}

/// A slot, or a snapshot by the slot that it fills, in words.
pub(crate) struct SlotName(pub(crate) u8);

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::from(self.0).checked_sub(SLOTS) {
            Some(initial) => write!(f, "initial snapshot {initial}"),
            None => {
                let (writer, attempt) =
                    (usize::from(self.0) / MAX_ATTEMPTS, usize::from(self.0) % MAX_ATTEMPTS);
                write!(f, "slot {attempt} of writer {writer}")
            }
        }
    }
}

/// Writes the members of `set`, or `none`, separated by commas.
fn join<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    set: Set,
    none: &str,
    name: impl Fn(u8) -> T,
) -> fmt::Result {
    if set.is_empty() {
        return f.write_str(none);
    }
    for (at, item) in set.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(f, "{comma}{}", name(item))?;
    }
    Ok(())
}

struct Objects(Set);

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, self.0, "nothing", BulkName)
    }
}

struct Slots(Set);

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, self.0, "nothing", SlotName)
    }
}

struct Chunks(Set);

impl fmt::Display for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, self.0, "no chunks", |chunk| format!("chunk {chunk}"))
    }
}

struct Numbers(Set);

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, self.0, "none", |number| number + 1)
    }
}
