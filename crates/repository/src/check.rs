//! Check: does the repository hold what it says, and if not, which snapshots and files does it cost.
//!
//! Every control object is read and judged; chains are compared with the heads that this machine has seen;
//! every pack that the index names must be there. Packs that are to be read are: their bytes against their
//! name, every chunk against its identity. What is damaged is then looked for in every snapshot. Logs are
//! checked in a module of their own, and what is to be read is said in another.

mod control;
mod logs;
mod reading;

use crate::bodies::{Roster, Slot, Tombstone};
use crate::envelope::{self, ObjectType};
use crate::error::{RepositoryError, Result};
use crate::ids::{BodyHash, BulkName, ChunkId, DatasetName, Position, WriterId};
use crate::index::{ChunkRole, Index, IndexedPack, Located, MAX_DELTA_DEPTH, Standing};
use crate::layout;
use crate::lists::Lists;
use crate::opening::read_slot;
use crate::pack::{self, BlockKind, Inflater};
use crate::pages::PageBlock;
use crate::reader::Reader;
use crate::repository::Repository;
use crate::snapshots::{Filled, Published};
use crate::state::Head;
use crate::tree::{Content, Entry, display_bytes};
use crate::trust::{Need, Trust};
use crate::walk::Reference;
use lifeboat_objects::{Key, list_all};
use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use logs::LostLog;
pub use reading::{Reading, Share};

/// How thoroughly to check.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// Which packs and logs are read, with every chunk in them.
    pub read: Reading,
    /// How many packs to read at once; each takes its size in memory and more.
    pub threads: usize,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The object, and the position within it where there is one.
    pub object: String,
    /// What is wrong.
    pub what: String,
}

/// A file that cannot be restored whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LostFile {
    /// The snapshot: its short identity and where it stands.
    pub snapshot: String,
    /// The path within it; empty for the whole snapshot.
    pub path: String,
}

/// What check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What it costs.
    pub lost: Vec<LostFile>,
    /// What it costs of the logs; each is among the problems as well.
    pub lost_logs: Vec<LostLog>,
    /// Snapshots, by where they stand, that leaders published after they had been replaced: they do not count.
    pub void: Vec<String>,
    /// Log objects that were looked at.
    pub logs: u64,
    /// Snapshots that were looked through.
    pub snapshots: u64,
    /// Packs that the index names.
    pub packs: u64,
    /// Chunks that the index names.
    pub chunks: u64,
    /// Bytes of packs and logs that were read.
    pub read_bytes: u64,
    /// Objects that nothing refers to; the next prune removes them.
    pub garbage_objects: u64,
}

impl CheckReport {
    /// Whether everything is as it should be.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.lost.is_empty() && self.lost_logs.is_empty()
    }
}

/// Tells how far a check has come: bytes read, bytes to read.
pub type CheckProgress<'p> = dyn Fn(u64, u64) + Sync + 'p;

/// Checks a repository.
///
/// # Errors
/// Only where the store cannot be listed at all: whatever can be said about single objects is in the report.
pub fn check(
    repository: &Arc<Repository>,
    options: CheckOptions,
    progress: &CheckProgress<'_>,
) -> Result<CheckReport> {
    let mut check = Check { repository, options, report: CheckReport::default() };
    check.trust()?;
    let lists = check.lists()?;
    let snapshots = check.chains()?;
    let index = check.index(&lists)?;
    if check.stops_readers()? {
        snapshots.iter().for_each(|published| check.lose_whole(&published.slot));
    }
    let bad = check.packs(&index, &lists, progress)?;
    check.snapshots(index, &bad, &snapshots)?;
    control::check(&mut check, &snapshots)?;
    logs::check(&mut check, &snapshots)?;
    check.report.lost.sort();
    check.report.lost.dedup();
    Ok(check.report)
}

/// Blocks that cannot be read, by pack and number within it, which stay what they are when the index is read
/// again.
type Bad = HashSet<(BulkName, u32)>;

