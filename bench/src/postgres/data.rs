//! The database that is measured: what does not compress, and pgbench's tables; its change; its pages.

use super::server::{Programs, Running};
use crate::draw::Draw;
use crate::error::BenchError;
use crate::measure;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Rows of the table that does not compress, at full scale: some 1.6 GB.
const NOISE_ROWS: u64 = 1_350_000;
/// pgbench's scale at full scale: some 0.7 GB.
const PGBENCH_SCALE: u64 = 45;
/// So many hashes of 64 bytes are the payload of a row: below what would be moved out of line.
const HASHES_A_ROW: u32 = 15;
/// Rows of a page: the fill factor leaves room for one new version in each.
const FILL_FACTOR: u32 = 88;
/// Bytes of a page.
const PAGE_BYTES: usize = 8192;
/// What a base backup leaves out, or what is no data.
const NOT_DATA: &[&str] = &[
    "pg_wal",
    "pg_replslot",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
    "log",
];
/// What compresses less than this counts as incompressible.
const COMPRESSES: f64 = 2.0;
/// The level that everything is compared at.
const LEVEL: i32 = 3;

/// Fills an empty cluster; `scale` in thousandths. Afterwards everything is on disk and quiet.
///
/// # Errors
/// Where it cannot be filled.
pub(super) fn fill(programs: &Programs, running: &Running, scale: u32, log: &Path) -> Result<(), BenchError> {
    let scaled = |full: u64| (full * u64::from(scale) / 1000).max(1).to_string();
    let mut pgbench = programs.client("pgbench", running);
    measure::run(pgbench.args(["-i", "-q", "-s", &scaled(PGBENCH_SCALE)]), log)?;
    let mut session = running.connect()?;
    session.execute(&format!(
        "create table noise (id bigint, version int, payload bytea) with (fillfactor = {FILL_FACTOR})"
    ))?;
    session.execute("alter table noise alter column payload set storage plain")?;
    let (rows, payload) = (scaled(NOISE_ROWS), payload("id", "0"));
    session.execute(&format!(
        "insert into noise select id, 0, {payload} from generate_series(1, {rows}::bigint) as id"
    ))?;
    session.execute("alter table noise add primary key (id)")?;
    session.execute("vacuum (freeze, analyze)")?;
    running.checkpoint()
}

/// An expression for bytes that nobody can compress, different for each row and version.
fn payload(id: &str, version: &str) -> String {
    let hash = |part| format!("sha512(int8send({id} * 100000 + {version} * 100 + {part}))");
    (0..HASHES_A_ROW).map(hash).collect::<Vec<_>>().join(" || ")
}

/// Changes one row in each of about 1 % of the pages of the table that does not compress, drawn at random.
///
/// # Errors
/// What the server says.
pub(super) fn change(running: &Running, version: u32, seed: u64) -> Result<(), BenchError> {
    let number =
        |sql| running.single(sql)?.parse::<usize>().map_err(|e| BenchError::Postgresql(e.to_string()));
    let pages = number("select pg_relation_size('noise') / 8192")?;
    let rows = number("select count(*) from noise")?;
    let mut draw = Draw::new(seed, &format!("change {version}"));
    let chosen: Vec<String> = (0..pages.div_ceil(100)).map(|_| (draw.below(rows) + 1).to_string()).collect();
    let payload = payload("id", &version.to_string());
    running.execute(&format!(
        "update noise set version = {version}, payload = {payload} where id = any ('{{{}}}'::bigint[])",
        chosen.join(",")
    ))?;
    // A first reader notes on each new row that it is committed: now, and not in the next round.
    number("select count(*) from noise")?;
    running.checkpoint()
}

/// Writes new versions of a run of rows: a load for the log.
///
/// # Errors
/// What the server says.
pub(super) fn overwrite(
    running: &Running,
    version: u32,
    rows: std::ops::Range<u64>,
) -> Result<(), BenchError> {
    let payload = payload("id", &version.to_string());
    running.execute(&format!(
        "update noise set version = {version}, payload = {payload} where id >= {} and id < {}",
        rows.start, rows.end
    ))
}

/// A number that two databases share only where all rows are equal.
///
/// # Errors
/// What the server says.
pub(super) fn fingerprint(running: &Running) -> Result<String, BenchError> {
    running.single(
        "select (select sum(hashtextextended(id || ':' || version || md5(payload), 7)) from noise) || '/' ||
                (select sum(hashtextextended(aid || ':' || abalance, 7)) from pgbench_accounts)",
    )
}

/// One relation and how it compresses.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) compressed: u64,
}

impl Share {
    pub(super) fn ratio(&self) -> f64 {
        self.bytes as f64 / self.compressed.max(1) as f64
    }
}

/// What share of the bytes compresses less than 2:1.
pub(super) fn incompressible(shares: &[Share]) -> f64 {
    let bytes =
        |keep: &dyn Fn(&&Share) -> bool| shares.iter().filter(|s| keep(s)).map(|s| s.bytes).sum::<u64>();
    bytes(&|share| share.ratio() < COMPRESSES) as f64 / bytes(&|_| true).max(1) as f64
}

