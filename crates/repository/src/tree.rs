//! Trees: what a snapshot contains, whatever store it came from.
//!
//! A snapshot is a tree of entries, so that `ls`, `diff` and `dump` work on every dataset without knowing
//! its store. A directory's listing is a list of nodes, each a chunk that holds some entries in ascending
//! byte order of their names. Where one node ends depends on the names alone, so that a change in a large
//! directory rewrites one node and not all of them.
//!
//! This module knows the encoding of entries. It knows neither how they are stored nor how a file system
//! gave them.

use crate::ids::ChunkId;
use minicbor::{Decode, Encode};

/// What kind of thing an entry is. The numbers are format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum EntryKind {
    /// A regular file.
    #[n(0)]
    File,
    /// A directory.
    #[n(1)]
    Directory,
    /// A symbolic link.
    #[n(2)]
    Symlink,
    /// A named pipe.
    #[n(3)]
    Fifo,
    /// A character device.
    #[n(4)]
    CharDevice,
    /// A block device.
    #[n(5)]
    BlockDevice,
    /// A socket. Recorded, and made again as an unbound socket.
    #[n(6)]
    Socket,
}

/// An instant of a file system: seconds since the epoch, possibly negative, and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct FileTime {
    /// Seconds since 1970-01-01T00:00:00Z.
    #[n(0)]
    pub secs: i64,
    /// Nanoseconds, 0 to 999,999,999.
    #[n(1)]
    pub nanos: u32,
}

/// One extended attribute. POSIX ACLs are among them, as `system.posix_acl_access` and `…_default`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Xattr {
    /// Its full name, with the namespace.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub name: Vec<u8>,
    /// Its value.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

/// What a file system says of an entry besides its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky (`st_mode & 0o7777`).
    #[n(0)]
    pub mode: u32,
    /// Numeric owner.
    #[n(1)]
    pub uid: u32,
    /// Numeric group.
    #[n(2)]
    pub gid: u32,
    /// Last modification of the content.
    #[n(3)]
    pub modified: FileTime,
    /// Last change of the inode. Never restored; it only tells an unchanged file.
    #[n(4)]
    pub changed: FileTime,
    /// Inode number. Tells an unchanged file, and together with `device` the names of one file.
    #[n(5)]
    pub inode: u64,
    /// The device that the inode is on.
    #[n(6)]
    pub device: u64,
    /// How many names the file had.
    #[n(7)]
    pub links: u64,
    /// For devices: the device number that the node stands for.
    #[n(8)]
    pub device_number: u64,
    /// Extended attributes, in ascending order of their names.
    #[n(9)]
    pub xattrs: Vec<Xattr>,
}

/// A run of bytes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Extent {
    /// Where it starts, in bytes.
    #[n(0)]
    pub offset: u64,
    /// How long it is, in bytes.
    #[n(1)]
    pub length: u64,
}