/// The slots of one chain: for each snapshot its hash and its predecessor, for anything else nothing.
type Chain = BTreeMap<u64, Option<(BodyHash, Option<(u64, BodyHash)>)>>;
type Chains = BTreeMap<(DatasetName, WriterId), Chain>;

struct Check<'r> {
    repository: &'r Arc<Repository>,
    options: CheckOptions,
    report: CheckReport,
}

impl Check<'_> {
    fn problem(&mut self, object: impl ToString, what: impl ToString) {
        let problem = Problem { object: object.to_string(), what: what.to_string() };
        // The same damage is met on several ways.
        if !self.report.problems.contains(&problem) {
            self.report.problems.push(problem);
        }
    }

    /// Names a whole snapshot as lost.
    fn lose_whole(&mut self, position: &Position) {
        self.report.lost.push(LostFile { snapshot: position.to_string(), path: String::new() });
    }

    /// Takes an error about an object as a problem; others end the check.
    fn note<T>(&mut self, object: impl ToString, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(RepositoryError::Damaged { object, what }) => {
                self.problem(object, what);
                Ok(None)
            }
            Err(
                error @ (RepositoryError::RolledBack { .. }
                | RepositoryError::MissingChunk(_)
                | RepositoryError::NewerFormat { .. }),
            ) => {
                self.problem(object, error);
                Ok(None)
            }
            Err(RepositoryError::Store(error))
                if error.is_not_found() || error.kind == lifeboat_objects::ObjectErrorKind::Truncated =>
            {
                self.problem(object, lifeboat_base::report(&error));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Every roster in its place, signed and linked; every slot that the newest one lists.
    fn trust(&mut self) -> Result<()> {
        let root = self.repository.keys.root;
        let newest = self.repository.trust().roster.clone();
        let listed = list_all(&*self.repository.store, layout::ROSTER)?;
        let listed: Vec<u64> = listed.iter().filter_map(|l| layout::listed_number(&l.key)).collect();
        // What a crashed init had taken before may be gone: the first roster is the one that names no other.
        let first = listed.first().map_or(1, |first| newest.number.min(*first));
        let beyond = listed.into_iter().filter(|number| *number > newest.number);
        let mut previous: Option<Option<BodyHash>> = Some(None);
        for number in (first..=newest.number).chain(beyond) {
            let read = self.read_roster(number, &root);
            let read = self.note(layout::roster(number), read)?;
            if let Some((roster, _)) = &read
                && previous.is_some_and(|previous| previous != roster.previous)
            {
                self.problem(layout::roster(number), "it does not follow the roster before it");
            }
            previous = read.map(|(_, hash)| Some(hash));
        }
        for slot in &newest.slots {
            let read = self.read_slot(&layout::slot(&slot.id), &root);
            self.note(layout::slot(&slot.id), read)?;
        }
        Ok(())
    }

    fn read_roster(&self, number: u64, root: &crate::crypto::PublicKey) -> Result<(Roster, BodyHash)> {
        let key = layout::roster(number);
        let (kind, signed) = self.repository.unwrap(&key, &self.repository.store.get(&key)?)?;
        let roster: Roster =
            crate::bodies::decode(&signed.body).map_err(|e| RepositoryError::damaged(&key, e))?;
        let whole =
            kind == ObjectType::Roster && roster.number == number && Trust::root_signed(root, kind, &signed);
        if whole {
            Ok((roster, BodyHash::of(&signed.body)))
        } else {
            Err(RepositoryError::damaged(&key, "the root did not sign it for this place"))
        }
    }

    fn read_slot(&self, key: &Key, root: &crate::crypto::PublicKey) -> Result<Slot> {
        let slot = read_slot(&self.repository.store, key, &self.repository.id())?;
        let bytes = self.repository.store.get(key)?;
        let signed = envelope::unwrap(&bytes, None, None).map_err(|e| RepositoryError::damaged(key, e))?.1;
        if Trust::root_signed(root, ObjectType::Slot, &signed) {
            Ok(slot)
        } else {
            Err(RepositoryError::damaged(key, "the root did not sign it"))
        }
    }

    fn lists(&mut self) -> Result<Lists> {
        let lists = self.repository.read_lists();
        let lists = self.note("condemn lists and verdicts", lists)?.unwrap_or_default();
        for (kind, prefix) in
            [(ObjectType::CondemnList, layout::CONDEMNED), (ObjectType::Verdict, layout::VERDICTS)]
        {
            for listed in list_all(&*self.repository.store, prefix)? {
                let Some(number) = layout::listed_number(&listed.key) else { continue };
                let set = self.repository.read_set(kind, number);
                self.note(&listed.key, set)?;
            }
        }
        let holds = self.repository.holds();
        self.note("holds", holds)?;
        Ok(lists)
    }

    /// Whether damage so far keeps readers from restoring anything at all, however whole the packs are.
    fn stops_readers(&mut self) -> Result<bool> {
        if self.report.problems.is_empty() {
            return Ok(false);
        }
        let listing = self.repository.snapshots(None, &mut Vec::new());
        let listed = self.note("snapshots", listing)?.is_some();
        let reader = Reader::new(self.repository);
        let opened = self.note("index", reader)?.is_some();
        Ok(!listed || !opened)
    }

    /// Every slot of every chain is filled or leased, and snapshots follow one another. Gives the snapshots
    /// that are not forgotten, oldest first.
    fn chains(&mut self) -> Result<Vec<Published>> {
        let forgotten = self.forgotten()?;
        let leased = self.leased()?;
        let mut chains = Chains::new();
        let mut snapshots = Vec::new();
        for listed in list_all(&*self.repository.store, layout::SNAPSHOTS)? {
            let Some(position) = layout::position(&listed.key) else { continue };
            let slot = self.repository.slot(&position);
            let filled = self.note(&listed.key, slot)?;
            if filled.is_none() && !forgotten.contains(&position) {
                self.lose_whole(&position);
            }
            let chain = chains.entry((position.dataset.clone(), position.writer)).or_default();
            let Some(Some(Filled::Snapshot(opened))) = filled else {
                chain.insert(position.number, None);
                continue;
            };
            let in_origin_chain = opened.body.position == position;
            let own = in_origin_chain.then_some((opened.hash, opened.body.predecessor));
            chain.insert(position.number, own);
            if !forgotten.contains(&position) {
                snapshots.push(Published::new(position, *opened));
            }
        }
        for ((dataset, writer), slots) in &chains {
            self.chain(dataset, writer, slots, &forgotten, &leased);
        }
        self.heads(&chains, &forgotten)?;
        self.raise_heads(&snapshots)?;
        snapshots.sort_by_key(|published| (published.snapshot.taken, published.snapshot.position.clone()));
        Ok(snapshots)
    }

    fn chain(
        &mut self,
        dataset: &DatasetName,
        writer: &WriterId,
        slots: &Chain,
        forgotten: &BTreeSet<Position>,
        leased: &BTreeSet<Position>,
    ) {
        let at = |number| Position { dataset: dataset.clone(), writer: *writer, number };
        let highest = slots.keys().next_back().copied().unwrap_or(0);
        for number in 1..highest {
            let position = at(number);
            if !slots.contains_key(&number) && !forgotten.contains(&position) && !leased.contains(&position) {
                self.problem(
                    layout::snapshot(&position),
                    "the slot is empty, and nobody claims it: its object was lost or removed",
                );
                if held_a_snapshot(slots, number) {
                    self.lose_whole(&position);
                }
            }
        }
        for (number, own) in slots {
            let Some((_, Some((before, hash)))) = own else { continue };
            let found = slots.get(before).and_then(Option::as_ref).map(|(hash, _)| hash);
            if found.is_some_and(|found| found != hash)
                || (found.is_none() && !forgotten.contains(&at(*before)) && !slots.contains_key(before))
            {
                self.problem(
                    layout::snapshot(&at(*number)),
                    format!("its predecessor {before} is not the one that it names"),
                );
            }
        }
    }

    /// The positions that tombstones stand at, the damaged ones included: each is reported, and none makes
    /// a snapshot whose content may be gone look like one that should be whole.
    fn forgotten(&mut self) -> Result<BTreeSet<Position>> {
        let mut forgotten = BTreeSet::new();
        for listed in list_all(&*self.repository.store, layout::TOMBSTONES)? {
            let Some(position) = layout::position(&listed.key) else { continue };
            let read = self.repository.read::<Tombstone>(ObjectType::Tombstone, &listed.key, Need::Maintain);
            if let Some(opened) = self.note(&listed.key, read)?
                && opened.body.position != position
            {
                self.problem(&listed.key, "it belongs to another place");
            }
            forgotten.insert(position);
        }
        Ok(forgotten)
    }

    fn leased(&self) -> Result<BTreeSet<Position>> {
        let listed = list_all(&*self.repository.store, layout::LEASES)?;
        Ok(listed.iter().filter_map(|l| layout::lease_parts(&l.key)).map(|(position, _)| position).collect())
    }

    /// What this machine has seen at the tip of a chain must still be there, or be forgotten.
    fn heads(&mut self, chains: &Chains, forgotten: &BTreeSet<Position>) -> Result<()> {
        for (dataset, writer, number, _) in self.repository.state.chains()? {
            let position = Position { dataset: dataset.clone(), writer, number };
            let there = chains.get(&(dataset, writer)).is_some_and(|slots| slots.contains_key(&number));
            if !there && !forgotten.contains(&position) {
                self.problem(
                    layout::snapshot(&position),
                    "this machine has seen a snapshot here, and it is gone",
                );
                self.lose_whole(&position);
            }
        }
        if let Some((seen, _)) = self.repository.state.head(&Head::Roster)?
            && seen > self.repository.trust().roster.number
        {
            self.problem("roster", format!("this machine has seen number {seen}"));
        }
        Ok(())
    }

    fn raise_heads(&self, snapshots: &[Published]) -> Result<()> {
        for published in snapshots {
            let Position { dataset, writer, number } = &published.slot;
            self.repository.state.raise(&Head::Chain(dataset, writer), *number, &published.id)?;
        }
        Ok(())
    }

    fn index(&mut self, lists: &Lists) -> Result<Index> {
        let mut index = Index::default();
        let mut known = HashSet::new();
        for listed in list_all(&*self.repository.store, layout::INDEX)? {
            let Some(name) = layout::bulk_name(&listed.key).filter(|name| !lists.is_dead(name)) else {
                continue;
            };
            let read = self.repository.read_index_object(&listed.key, &name);
            let packs: Vec<IndexedPack> = self.note(&listed.key, read)?.unwrap_or_default();
            index.add(packs, &mut |name| {
                (!lists.is_dead(name) && known.insert(*name)).then_some(Standing::Present)
            });
        }
        index.sort();
        self.report.packs = index.packs.len() as u64;
        self.report.chunks = index.entries.len() as u64;
        Ok(index)
    }

    /// Every pack that the index names is there, and, where asked, holds what the index says.
    fn packs(&mut self, index: &Index, lists: &Lists, progress: &CheckProgress<'_>) -> Result<Bad> {
        let mut sizes: HashMap<BulkName, u64> = HashMap::new();
        for listed in list_all(&*self.repository.store, layout::PACKS)? {
            if let Some(name) = layout::bulk_name(&listed.key) {
                sizes.insert(name, listed.size_bytes);
            }
        }
        let mut bad = Bad::new();
        let mut to_read = Vec::new();
        for (number, info) in index.packs.iter().enumerate() {
            let size = sizes.remove(&info.name);
            let sized = size == Some(u64::from(info.size_bytes));
            match size {
                None => self.lose_pack(index, number as u32, &mut bad),
                Some(size) if !sized => self.problem(
                    layout::pack(&info.name),
                    format!("it has {size} bytes, the index says {}", info.size_bytes),
                ),
                Some(_) => {}
            }
            // What a pack of the wrong size costs shows only when it is read.
            let is_wanted = || self.options.read.takes_pack(&layout::pack(&info.name), &info.name);
            if size.is_some() && (!sized || is_wanted()) {
                to_read.push(number as u32);
            }
        }
        // The largest first: the memory that it takes then serves all others, and threads end together.
        to_read.sort_unstable_by_key(|pack| std::cmp::Reverse(index.packs[*pack as usize].size_bytes));
        self.report.garbage_objects = sizes.keys().filter(|name| !lists.is_condemned(name)).count() as u64;
        self.read_packs(index, &to_read, progress, &mut bad);
        Ok(bad)
    }

    fn lose_pack(&mut self, index: &Index, pack: u32, bad: &mut Bad) {
        let name = index.packs[pack as usize].name;
        self.problem(layout::pack(&name), "it is missing");
        bad.extend(index.blocks.iter().filter(|block| block.pack == pack).map(|block| (name, block.number)));
    }

    fn read_packs(&mut self, index: &Index, packs: &[u32], progress: &CheckProgress<'_>, bad: &mut Bad) {
        let contents = PackContents::new(index);
        let total: u64 = packs.iter().map(|p| u64::from(index.packs[*p as usize].size_bytes)).sum();
        let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
        let found = Mutex::new((Vec::new(), Vec::new()));
        let work = || {
            let mut buffers = Buffers::default();
            while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (problems, blocks) = check_pack(self.repository, index, &contents, *pack, &mut buffers);
                let size = u64::from(index.packs[*pack as usize].size_bytes);
                progress(done.fetch_add(size, Ordering::Relaxed) + size, total);
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.0.extend(problems);
                found.1.extend(blocks);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.options.threads.clamp(1, packs.len().max(1)) {
                scope.spawn(work);
            }
            work();
        });
        let (problems, blocks) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.report.problems.extend(problems);
        self.report.read_bytes = done.into_inner();
        bad.extend(blocks);
    }

    /// Every snapshot, with every reference; the files that a damaged or missing chunk costs.
    fn snapshots(&mut self, index: Index, bad: &Bad, snapshots: &[Published]) -> Result<()> {
        let reader = Reader::with_index(self.repository, Arc::new(index));
        let readable = Readable::new(&reader, bad);
        let mut seen = HashSet::new();
        // What was seen is passed over, so that once something is lost, every later snapshot may share it.
        let mut damaged = !bad.is_empty();
        for published in snapshots {
            self.report.snapshots += 1;
            let walked = reader.references(&published.snapshot, &mut seen, &mut |reference| {
                damaged |= !readable.has(&reference);
            });
            damaged |= walked.is_err();
            if damaged {
                self.name_lost_files(&readable, published);
            }
        }
        Ok(())
    }

    /// Looks through a snapshot file by file. A directory whose listing cannot be read is named itself.
    fn name_lost_files(&mut self, readable: &Readable<'_>, published: &Published) {
        let mut lost = BTreeSet::new();
        let mut links = Vec::new();
        let mut pending = vec![(Vec::new(), published.snapshot.root.clone())];
        while let Some((path, nodes)) = pending.pop() {
            for node in nodes {
                let Some(entries) = readable.entries(&node) else {
                    lost.insert(path.clone());
                    continue;
                };
                for entry in entries {
                    let below = joined(&path, &entry.name);
                    match &entry.content {
                        Content::Listing { nodes } => pending.push((below, nodes.clone())),
                        Content::HardLink { path: target } => links.push((below, target.clone())),
                        _ if !readable.has_content(&entry) => {
                            lost.insert(below);
                        }
                        _ => {}
                    }
                }
            }
        }
        let unlinked: Vec<_> =
            links.into_iter().filter(|(_, target)| is_lost(&lost, target)).map(|(path, _)| path).collect();
        let snapshot = format!("{} ({})", published.id.short(), published.slot);
        for path in lost.into_iter().chain(unlinked) {
            self.lose(&snapshot, &path);
        }
    }

    fn lose(&mut self, snapshot: &str, path: &[u8]) {
        self.report.lost.push(LostFile { snapshot: snapshot.to_owned(), path: display_bytes(path) });
        if self.report.problems.is_empty() {
            self.problem(snapshot, format!("{} cannot be restored whole", display_bytes(path)));
        }
    }
}

