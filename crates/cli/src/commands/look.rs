//! `lifeboat ls`, `diff` and `dump`: looking into snapshots.

use crate::args::{DiffArgs, DumpArgs, LsArgs};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::write_stdout;
use lifeboat_repository::tree::{Content, Entry, EntryKind, display_bytes};
use lifeboat_repository::{Descend, Published, Reader, RepositoryError, Request};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

pub(crate) fn ls(context: &Context, args: &LsArgs) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let (reader, published) = context.find(&repository, &args.dataset, &args.at)?;
    let _pin = context.pin(&repository, &[&published], "ls");
    let start = within(args.path.as_deref());
    if !start.is_empty() && reader.entry(&published.snapshot, &start)?.is_none() {
        return Err(Failure::usage(
            format!("{} is not in snapshot {}", display_bytes(&start), published.id.short()),
            "`lifeboat ls DATASET` shows what it holds.",
        ));
    }
    let mut lines: Vec<(Vec<u8>, Entry)> = Vec::new();
    let mut failed = None;
    reader.walk(&published.snapshot, &mut |directory, entry| {
        let path = join(directory, &entry.name);
        let wanted =
            path == start && entry.kind != EntryKind::Directory || is_below(&path, &start, args.recursive);
        if wanted && !context.output.json {
            // Line by line: a snapshot may hold millions.
            failed =
                failed.take().or_else(|| write_stdout(format!("{}\n", line(&path, entry)).as_bytes()).err());
        } else if wanted {
            lines.push((path.clone(), entry.clone()));
        }
        let leads = start.starts_with(&path) || is_below(&path, &start, true) && args.recursive;
        Ok::<_, RepositoryError>(if leads && failed.is_none() { Descend::Yes } else { Descend::No })
    })?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    if context.output.json {
        context.output.result(|| json!({ "snapshot": published.id.to_string(), "entries": lines.iter().map(|(path, entry)| entry_json(path, entry)).collect::<Vec<_>>() }), |_| Ok(()))?;
    }
    Ok(Outcome::Done)
}

/// A path within a snapshot: from its root, with the slashes around it left off.
fn within(path: Option<&OsStr>) -> Vec<u8> {
    let bytes = path.unwrap_or_default().as_bytes();
    let start = bytes.iter().position(|b| *b != b'/').unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| *b != b'/').map_or(start, |last| last + 1);
    bytes[start..end].to_vec()
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// Whether a path lies in a folder (empty: the root), directly or at any depth.
fn is_below(path: &[u8], folder: &[u8], any_depth: bool) -> bool {
    let rest = if folder.is_empty() {
        Some(path)
    } else {
        path.strip_prefix(folder).and_then(|rest| rest.strip_prefix(b"/"))
    };
    rest.is_some_and(|rest| !rest.is_empty() && (any_depth || !rest.contains(&b'/')))
}

fn line(path: &[u8], entry: &Entry) -> String {
    let m = &entry.metadata;
    let modified = jiff::Timestamp::new(m.modified.secs, i32::try_from(m.modified.nanos).unwrap_or(0))
        .map_or_else(|_| "?".to_owned(), |t| t.strftime("%Y-%m-%d %H:%M:%S").to_string());
    let mut text = format!(
        "{}{} {:>5} {:>5} {:>12} {modified} {}",
        letter(entry.kind),
        permissions(m.mode),
        m.uid,
        m.gid,
        entry.size,
        display_bytes(path)
    );
    match &entry.content {
        Content::Target { path } => text.push_str(&format!(" -> {}", display_bytes(path))),
        Content::HardLink { path } => text.push_str(&format!(" = {}", display_bytes(path))),
        _ => {}
    }
    if entry.torn {
        text.push_str("  (changed while it was read)");
    }
    text
}

fn letter(kind: EntryKind) -> char {
    match kind {
        EntryKind::File => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::CharDevice => 'c',
        EntryKind::BlockDevice => 'b',
        EntryKind::Socket => 's',
    }
}

fn permissions(mode: u32) -> String {
    let special = [(0o4000, 2, 's', 'S'), (0o2000, 5, 's', 'S'), (0o1000, 8, 't', 'T')];
    let mut text: Vec<char> =
        (0..9).map(|n| if mode >> (8 - n) & 1 == 1 { ['r', 'w', 'x'][n % 3] } else { '-' }).collect();
    for (bit, at, with, without) in special {
        if mode & bit != 0 {
            text[at] = if text[at] == 'x' { with } else { without };
        }
    }
    text.into_iter().collect()
}