/// Where the bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Content {
    /// A stream cut into chunks.
    #[n(0)]
    Chunks {
        /// The chunks in order, or, with `depth` above zero, nodes that list chunks (or such nodes).
        #[n(0)]
        chunks: Vec<ChunkId>,
        /// How many levels of listing nodes lie above the chunks.
        #[n(1)]
        depth: u8,
        /// For a sparse file the extents that hold data, ascending and apart; the stream is these extents
        /// one after the other, and all else reads as zeros. Empty: one extent, the whole file.
        #[n(2)]
        extents: Vec<Extent>,
    },
    /// A database file cut into pages (docs/format.md, Page maps).
    #[n(1)]
    Pages {
        /// The size of a page in bytes. The last page may be shorter in the file, never in the map.
        #[n(0)]
        page_bytes: u32,
        /// The node at the root of the map.
        #[n(1)]
        root: ChunkId,
        /// How many levels lie between the root and the leaf nodes; zero where the root is a leaf.
        #[n(2)]
        depth: u8,
    },
    /// A directory's listing: nodes of entries, in order.
    #[n(2)]
    Listing {
        /// The nodes.
        #[n(0)]
        nodes: Vec<ChunkId>,
    },
    /// The same file as an earlier entry of this snapshot (a hard link).
    #[n(3)]
    HardLink {
        /// The path of that entry from the root, without a leading slash.
        #[cbor(n(0), with = "minicbor::bytes")]
        path: Vec<u8>,
    },
    /// The target of a symbolic link.
    #[n(4)]
    Target {
        /// As `readlink` gives it.
        #[cbor(n(0), with = "minicbor::bytes")]
        path: Vec<u8>,
    },
    /// Nothing: an empty file, a pipe, a device, a socket.
    #[n(5)]
    Nothing,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// The name: bytes, not empty, neither `.` nor `..`, without `/` and NUL. [`Entry::has_safe_name`].
    #[cbor(n(0), with = "minicbor::bytes")]
    pub name: Vec<u8>,
    /// What it is.
    #[n(1)]
    pub kind: EntryKind,
    /// The size of the content in bytes (`st_size`); zero for what has none.
    #[n(2)]
    pub size: u64,
    /// What the file system says of it.
    #[n(3)]
    pub metadata: Metadata,
    /// Where its bytes are.
    #[n(4)]
    pub content: Content,
    /// Whether it changed while it was read, so that its content is no state that the file ever had.
    #[n(5)]
    pub torn: bool,
}

impl Entry {
    /// An entry without content, to be filled in.
    pub fn new(name: impl Into<Vec<u8>>, kind: EntryKind) -> Self {
        Self {
            name: name.into(),
            kind,
            size: 0,
            metadata: Metadata::default(),
            content: Content::Nothing,
            torn: false,
        }
    }

    /// Whether the name can be created in a directory without leaving it.
    pub fn has_safe_name(&self) -> bool {
        is_safe_name(&self.name)
    }

    /// The name for people: what is not UTF-8 is escaped.
    pub fn display_name(&self) -> String {
        display_bytes(&self.name)
    }
}

/// Whether a name can be created in a directory without leaving it.
pub fn is_safe_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= 4096
        && name != b"."
        && name != b".."
        && !name.contains(&b'/')
        && !name.contains(&0)
}

/// A path or name for people: control characters and what is not UTF-8 are escaped as `\xNN`.
pub fn display_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The fewest entries of a node, unless the listing ends.
const NODE_MIN_ENTRIES: usize = 64;
/// The most entries of a node.
const NODE_MAX_ENTRIES: usize = 2048;
/// One name in this many ends a node, so that nodes hold some 300 entries.
const NODE_CUT_MODULUS: u32 = 256;

/// Collects the entries of one directory and cuts them into nodes.
#[derive(Debug, Default)]
pub struct ListingBuilder {
    entries: Vec<Vec<u8>>,
    last_name: Option<Vec<u8>>,
}

/// Entries that do not ascend, which a reader would take for damage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {:?} does not sort after {:?}", display_bytes(name), display_bytes(previous))]
pub struct OutOfOrder {
    /// The name that came too late.
    pub name: Vec<u8>,
    /// The name before it.
    pub previous: Vec<u8>,
}

impl ListingBuilder {
    /// Takes the next entry. Gives back an encoded node when one is complete.
    ///
    /// # Errors
    /// Where the name does not sort after the last one.
    pub fn push(&mut self, entry: &Entry) -> Result<Option<Vec<u8>>, OutOfOrder> {
        if let Some(previous) = &self.last_name
            && *previous >= entry.name
        {
            return Err(OutOfOrder { name: entry.name.clone(), previous: previous.clone() });
        }
        self.entries.push(encode(entry));
        let count = self.entries.len();
        let cut = (count >= NODE_MIN_ENTRIES && ends_node(&entry.name)) || count >= NODE_MAX_ENTRIES;
        self.last_name = Some(entry.name.clone());
        Ok(cut.then(|| self.take_node()))
    }

    /// Ends the listing. Gives back the last node, unless the last entry completed one or there was none.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        (!self.entries.is_empty()).then(|| self.take_node())
    }

    fn take_node(&mut self) -> Vec<u8> {
        let mut node = Vec::with_capacity(self.entries.iter().map(Vec::len).sum::<usize>() + 9);
        let mut encoder = minicbor::Encoder::new(&mut node);
        // Encoding into memory cannot fail.
        let _ = encoder.array(self.entries.len() as u64);
        for entry in self.entries.drain(..) {
            node.extend_from_slice(&entry);
        }
        node
    }
}