/// Whether an empty slot held a snapshot: the next snapshot names its predecessor. Where none can be asked,
/// the slot is taken for one.
fn held_a_snapshot(slots: &Chain, number: u64) -> bool {
    let next = slots.range(number + 1..).find_map(|(_, own)| own.as_ref());
    next.is_none_or(|(_, predecessor)| predecessor.is_some_and(|(before, _)| before >= number))
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    [directory, slash, name].concat()
}

/// Whether a path, or a directory above it, is among those that are lost.
fn is_lost(lost: &BTreeSet<Vec<u8>>, path: &[u8]) -> bool {
    let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
    above.chain([path, b"".as_slice()]).any(|path| lost.contains(path))
}

/// What of a repository can be read.
struct Readable<'r> {
    reader: &'r Reader,
    bad: &'r Bad,
    /// The reader's index, and how many times it had been read again by then.
    index: RefCell<(usize, Arc<Index>)>,
    /// For each page block of which no whole copy is left: the slots that the others hold.
    slots: RefCell<HashMap<ChunkId, HashSet<u16>>>,
}

impl<'r> Readable<'r> {
    fn new(reader: &'r Reader, bad: &'r Bad) -> Self {
        let index = RefCell::new((reader.refreshed(), reader.index()));
        Self { reader, bad, index, slots: RefCell::default() }
    }

