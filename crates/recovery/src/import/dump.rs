//! What pg_dump made, told by what is in it and never by its name alone.
//!
//! Owns the heads of archives, the first and last words of plain dumps and what they may be packed in. It
//! deliberately knows no repository, and of an archive's content only what its head says: the rest is
//! PostgreSQL's own tool to read.

use super::error::ImportError;
use crate::error::{RecoveryError, Result};
use jiff::civil::DateTime;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// How much of the beginning is looked at, in bytes.
const HEAD_BYTES: u64 = 64 << 10;
/// How much of the end is looked at, in bytes.
const TAIL_BYTES: usize = 8 << 10;
/// Strings in the head of an archive are names and versions.
const MAX_STRING_BYTES: usize = 4 << 10;
/// What an archive begins with.
const MAGIC: &[u8; 5] = b"PGDMP";
/// The table of contents of a directory, and the first member of a tar archive.
pub(super) const TOC: &str = "toc.dat";
const TAR_BLOCK: usize = 512;
/// What the programs write into the third line of a plain dump, and where it ends.
const PLAIN: (&str, &str) = ("-- PostgreSQL database dump", "-- PostgreSQL database dump complete");
const PLAIN_ALL: (&str, &str) =
    ("-- PostgreSQL database cluster dump", "-- PostgreSQL database cluster dump complete");

/// The form of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpFormat {
    /// `pg_dump -Fc`.
    Custom,
    /// `pg_dump -Fd`.
    Directory,
    /// `pg_dump -Ft`.
    Tar,
    /// `pg_dump`: SQL.
    Plain,
    /// `pg_dumpall`: SQL for a whole cluster.
    PlainCluster,
}

impl DumpFormat {
    /// As it is written in a snapshot.
    pub fn word(self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::Directory => "directory",
            Self::Tar => "tar",
            Self::Plain => "plain",
            Self::PlainCluster => "plain-cluster",
        }
    }

    /// Whether it is SQL, for psql, and not an archive, for pg_restore.
    pub fn is_plain(self) -> bool {
        matches!(self, Self::Plain | Self::PlainCluster)
    }
}

/// What a file is packed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Nothing.
    None,
    /// gzip, one or several members.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Packing {
    /// As it is written in a snapshot.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// A dump, as far as its head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// The file or folder.
    pub path: PathBuf,
    /// Its form.
    pub format: DumpFormat,
    /// What the file is packed in.
    pub packing: Packing,
    /// What its head says.
    pub head: DumpHead,
}

/// What the head of a dump says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpHead {
    /// The version of the archive's form, such as `1.14`.
    pub archive_version: Option<String>,
    /// How the archive compresses its data.
    pub compression: Option<String>,
    /// The database that was dumped.
    pub database: Option<String>,
    /// The version of the server.
    pub server_version: Option<String>,
    /// The version of pg_dump.
    pub dump_version: Option<String>,
    /// When it was dumped.
    pub begun: Option<DumpTime>,
}

/// An instant as the machine that dumped wrote it: local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpTime {
    /// What the clock showed.
    pub local: DateTime,
    /// Whether it was summer time there, if that is said.
    pub is_summer: Option<bool>,
    /// It is UTC, as the dump says.
    pub is_utc: bool,
}

impl Dump {
    /// Looks whether a file or folder is a dump.
    ///
    /// # Errors
    /// Where it cannot be read, or begins as one and makes no sense.
    pub fn recognise(path: &Path) -> Result<Option<Self>> {
        let metadata = std::fs::metadata(path).map_err(RecoveryError::io("look at", path))?;
        let dump = |format, packing, head| Self { path: path.to_owned(), format, packing, head };
        if metadata.is_dir() {
            let toc = path.join(TOC);
            if !toc.is_file() {
                return Ok(None);
            }
            let (_, start) = start_of(&toc)?;
            let head = archive_head(&start).ok_or(ImportError::Head(toc))?;
            return Ok(Some(dump(DumpFormat::Directory, Packing::None, head)));
        }
        if !metadata.is_file() {
            return Ok(None);
        }
        let (packing, start) = start_of(path)?;
        if start.starts_with(MAGIC) {
            let head = archive_head(&start).ok_or_else(|| ImportError::Head(path.to_owned()))?;
            return Ok(Some(dump(DumpFormat::Custom, packing, head)));
        }
        if let Some(head) = toc_of_tar(&start) {
            let head = archive_head(head).ok_or_else(|| ImportError::Head(path.to_owned()))?;
            return Ok(Some(dump(DumpFormat::Tar, packing, head)));
        }
        Ok(plain_head(&start).map(|(format, head)| dump(format, packing, head)))
    }