fn entry_json(path: &[u8], entry: &Entry) -> Value {
    json!({
        "path": display_bytes(path),
        "kind": format!("{:?}", entry.kind).to_ascii_lowercase(),
        "size_bytes": entry.size,
        "mode": format!("{:04o}", entry.metadata.mode),
        "uid": entry.metadata.uid,
        "gid": entry.metadata.gid,
        "modified_secs": entry.metadata.modified.secs,
        "modified_nanos": entry.metadata.modified.nanos,
        "changed_while_read": entry.torn,
        "target": match &entry.content {
            Content::Target { path } | Content::HardLink { path } => Some(display_bytes(path)),
            _ => None,
        },
    })
}

pub(crate) fn diff(context: &Context, args: &DiffArgs) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let (reader, from) = context.find(&repository, &args.dataset, &args.from)?;
    let to = crate::time::find_point(
        &repository,
        &crate::context::dataset_name(&args.dataset)?,
        &args.to,
        context.output,
    )?;
    let _pin = context.pin(&repository, &[&from, &to], "diff");
    let changes = compare(&reader, &from, &to)?;
    context.output.result(
        || {
            let list: Vec<Value> = changes
                .iter()
                .map(|(path, change)| json!({ "path": display_bytes(path), "change": change.word() }))
                .collect();
            json!({ "from": from.id.to_string(), "to": to.id.to_string(), "changes": list })
        },
        |text| {
            changes
                .iter()
                .try_for_each(|(path, change)| writeln!(text, "{} {}", change.sign(), display_bytes(path)))
        },
    )?;
    Ok(Outcome::Done)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
    Content,
    Metadata,
}

impl Change {
    fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Content => 'M',
            Self::Metadata => 'U',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Content => "content",
            Self::Metadata => "metadata",
        }
    }
}

/// Folders whose nodes are the same on both sides are not entered.
fn compare(reader: &Reader, from: &Published, to: &Published) -> Result<BTreeMap<Vec<u8>, Change>, Failure> {
    let mut changes = BTreeMap::new();
    let mut pending = vec![(Vec::new(), from.snapshot.root.clone(), to.snapshot.root.clone())];
    while let Some((path, old, new)) = pending.pop() {
        if old == new {
            continue;
        }
        let (old, new) = (reader.folder(&old)?, reader.folder(&new)?);
        for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
            let below = join(&path, name);
            let (before, after) = (old.get(name), new.get(name));
            match (before, after) {
                (Some(b), Some(a)) if b.kind == a.kind => {
                    if let Some(change) = changed(b, a) {
                        changes.insert(below.clone(), change);
                    }
                }
                (Some(_), Some(_)) => drop(changes.insert(below.clone(), Change::Content)),
                (Some(_), None) => drop(changes.insert(below.clone(), Change::Removed)),
                _ => drop(changes.insert(below.clone(), Change::Added)),
            }
            let nodes = |entry: Option<&Entry>| match entry.map(|e| &e.content) {
                Some(Content::Listing { nodes }) => nodes.clone(),
                _ => Vec::new(),
            };
            pending.push((below, nodes(before), nodes(after)));
        }
    }
    Ok(changes)
}

fn changed(before: &Entry, after: &Entry) -> Option<Change> {
    let is_folder = before.kind == EntryKind::Directory;
    if !is_folder && (before.content != after.content || before.size != after.size) {
        return Some(Change::Content);
    }
    let (b, a) = (&before.metadata, &after.metadata);
    let same = (b.mode, b.uid, b.gid, b.modified, &b.xattrs) == (a.mode, a.uid, a.gid, a.modified, &a.xattrs);
    (!same).then_some(Change::Metadata)
}