    /// The reader's index as it is now. Asked for with every reference, so that it is taken from the reader
    /// only when it was read again since.
    fn index(&self) -> Ref<'_, Index> {
        let refreshed = self.reader.refreshed();
        if self.index.borrow().0 != refreshed {
            *self.index.borrow_mut() = (refreshed, self.reader.index());
        }
        Ref::map(self.index.borrow(), |(_, index)| &**index)
    }

    /// Whether some copy of what is referred to is in the index and not known to be bad.
    fn has(&self, reference: &Reference) -> bool {
        let index = self.index();
        match reference {
            Reference::Node(id) | Reference::Chunk(id) => {
                self.good(&index, id, ChunkRole::Bytes).next().is_some()
            }
            Reference::Leaf(id) => self.has_leaf(&index, id, MAX_DELTA_DEPTH),
            Reference::Page { block, slot, .. } => {
                self.good(&index, block, ChunkRole::Pages)
                    .any(|copy| index.block_of(copy).kind == BlockKind::Pages)
                    || self.has_slot(&index, block, *slot)
            }
        }
    }

    /// Whether a leaf is there, and the bases of its differences.
    fn has_leaf(&self, index: &Index, id: &ChunkId, depth_left: u32) -> bool {
        let stands = |base: ChunkId| depth_left > 0 && self.has_leaf(index, &base, depth_left - 1);
        self.good(index, id, ChunkRole::Leaf).any(|copy| index.base_of(copy).is_none_or(stands))
    }

    fn good<'i>(
        &'i self,
        index: &'i Index,
        id: &ChunkId,
        role: ChunkRole,
    ) -> impl Iterator<Item = &'i Located> {
        index
            .serving(id, role)
            .filter(|copy| !self.bad.contains(&(index.pack_of(copy).name, index.block_of(copy).number)))
    }

    fn has_slot(&self, index: &Index, block: &ChunkId, slot: u16) -> bool {
        let mut known = self.slots.borrow_mut();
        let slots = known.entry(*block).or_insert_with(|| {
            let mut slots = HashSet::new();
            for copy in self.good(index, block, ChunkRole::Pages) {
                let Ok(bytes) = self.reader.copy(index, copy) else { continue };
                let Ok(pages) = PageBlock::decode(&bytes) else { continue };
                slots.extend((0..pages.slots() as u16).filter(|slot| pages.page(*slot).is_some()));
            }
            slots
        });
        slots.contains(&slot)
    }

    fn entries(&self, node: &ChunkId) -> Option<Vec<Entry>> {
        if self.has(&Reference::Node(*node)) { self.reader.entries(node).ok() } else { None }
    }

    fn has_content(&self, entry: &Entry) -> bool {
        let mut whole = true;
        let walked = self
            .reader
            .content_references(entry, &mut HashSet::new(), &mut |reference| whole &= self.has(&reference));
        walked.is_ok() && whole
    }
}