/// Every relation of the users, and all the rest in one line.
///
/// # Errors
/// Where the files cannot be read.
pub(super) fn shares(running: &Running) -> Result<Vec<Share>, BenchError> {
    let mut session = running.connect()?;
    let rows = session.query(
        "select relname, pg_relation_filepath(oid) from pg_class
         where relnamespace = 'public'::regnamespace and relkind in ('r', 'i')",
    )?;
    let mut names = BTreeMap::new();
    for row in 0..rows.len() {
        if let (Some(name), Some(path)) = (rows.text(row, 0)?, rows.text(row, 1)?) {
            names.insert(path.to_owned(), name.to_owned());
        }
    }
    let mut shares = BTreeMap::<String, (u64, u64)>::new();
    for file in data_files(running.data())? {
        let relative = file.strip_prefix(running.data()).unwrap_or(&file).to_string_lossy().into_owned();
        // Segments of a large relation, and its maps, are named after its first file.
        let first = relative.split(['.', '_']).next().unwrap_or_default();
        let name = names.get(first).cloned().unwrap_or_else(|| "(catalogues and others)".to_owned());
        let (bytes, compressed) = compressed_size(&mut open(&file)?, &file)?;
        let sum = shares.entry(name).or_default();
        *sum = (sum.0 + bytes, sum.1 + compressed);
    }
    let mut shares: Vec<Share> =
        shares.into_iter().map(|(name, (bytes, compressed))| Share { name, bytes, compressed }).collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.bytes));
    Ok(shares)
}

fn open(path: &Path) -> Result<File, BenchError> {
    File::open(path).map_err(|error| BenchError::io("open", path, error))
}

fn compressed_size(from: &mut dyn Read, path: &Path) -> Result<(u64, u64), BenchError> {
    let failed = |error| BenchError::io("compress", path, error);
    let mut encoder = zstd::Encoder::new(Counted(0), LEVEL).map_err(failed)?;
    let bytes = std::io::copy(from, &mut encoder).map_err(failed)?;
    Ok((bytes, encoder.finish().map_err(failed)?.0))
}

/// Forgets what it is given, but how much it was.
#[derive(Debug)]
struct Counted(u64);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The files that hold data, in order.
fn data_files(data: &Path) -> Result<Vec<PathBuf>, BenchError> {
    let (mut files, mut folders) = (Vec::new(), vec![data.to_owned()]);
    while let Some(folder) = folders.pop() {
        let listing = fs::read_dir(&folder).map_err(|error| BenchError::io("list", &folder, error))?;
        for entry in listing.flatten() {
            let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            if NOT_DATA.contains(&name.as_str())
                || name.starts_with("postmaster.")
                || name == "pg_internal.init"
            {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A short hash of every page of every file.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages(BTreeMap<PathBuf, Vec<u64>>);

/// What has changed between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) pages: u64,
    pub(super) all_pages: u64,
    /// These pages alone, in one stream, by zstd -3.
    pub(super) compressed: u64,
}

impl Pages {
    /// Looks at a directory whose server has nothing to write.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(super) fn look(data: &Path) -> Result<Self, BenchError> {
        let mut pages = BTreeMap::new();
        for file in data_files(data)? {
            let mut hashes = Vec::new();
            each_page(&file, |page| {
                hashes.push(short_hash(page));
                Ok(())
            })?;
            pages.insert(file, hashes);
        }
        Ok(Self(pages))
    }

    /// What is different now.
    ///
    /// # Errors
    /// Where it cannot be read or compressed.
    pub(super) fn changed(&self, data: &Path) -> Result<Changed, BenchError> {
        let failed = |error| BenchError::io("compress", data, error);
        let mut encoder = zstd::Encoder::new(Counted(0), LEVEL).map_err(failed)?;
        let mut changed = Changed::default();
        for file in data_files(data)? {
            let before = self.0.get(&file).map_or(&[][..], Vec::as_slice);
            let mut number = 0;
            each_page(&file, |page| {
                changed.all_pages += 1;
                if before.get(number) != Some(&short_hash(page)) {
                    changed.pages += 1;
                    std::io::Write::write_all(&mut encoder, page)?;
                }
                number += 1;
                Ok(())
            })?;
        }
        changed.compressed = encoder.finish().map_err(failed)?.0;
        Ok(changed)
    }
}

fn short_hash(page: &[u8]) -> u64 {
    let hash = blake3::hash(page);
    u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

fn each_page(path: &Path, mut take: impl FnMut(&[u8]) -> std::io::Result<()>) -> Result<(), BenchError> {
    let failed = |error| BenchError::io("read", path, error);
    let mut file = open(path)?;
    let mut page = Vec::with_capacity(PAGE_BYTES);
    loop {
        page.clear();
        if file.by_ref().take(PAGE_BYTES as u64).read_to_end(&mut page).map_err(failed)? == 0 {
            return Ok(());
        }
        take(&page).map_err(failed)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_changed_pages_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            lifeboat_base::crashsafe::replace(&folder.path().join(name), bytes).unwrap();
        };
        let mut bytes = vec![0; 5 * PAGE_BYTES + 100];
        Draw::new(7, "pages").fill(&mut bytes);
        put("relation", &bytes);
        put("postmaster.pid", b"1");
        let before = Pages::look(folder.path()).unwrap();
        assert_eq!(before.changed(folder.path()).unwrap().pages, 0);
        bytes[2 * PAGE_BYTES] ^= 1;
        bytes[5 * PAGE_BYTES + 50] ^= 1;
        put("relation", &bytes);
        put("new", &bytes[..PAGE_BYTES]);
        put("postmaster.pid", b"2");
        let changed = before.changed(folder.path()).unwrap();
        assert_eq!((changed.pages, changed.all_pages), (3, 7));
        // Random bytes: the short page, a whole one, and one that is also the first of the other file.
        assert!((2 * PAGE_BYTES as u64..3 * PAGE_BYTES as u64).contains(&changed.compressed), "{changed:?}");
    }

    #[test]
    fn the_share_that_does_not_compress_is_by_bytes() {
        let share = |bytes, compressed| Share { name: String::new(), bytes, compressed };
        assert_eq!(incompressible(&[share(60, 55), share(40, 10)]), 0.6);
        assert_eq!(incompressible(&[]), 0.0);
    }
}