pub(crate) fn dump(context: &Context, args: &DumpArgs) -> Result<Outcome, Failure> {
    if context.output.json {
        return Err(Failure::usage("dump writes a file's bytes, which are no JSON", "Leave out --json."));
    }
    let repository = context.open()?;
    let (reader, published) = context.find(&repository, &args.dataset, &args.at)?;
    let _pin = context.pin(&repository, &[&published], "dump");
    let entry = match &args.path {
        Some(path) => reader.entry(&published.snapshot, &within(Some(path)))?,
        None => only_file(&reader, &published)?,
    };
    let hint = "`lifeboat ls -R DATASET` shows what it holds.";
    let Some(mut entry) = entry else {
        return Err(Failure::usage(format!("that file is not in snapshot {}", published.id.short()), hint));
    };
    if let Content::HardLink { path } = &entry.content {
        entry = reader
            .entry(&published.snapshot, &path.clone())?
            .ok_or_else(|| Failure::failed("the file that it links to is not in the snapshot"))?;
    }
    if let Content::Target { path } = &entry.content {
        let (name, target) = (entry.display_name(), display_bytes(path));
        return Err(Failure::usage(
            format!("{name} is a symbolic link to {target}, not a file"),
            "Dump what it points to, if that is in the snapshot.",
        ));
    }
    if entry.kind != EntryKind::File {
        return Err(Failure::usage(format!("{} is no file", entry.display_name()), hint));
    }
    write_content(&reader, &entry)
}

fn only_file(reader: &Reader, published: &Published) -> Result<Option<Entry>, Failure> {
    let mut files = Vec::new();
    reader.walk(&published.snapshot, &mut |_, entry| {
        files.push(entry.clone());
        Ok::<_, RepositoryError>(Descend::No)
    })?;
    match files.as_slice() {
        [one] => Ok(Some(one.clone())),
        _ => Err(Failure::usage(
            "the snapshot holds more than one file",
            "Name the path of one; `lifeboat ls -R DATASET` shows them.",
        )),
    }
}

/// How much is fetched at once, in bytes, so that a large file needs little memory.
const DUMP_WINDOW: u64 = 32 << 20;

fn write_content(reader: &Reader, entry: &Entry) -> Result<Outcome, Failure> {
    let mut pieces = Vec::new();
    reader.pieces(entry, &mut |piece| {
        pieces.push(piece);
        Ok::<_, RepositoryError>(())
    })?;
    let (mut at, mut next) = (0u64, 0);
    while at < entry.size {
        let end = entry.size.min(at + DUMP_WINDOW);
        let mut window = vec![0; (end - at) as usize];
        let mut requests = Vec::new();
        while next < pieces.len() && pieces[next].offset < end {
            let piece = &pieces[next];
            requests.push(Request { source: piece.source, length: piece.length, token: next as u64 });
            if piece.offset + u64::from(piece.length) > end {
                break;
            }
            next += 1;
        }
        let filled = std::sync::Mutex::new(&mut window);
        reader.fetch(requests, 2, &|token, bytes| {
            let mut window = filled.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            place(&mut window, at, pieces[token as usize].offset, bytes);
            Ok(())
        })?;
        match io::stdout().lock().write_all(&window) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Outcome::Done),
            other => other?,
        }
        at = end;
    }
    io::stdout().flush()?;
    Ok(Outcome::Done)
}

/// Copies the part of `bytes`, which belong at `offset`, that lies in a window that starts at `start`.
fn place(window: &mut [u8], start: u64, offset: u64, bytes: &[u8]) {
    let skip = start.saturating_sub(offset) as usize;
    let Some(bytes) = bytes.get(skip..) else { return };
    let to = offset.saturating_sub(start) as usize;
    if let Some(target) = window.get_mut(to..) {
        let length = bytes.len().min(target.len());
        target[..length].copy_from_slice(&bytes[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_read_like_ls() {
        assert_eq!(permissions(0o644), "rw-r--r--");
        assert_eq!(permissions(0o4755), "rwsr-xr-x");
        assert_eq!(permissions(0o1666), "rw-rw-rwT");
    }

    #[test]
    fn pieces_are_placed_across_windows() {
        let mut window = vec![0; 4];
        place(&mut window, 10, 8, b"abcdef");
        assert_eq!(window, b"cdef");
        place(&mut window, 10, 12, b"XYZ");
        assert_eq!(window, b"cdXY");
        place(&mut window, 10, 2, b"abc");
        assert_eq!(window, b"cdXY");
    }

    #[test]
    fn folders_hold_what_lies_in_them() {
        assert!(
            is_below(b"a/b", b"a", false) && is_below(b"a", b"", false) && is_below(b"a/b/c", b"a", true)
        );
        assert!(
            !is_below(b"a/b/c", b"a", false) && !is_below(b"ab", b"a", true) && !is_below(b"a", b"a", true)
        );
    }
}