/// The chunks of each block, in order, as ranges of one list: an index sorted by place instead of identity.
struct PackContents {
    by_place: Vec<u32>,
    /// Where the chunks of each block begin in `by_place`; one more at the end.
    starts: Vec<u32>,
    blocks_of: HashMap<u32, Vec<u32>>,
}

impl PackContents {
    fn new(index: &Index) -> Self {
        let (by_place, starts) = by_place(index);
        let mut blocks_of: HashMap<u32, Vec<u32>> = HashMap::new();
        for (number, block) in index.blocks.iter().enumerate() {
            blocks_of.entry(block.pack).or_default().push(number as u32);
        }
        Self { by_place, starts, blocks_of }
    }

    fn chunks<'i>(&'i self, index: &'i Index, block: u32) -> impl Iterator<Item = &'i Located> {
        let (start, end) = (self.starts[block as usize], self.starts[block as usize + 1]);
        self.by_place[start as usize..end as usize].iter().map(|n| &index.entries[*n as usize])
    }
}

/// The numbers of all entries by block and offset, and where each block begins: counted instead of compared,
/// since an index knows how many blocks it has.
fn by_place(index: &Index) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0u32; index.blocks.len() + 1];
    for entry in &index.entries {
        starts[entry.block as usize + 1] += 1;
    }
    for n in 1..starts.len() {
        starts[n] += starts[n - 1];
    }
    let (mut next, mut by_place) = (starts.clone(), vec![0; index.entries.len()]);
    for (n, entry) in index.entries.iter().enumerate() {
        let at = &mut next[entry.block as usize];
        by_place[*at as usize] = n as u32;
        *at += 1;
    }
    for block in starts.windows(2) {
        by_place[block[0] as usize..block[1] as usize].sort_unstable_by_key(|n| {
            let entry = &index.entries[*n as usize];
            (entry.offset, entry.length)
        });
    }
    (by_place, starts)
}

