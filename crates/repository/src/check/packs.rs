//! Packs: that they are there, and, where they are read, that every block and chunk is what the index says.

use super::{Bad, Check, CheckProgress, Problem};
use crate::error::Result;
use crate::ids::BulkName;
use crate::index::{Index, IndexedPack, Located, Standing};
use crate::lists::Lists;
use crate::pack::{BlockKind, Inflater};
use crate::pages::PageBlock;
use crate::repository::Repository;
use crate::{layout, pack};
use lifeboat_objects::list_all;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

impl Check<'_> {
    pub(super) fn index(&mut self, lists: &Lists) -> Result<Index> {
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
    pub(super) fn packs(
        &mut self,
        index: &Index,
        lists: &Lists,
        progress: &CheckProgress<'_>,
    ) -> Result<Bad> {
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