fn ends_node(name: &[u8]) -> bool {
    // FNV-1a: it only has to spread names evenly, and it is easy to write again from the document.
    let hash =
        name.iter().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (hash ^ (hash >> 16)).is_multiple_of(NODE_CUT_MODULUS)
}

/// A node that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The bytes are not an array of entries.
    #[error("read a node of a listing")]
    Cbor(#[from] minicbor::decode::Error),
    /// There are bytes behind the last entry.
    #[error("a node of a listing has {0} bytes too many")]
    Trailing(usize),
    /// A name that could leave its directory, or entries out of order.
    #[error("a node of a listing holds the name {:?}, which is unsafe or out of order", display_bytes(.0))]
    Name(Vec<u8>),
}

/// Reads a node of a listing: every name is safe and they ascend.
///
/// # Errors
/// Where the bytes are anything else.
pub fn decode_node(bytes: &[u8]) -> Result<Vec<Entry>, NodeError> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let entries: Vec<Entry> = decoder.decode()?;
    let trailing = bytes.len() - decoder.position();
    if trailing > 0 {
        return Err(NodeError::Trailing(trailing));
    }
    let mut previous: &[u8] = b"";
    for entry in &entries {
        if !entry.has_safe_name() || entry.name.as_slice() <= previous {
            return Err(NodeError::Name(entry.name.clone()));
        }
        previous = &entry.name;
    }
    Ok(entries)
}

fn encode(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(160);
    // Encoding into memory cannot fail.
    let _ = minicbor::encode(entry, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: impl Iterator<Item = String>) -> Vec<Vec<u8>> {
        let mut builder = ListingBuilder::default();
        let mut nodes = Vec::new();
        for name in names {
            nodes.extend(builder.push(&Entry::new(name, EntryKind::File)).unwrap());
        }
        nodes.extend(builder.finish());
        nodes
    }

    #[test]
    fn nodes_hold_the_entries_in_order() {
        let nodes = listing((0..5000).map(|n| format!("{n:06}")));
        let names: Vec<_> =
            nodes.iter().flat_map(|node| decode_node(node).unwrap()).map(|e| e.name).collect();
        assert_eq!(names.len(), 5000);
        assert!(names.is_sorted());
        assert!(nodes.len() > 5 && nodes.len() < 80, "{}", nodes.len());
    }

    #[test]
    fn one_new_name_changes_few_nodes() {
        let before = listing((0..20_000).map(|n| format!("{n:06}")));
        let after = listing(
            (0..20_000)
                .map(|n| format!("{n:06}"))
                .chain(["010000a".to_owned()])
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter(),
        );
        let changed = after.iter().filter(|node| !before.contains(node)).count();
        assert!(changed <= 2, "{changed} nodes changed");
    }

    #[test]
    fn names_that_could_escape_are_refused() {
        for name in ["", ".", "..", "a/b", "a\0b"] {
            let mut node = Vec::new();
            minicbor::encode(vec![Entry::new(name, EntryKind::File)], &mut node).unwrap();
            assert!(matches!(decode_node(&node), Err(NodeError::Name(_))), "{name:?}");
        }
    }

    #[test]
    fn order_is_checked_on_both_sides() {
        let mut builder = ListingBuilder::default();
        builder.push(&Entry::new("b", EntryKind::File)).unwrap();
        assert!(builder.push(&Entry::new("a", EntryKind::File)).is_err());
        let mut node = Vec::new();
        minicbor::encode(vec![Entry::new("b", EntryKind::File), Entry::new("a", EntryKind::File)], &mut node)
            .unwrap();
        assert!(decode_node(&node).is_err());
    }

    #[test]
    fn bytes_for_people_are_escaped() {
        assert_eq!(display_bytes(b"a\xffb\n\xc3\xa9"), "a\\xffb\\né");
    }
}