/// What a thread uses again and again.
#[derive(Default)]
struct Buffers {
    inflater: Inflater,
    stored: Vec<u8>,
    raw: Vec<u8>,
}

/// Reads one pack: its name, its key and table, every block, every chunk.
fn check_pack(
    repository: &Repository,
    index: &Index,
    contents: &PackContents,
    pack: u32,
    buffers: &mut Buffers,
) -> (Vec<Problem>, Vec<(BulkName, u32)>) {
    let info = &index.packs[pack as usize];
    let object = layout::pack(&info.name);
    let blocks = contents.blocks_of.get(&pack).map(Vec::as_slice).unwrap_or_default();
    let problem = |what: String| Problem { object: object.to_string(), what };
    let place = |block: &u32| (info.name, index.blocks[*block as usize].number);
    let everything = || blocks.iter().map(place).collect();
    let bytes = match repository.store.get(&object) {
        Ok(bytes) => bytes,
        Err(error) => return (vec![problem(lifeboat_base::report(&error))], everything()),
    };
    let mut problems = Vec::new();
    if BulkName::of(&bytes) != info.name {
        problems.push(problem("its bytes are not those that its name says".to_owned()));
    }
    let key = match pack::open_key(&bytes, &repository.id(), &repository.keys.epochs) {
        Ok(key) => key,
        Err(error) => {
            problems.push(problem(error.to_string()));
            return (problems, everything());
        }
    };
    if let Err(error) = pack::read_table(&bytes, &key) {
        problems.push(problem(error.to_string()));
    }
    let mut bad = Vec::new();
    for block in blocks {
        if let Err(what) = check_block(repository, index, contents, *block, &bytes, &key, buffers) {
            problems.push(problem(format!(
                "block {} at offset {}: {what}",
                index.blocks[*block as usize].number, index.blocks[*block as usize].offset
            )));
            bad.push(place(block));
        }
    }
    (problems, bad)
}

