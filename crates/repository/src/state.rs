//! What this machine remembers of a repository between commands: its writer's key, the root that it knows the
//! repository by, and the heads that it has seen, so that another root, a removed tip, a replayed roster or a
//! lost verdict shows.
//!
//! Losing it costs no data: a new writer is enrolled, and older heads are believed once more.

use crate::crypto::{Signer, sha256};
use crate::error::{RepositoryError, Result};
use crate::ids::{BodyHash, BulkName, DatasetName, RepositoryId, WriterId};
use lifeboat_base::{crashsafe, hex};
use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The folder of one repository within the state directory.
#[derive(Clone, Debug)]
pub struct LocalState {
    directory: Option<PathBuf>,
    writer_key: Option<PathBuf>,
}

impl LocalState {
    /// State under `directory/<repository>`, which is made when it is first written to. `writer_key` names
    /// another place for the writer's private key.
    pub fn new(directory: &Path, repository: &RepositoryId, writer_key: Option<PathBuf>) -> Self {
        Self { directory: Some(directory.join(repository.to_string())), writer_key }
    }

    /// No state: nothing is remembered and nothing is compared.
    pub fn none() -> Self {
        Self { directory: None, writer_key: None }
    }

    /// The writer's key, made on first use.
    pub(crate) fn writer(&self) -> Result<Signer> {
        let Some(path) = self.writer_key_path() else { return Ok(Signer::generate()) };
        if let Some(signer) = read_signer(&path)? {
            return Ok(signer);
        }
        if let Some(parent) = path.parent() {
            crashsafe::create_dir_all(parent)?;
        }
        let signer = Signer::generate();
        match crashsafe::create(&path, format!("{}\n", hex::encode(signer.expose_seed())).as_bytes())? {
            crashsafe::Creation::Created => Ok(signer),
            crashsafe::Creation::Existed => read_signer(&path)?.ok_or_else(|| bad_key(&path)),
        }
    }

    /// The writer's key if there is one already.
    pub(crate) fn existing_writer(&self) -> Result<Option<Signer>> {
        self.writer_key_path().map_or(Ok(None), |path| read_signer(&path))
    }

    fn writer_key_path(&self) -> Option<PathBuf> {
        self.writer_key.clone().or_else(|| Some(self.directory.as_ref()?.join("writer.key")))
    }

    /// Remembers that number `number` was seen of `what`, unless a higher one was.
    pub(crate) fn raise(&self, what: &Head<'_>, number: u64, body: &BodyHash) -> Result<()> {
        let Some(path) = self.head_path(what) else { return Ok(()) };
        if self.head(what)?.is_some_and(|(seen, _)| seen >= number) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            crashsafe::create_dir_all(parent)?;
        }
        crashsafe::replace(&path, format!("{number} {body}\n").as_bytes())?;
        Ok(())
    }

    /// The highest number seen of `what`, and its body.
    pub(crate) fn head(&self, what: &Head<'_>) -> Result<Option<(u64, BodyHash)>> {
        let Some(path) = self.head_path(what) else { return Ok(None) };
        let Some(text) = read_text(&path)? else { return Ok(None) };
        Ok(parse_head(text.trim()))
    }

    /// The chains whose tips were seen.
    pub(crate) fn chains(&self) -> Result<Vec<(DatasetName, WriterId, u64, BodyHash)>> {
        let Some(directory) = self.directory.as_ref().map(|d| d.join("heads")) else { return Ok(Vec::new()) };
        let listing = match fs::read_dir(&directory) {
            Ok(listing) => listing,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(RepositoryError::Io("list the heads in the state directory", error)),
        };
        let mut chains = Vec::new();
        for item in listing {
            let name = item
                .map_err(|e| RepositoryError::Io("list the heads in the state directory", e))?
                .file_name();
            let Some((writer, dataset)) =
                name.to_str().and_then(|n| n.strip_prefix("chain-")).and_then(|n| n.split_once('-'))
            else {
                continue;
            };
            let (Some(writer), Ok(dataset)) = (WriterId::from_hex(writer), DatasetName::new(dataset)) else {
                continue;
            };
            if let Some((number, body)) = self.head(&Head::Chain(&dataset, &writer))? {
                chains.push((dataset, writer, number, body));
            }
        }
        chains.sort();
        Ok(chains)
    }

    /// Pins the root of the repository, on first use.
    pub(crate) fn pin_root(&self, root: &WriterId) -> Result<()> {
        let Some(path) = self.root_path() else { return Ok(()) };
        if self.pinned_root()?.is_some() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            crashsafe::create_dir_all(parent)?;
        }
        // Who pinned another one meanwhile is found by the next opening.
        crashsafe::create(&path, format!("{root}\n").as_bytes())?;
        Ok(())
    }

    /// The root that this machine has known the repository by.
    pub(crate) fn pinned_root(&self) -> Result<Option<WriterId>> {
        let Some(path) = self.root_path() else { return Ok(None) };
        let Some(text) = read_text(&path)? else { return Ok(None) };
        let damaged = || RepositoryError::damaged(path.display(), "it is not the fingerprint of a root");
        WriterId::from_hex(text.trim()).map(Some).ok_or_else(damaged)
    }

    /// What verdicts named, up to which number, as it was remembered; nothing where that is damaged.
    pub(crate) fn dead(&self) -> Result<Option<RememberedDead>> {
        let Some(path) = self.dead_path() else { return Ok(None) };
        match fs::read(&path) {
            Ok(bytes) => Ok(decode_dead(&bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RepositoryError::Io("read the state directory", error)),
        }
    }

    /// Remembers what verdicts named, so that they need not all be read again.
    pub(crate) fn remember_dead(&self, dead: &Dead<'_>) -> Result<()> {
        let Some(path) = self.dead_path() else { return Ok(()) };
        if let Some(parent) = path.parent() {
            crashsafe::create_dir_all(parent)?;
        }
        Ok(crashsafe::replace(&path, &encode_dead(dead))?)
    }

    fn dead_path(&self) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join("dead"))
    }

    fn root_path(&self) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join("root"))
    }

    fn head_path(&self, what: &Head<'_>) -> Option<PathBuf> {
        let name = match what {
            Head::Roster => "roster".to_owned(),
            Head::Verdict => "verdict".to_owned(),
            Head::Chain(dataset, writer) => format!("chain-{writer}-{dataset}"),
        };
        Some(self.directory.as_ref()?.join("heads").join(name))
    }
}