    /// The dump without what it is packed in.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn unpacked(&self) -> Result<Box<dyn Read + Send>> {
        let file = File::open(&self.path).map_err(RecoveryError::io("open", &self.path))?;
        unpack(file, self.packing).map_err(RecoveryError::io("open", &self.path))
    }

    /// Reads a packed or plain dump to its end: the checksums of the packing, and the last words of SQL.
    ///
    /// # Errors
    /// Where it is damaged or not whole.
    pub fn read_through(&self) -> Result<()> {
        if self.format == DumpFormat::Directory {
            return Ok(());
        }
        if self.format == DumpFormat::Tar {
            // First of all: what is cut short sends pg_restore round and round.
            members(self.unpacked()?).map_err(ImportError::unpacking(self.path.clone()))?;
        }
        let tail = tail(&mut *self.unpacked()?).map_err(|error| self.failed(error))?;
        let expected = match self.format {
            DumpFormat::Plain => PLAIN.1,
            DumpFormat::PlainCluster => PLAIN_ALL.1,
            _ => return Ok(()),
        };
        if ends_with(&tail, expected) {
            Ok(())
        } else {
            Err(ImportError::Truncated { path: self.path.clone(), expected }.into())
        }
    }

    fn failed(&self, error: io::Error) -> RecoveryError {
        match self.packing {
            Packing::None => RecoveryError::io("read", &self.path)(error),
            _ => ImportError::unpacking(self.path.clone())(error),
        }
    }

    /// The major version of the server that can take it: of the server that it is of, or of the pg_dump that
    /// made it, whichever is newer.
    pub fn needs_major(&self) -> u32 {
        let major = |version: &Option<String>| {
            let digits = version.as_deref().unwrap_or_default();
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            digits[..end].parse().unwrap_or(0)
        };
        major(&self.head.server_version).max(major(&self.head.dump_version))
    }
}

/// The first bytes of a file, unpacked, and what it is packed in.
fn start_of(path: &Path) -> Result<(Packing, Vec<u8>)> {
    let mut first = Vec::new();
    let open = || File::open(path).map_err(RecoveryError::io("open", path));
    open()?.take(4).read_to_end(&mut first).map_err(RecoveryError::io("read", path))?;
    let packing = Packing::of(&first);
    let unpacked = unpack(open()?, packing).map_err(RecoveryError::io("open", path))?;
    let mut start = Vec::new();
    // What can be unpacked is looked at; whether the rest can, is found out when it is read through.
    match unpacked.take(HEAD_BYTES).read_to_end(&mut start) {
        Err(error) if packing == Packing::None => Err(RecoveryError::io("read", path)(error)),
        Err(error) if start.is_empty() => Err(ImportError::unpacking(path.to_owned())(error)),
        _ => Ok((packing, start)),
    }
}

fn unpack(file: File, packing: Packing) -> io::Result<Box<dyn Read + Send>> {
    Ok(match packing {
        Packing::None => Box::new(file),
        Packing::Gzip => {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 18, file)))
        }
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
    })
}