fn check_block(
    repository: &Repository,
    index: &Index,
    contents: &PackContents,
    block: u32,
    pack_bytes: &[u8],
    key: &crate::crypto::ContentKey,
    Buffers { inflater, stored, raw }: &mut Buffers,
) -> std::result::Result<(), String> {
    let info = &index.blocks[block as usize];
    let sealed = pack_bytes.get(info.offset as usize..info.offset as usize + info.stored_bytes as usize);
    let sealed = sealed.ok_or("it lies outside the pack")?;
    pack::decrypt_block_into(key, u64::from(info.number), info.kind, info.compressed, sealed, stored)
        .map_err(|e| e.to_string())?;
    let content = if info.compressed {
        inflater.inflate(stored, info.raw_bytes as usize, raw).map_err(|e| e.to_string())?;
        &*raw
    } else {
        &*stored
    };
    for entry in contents.chunks(index, block) {
        let chunk = content
            .get(entry.offset as usize..entry.offset as usize + entry.length as usize)
            .ok_or("a chunk lies outside the block")?;
        let whole = match info.kind {
            BlockKind::Data | BlockKind::Node | BlockKind::Pages => {
                repository.keys.id_key.chunk(chunk) == entry.id
            }
            BlockKind::SparsePages => PageBlock::decode(chunk).is_ok(),
            BlockKind::Delta => crate::pages::LeafDelta::decode(chunk).is_ok(),
        };
        if !whole {
            return Err(format!("chunk {} is not what its identity says", entry.id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::ChunkRecord;
    use crate::pipeline::Pipeline;
    use crate::testing;

    #[test]
    fn an_index_that_was_read_again_during_a_walk_counts() {
        let repository = testing::repository();
        let reader = Reader::new(&repository).unwrap();
        let bad = Bad::new();
        let readable = Readable::new(&reader, &bad);
        let bytes = b"stored after the index was read";
        let id = repository.keys.id_key.chunk(bytes);
        let signer = repository.writer().unwrap();
        let mut pipeline = Pipeline::new(&repository, &signer).unwrap();
        let record = ChunkRecord { id, length: bytes.len() as u32, base: None };
        pipeline.push(BlockKind::Data, 0, record, bytes).unwrap();
        pipeline.finish().unwrap();
        assert!(!readable.has(&Reference::Chunk(id)));
        reader.chunk(&id, ChunkRole::Bytes).unwrap();
        assert!(readable.has(&Reference::Chunk(id)));
    }

    #[test]
    fn differences_that_go_in_circles_ended_the_check_with_its_stack() {
        let repository = testing::repository();
        let signer = repository.writer().unwrap();
        let [one, other] = [b"one", b"two"].map(|bytes| repository.keys.id_key.chunk(bytes));
        let mut pipeline = Pipeline::new(&repository, &signer).unwrap();
        for (id, base) in [(one, other), (other, one)] {
            let record = ChunkRecord { id, length: 3, base: Some(base) };
            pipeline.push(BlockKind::Delta, 0, record, b"any").unwrap();
        }
        pipeline.finish().unwrap();
        let reader = Reader::new(&repository).unwrap();
        let bad = Bad::new();
        assert!(!Readable::new(&reader, &bad).has(&Reference::Leaf(one)));
    }
}