/// What has a head: something numbered that only ever grows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Head<'a> {
    Roster,
    Verdict,
    Chain(&'a DatasetName, &'a WriterId),
}

/// What the verdicts up to a number named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dead<'d> {
    pub(crate) number: u64,
    pub(crate) bulk: &'d HashSet<BulkName>,
    pub(crate) logs: &'d HashSet<String>,
}

/// The same, read back.
pub(crate) type RememberedDead = (u64, HashSet<BulkName>, HashSet<String>);

/// The SHA-256 of what follows, then the number, how many names of bulk objects, these, and names of logs, a
/// line each. A writer relies on what is not named here: a flipped bit must not hide a name.
fn encode_dead(dead: &Dead<'_>) -> Vec<u8> {
    let mut body = dead.number.to_le_bytes().to_vec();
    body.extend_from_slice(&(dead.bulk.len() as u64).to_le_bytes());
    dead.bulk.iter().for_each(|name| body.extend_from_slice(&name.0));
    for log in dead.logs {
        body.extend_from_slice(log.as_bytes());
        body.push(b'\n');
    }
    [sha256(&body).as_slice(), &body].concat()
}

fn decode_dead(bytes: &[u8]) -> Option<RememberedDead> {
    let (digest, body) = bytes.split_first_chunk::<32>()?;
    if sha256(body) != *digest {
        return None;
    }
    let (number, rest) = body.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    let bulk_bytes = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(32)?;
    let (bulk, logs) = rest.split_at_checked(bulk_bytes)?;
    let bulk = bulk.as_chunks::<32>().0.iter().map(|name| BulkName(*name)).collect();
    let logs = std::str::from_utf8(logs).ok()?.lines().map(str::to_owned).collect();
    Some((u64::from_le_bytes(*number), bulk, logs))
}

fn parse_head(text: &str) -> Option<(u64, BodyHash)> {
    let (number, body) = text.split_once(' ')?;
    Some((number.parse().ok()?, BodyHash::from_hex(body)?))
}

fn read_signer(path: &Path) -> Result<Option<Signer>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let seed = hex::decode(text.trim()).ok_or_else(|| bad_key(path))?;
    Ok(Some(Signer::from_seed(&seed)))
}

fn bad_key(path: &Path) -> RepositoryError {
    RepositoryError::damaged(path.display(), "it is not a writer's key (64 hexadecimal digits)")
}

fn read_text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RepositoryError::Io("read the state directory", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_remembered_and_a_flipped_bit_forgets_them() {
        let directory = tempfile::tempdir().unwrap();
        let state = LocalState::new(directory.path(), &RepositoryId([1; 16]), None);
        let bulk: HashSet<BulkName> = (0..40).map(|n| BulkName([n; 32])).collect();
        let logs = HashSet::from(["logs/a/b/c".to_owned(), "logs/a/b/d".to_owned()]);
        let dead = Dead { number: 7, bulk: &bulk, logs: &logs };
        state.remember_dead(&dead).unwrap();
        assert_eq!(state.dead().unwrap(), Some((7, bulk.clone(), logs.clone())));
        let bytes = encode_dead(&dead);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_dead(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn heads_only_rise_and_the_key_stays() {
        let directory = tempfile::tempdir().unwrap();
        let state = LocalState::new(directory.path(), &RepositoryId([1; 16]), None);
        let (dataset, writer) = (DatasetName::new("a-b.c").unwrap(), WriterId([2; 16]));
        let chain = Head::Chain(&dataset, &writer);
        assert_eq!(state.head(&chain).unwrap(), None);
        state.raise(&chain, 7, &BodyHash([7; 32])).unwrap();
        state.raise(&chain, 6, &BodyHash([6; 32])).unwrap();
        assert_eq!(state.head(&chain).unwrap(), Some((7, BodyHash([7; 32]))));
        assert_eq!(state.chains().unwrap(), [(dataset.clone(), writer, 7, BodyHash([7; 32]))]);
        assert_eq!(state.writer().unwrap().id(), state.writer().unwrap().id());
    }
}