/// Goes through the members of a tar archive: each must be there with all of its bytes.
fn members(archive: impl Read) -> io::Result<()> {
    for member in tar::Archive::new(archive).entries()? {
        let mut member = member?;
        let (size, read) = (member.size(), io::copy(&mut member, &mut io::sink())?);
        if read < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Reads to the end and keeps the last bytes.
fn tail(read: &mut dyn Read) -> io::Result<Vec<u8>> {
    let (mut tail, mut buffer) = (Vec::new(), vec![0; 256 << 10]);
    loop {
        let bytes = match read.read(&mut buffer) {
            Ok(0) => return Ok(tail),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        tail.extend_from_slice(&buffer[..bytes]);
        let surplus = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..surplus);
    }
}

/// Whether a line is the last one but for comments, empty lines and the end of a restriction.
fn ends_with(tail: &[u8], expected: &str) -> bool {
    let is_nothing =
        |line: &&[u8]| line.is_empty() || line.starts_with(b"--") || line.starts_with(b"\\unrestrict ");
    let lines = tail.rsplit(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut last_lines = lines.take_while(is_nothing);
    last_lines.any(|line| line == expected.as_bytes())
}

/// The content of the first member of a tar archive, where that is the table of contents of a dump.
fn toc_of_tar(start: &[u8]) -> Option<&[u8]> {
    let block = start.get(..TAR_BLOCK)?;
    let is_toc = block.starts_with(TOC.as_bytes()) && block[TOC.len()] == 0;
    let content = start.get(TAR_BLOCK..)?;
    (is_toc && &block[257..262] == b"ustar" && content.starts_with(MAGIC)).then_some(content)
}

fn plain_head(start: &[u8]) -> Option<(DumpFormat, DumpHead)> {
    let text = String::from_utf8_lossy(start);
    let mut lines = text.lines().map(str::trim_end);
    let format = lines.by_ref().take(20).find_map(|line| match line {
        _ if line == PLAIN.0 => Some(DumpFormat::Plain),
        _ if line == PLAIN_ALL.0 => Some(DumpFormat::PlainCluster),
        _ => None,
    })?;
    let said = |words: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(words));
        line.map(|rest| rest.trim().to_owned()).filter(|rest| !rest.is_empty())
    };
    let head = DumpHead {
        server_version: said("-- Dumped from database version "),
        dump_version: said("-- Dumped by pg_dump version "),
        begun: said("-- Started on ").and_then(|text| started(&text)),
        ..DumpHead::default()
    };
    Some((format, head))
}

/// `2026-11-22 09:31:02 UTC`, as pg_dump --verbose writes it. Other zones are only abbreviated there.
fn started(text: &str) -> Option<DumpTime> {
    let (local, zone) = text.rsplit_once(' ')?;
    let is_utc = matches!(zone, "UTC" | "GMT" | "Z");
    let local = local.parse().ok().filter(|_| is_utc)?;
    Some(DumpTime { local, is_summer: None, is_utc })
}

/// Reads the head of an archive: magic, versions, compression, time, database.
fn archive_head(bytes: &[u8]) -> Option<DumpHead> {
    let mut head = Fields(bytes.strip_prefix(MAGIC)?);
    let version = (head.byte()?, head.byte()?, head.byte()?);
    // Versions before 1.10 (PostgreSQL 8.0) say less, and nobody has them any more.
    if version.0 != 1 || version.1 < 10 {
        return None;
    }
    let int_bytes = usize::from(head.byte()?);
    let (_offset_bytes, _format) = (head.byte()?, head.byte()?);
    if !(1..=8).contains(&int_bytes) {
        return None;
    }
    let compression = match version.1 {
        15.. => match head.byte()? {
            0 => "none".to_owned(),
            1 => "gzip".to_owned(),
            2 => "lz4".to_owned(),
            3 => "zstd".to_owned(),
            other => format!("unknown ({other})"),
        },
        _ => if head.int(int_bytes)? == 0 { "none" } else { "gzip" }.to_owned(),
    };
    let mut time = [0; 7];
    for field in &mut time {
        *field = head.int(int_bytes)?;
    }
    Some(DumpHead {
        archive_version: Some(format!("{}.{}", version.0, version.1)),
        compression: Some(compression),
        begun: time_of(time),
        database: head.string(int_bytes)?,
        server_version: head.string(int_bytes)?,
        dump_version: head.string(int_bytes)?,
    })
}

/// What C's `struct tm` says.
fn time_of([second, minute, hour, day, month, year, summer]: [i64; 7]) -> Option<DumpTime> {
    let small = |number: i64| i8::try_from(number).ok();
    let year = i16::try_from(year.checked_add(1900)?).ok()?;
    // A leap second is the last one of its minute.
    let second = small(second)?.min(59);
    let local = DateTime::new(
        year,
        small(month.checked_add(1)?)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        second,
        0,
    );
    Some(DumpTime { local: local.ok()?, is_summer: (summer >= 0).then_some(summer > 0), is_utc: false })
}

/// The fields of a head, one after the other.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn take(&mut self, bytes: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// A sign, then the bytes of the number, the lowest first.
    fn int(&mut self, bytes: usize) -> Option<i64> {
        let is_negative = self.byte()? != 0;
        let number = self.take(bytes)?.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        let number = i64::try_from(number).ok()?;
        Some(if is_negative { -number } else { number })
    }

    /// Nothing where its length is negative.
    fn string(&mut self, int_bytes: usize) -> Option<Option<String>> {
        let Ok(length) = usize::try_from(self.int(int_bytes)?) else { return Some(None) };
        if length > MAX_STRING_BYTES {
            return None;
        }
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        Some(Some(text).filter(|text| !text.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The head of an archive as pg_dump 15.18 wrote it.
    const HEAD: &[u8] =
        b"PGDMP\x01\x0e\x00\x04\x08\x01\x01\x01\0\0\0\x00\x02\0\0\0\x00\x1f\0\0\0\x00\x09\0\0\0\
        \x00\x16\0\0\0\x00\x0a\0\0\0\x00\x7e\0\0\0\x00\0\0\0\0\x00\x08\0\0\0postgres\
        \x00\x1e\0\0\x0015.18 (Debian 15.18-0+deb12u1)\x00\x1e\0\0\x0015.18 (Debian 15.18-0+deb12u1)";

    #[test]
    fn an_archive_says_what_it_is_of() {
        let head = archive_head(HEAD).unwrap();
        assert_eq!(head.database.as_deref(), Some("postgres"));
        assert_eq!(head.server_version.as_deref(), Some("15.18 (Debian 15.18-0+deb12u1)"));
        assert_eq!(
            (head.archive_version.as_deref(), head.compression.as_deref()),
            (Some("1.14"), Some("gzip"))
        );
        let begun = head.begun.unwrap();
        assert_eq!(
            (begun.local.to_string(), begun.is_summer),
            ("2026-11-22T09:31:02".to_owned(), Some(false))
        );
        for length in 0..HEAD.len() {
            assert_eq!(archive_head(&HEAD[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_plain_dump_is_whole_only_with_its_last_words() {
        let end = "\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n";
        assert!(ends_with(format!("COPY …{end}").as_bytes(), PLAIN.1));
        assert!(ends_with(end.replace('\n', "\r\n").as_bytes(), PLAIN.1));
        assert!(!ends_with(format!("{end}ERROR").as_bytes(), PLAIN.1));
        assert!(!ends_with(end.as_bytes(), PLAIN_ALL.1));
        assert!(!ends_with(b"", PLAIN.1));
    }

    #[test]
    fn plain_dumps_are_told_by_their_first_lines() {
        let text = "--\n-- PostgreSQL database dump\n--\n\n\\restrict x\n\n-- Dumped from database version 15.18\n\
            -- Dumped by pg_dump version 18.0\n\n-- Started on 2026-11-22 09:31:02 UTC\n";
        let (format, head) = plain_head(text.as_bytes()).unwrap();
        assert_eq!((format, head.dump_version.as_deref()), (DumpFormat::Plain, Some("18.0")));
        assert!(head.begun.unwrap().is_utc);
        assert_eq!(plain_head(b"-- MySQL dump 10.13\n"), None);
        assert_eq!(started("2026-11-22 09:31:02 CEST"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = archive_head(&[MAGIC, bytes.as_slice()].concat());
            let _ = plain_head(&bytes);
            let _ = toc_of_tar(&bytes);
            let _ = ends_with(&bytes, PLAIN.1);
        }
    }
}
