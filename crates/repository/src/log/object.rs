//! The object of a log: a front that says how long its parts are, and the parts, each an envelope.
//!
//! The head is signed and binds the other two by their hashes, so that head and payload can be carried to a
//! copy under other keys verbatim. Only the first bytes need be read to know what an object holds.

use super::payload::LogPayload;
use crate::bodies::{self, LogBody, LogTable};
use crate::crypto::Signer;
use crate::envelope::{self, FORMAT, ObjectType, Signed};
use crate::error::{RepositoryError, Result};
use crate::ids::{BodyHash, WriterId};
use crate::layout::{self, LogName};
use crate::repository::Repository;
use crate::trust::Need;
use lifeboat_objects::{Key, Listed, MAX_OBJECT_BYTES};

const MAGIC: &[u8; 3] = b"LBG";
const FRONT_BYTES: usize = 16;
/// So many bytes are read at first: the head of a log is well below, unless many countersigned it.
const FIRST_READ_BYTES: usize = 4096;

/// How long the parts of a log object are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Front {
    head: usize,
    table: usize,
    payload: usize,
}

impl Front {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let front = bytes.get(..FRONT_BYTES)?;
        let length = |at: usize| {
            let digits = front.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(digits)).ok().filter(|n| *n <= MAX_OBJECT_BYTES)
        };
        let known = &front[..3] == MAGIC && front[3] != 0 && u32::from(front[3]) <= FORMAT;
        known.then_some(Self { head: length(4)?, table: length(8)?, payload: length(12)? })
    }

    fn encode(self) -> Result<Vec<u8>> {
        if self.object() > MAX_OBJECT_BYTES {
            let what = format!("{} bytes are too many for one object", self.object());
            return Err(RepositoryError::damaged("new log object", what));
        }
        let mut bytes = MAGIC.to_vec();
        bytes.push(FORMAT as u8);
        for length in [self.head, self.table, self.payload] {
            bytes.extend_from_slice(&(length as u32).to_le_bytes());
        }
        Ok(bytes)
    }

    fn object(self) -> usize {
        FRONT_BYTES + self.head + self.table + self.payload
    }

    /// The parts of a whole object.
    fn split(self, bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
        let (head, rest) = bytes.get(FRONT_BYTES..)?.split_at_checked(self.head)?;
        let (table, payload) = rest.split_at_checked(self.table)?;
        (payload.len() == self.payload).then_some((head, table, payload))
    }
}

/// A log object of which the head has been read and believed.
#[derive(Clone, Debug)]
pub(crate) struct Headed {
    pub(crate) key: Key,
    pub(crate) body: LogBody,
    pub(crate) hash: BodyHash,
    pub(crate) writer: WriterId,
    pub(crate) size_bytes: u64,
    front: Front,
}

/// What a log object holds.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) payload: LogPayload,
    pub(crate) table: Option<LogTable>,
}

impl Headed {
    /// Bytes of the payload as stored.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.front.payload
    }

    pub(crate) fn is_compacted(&self) -> bool {
        self.body.table.is_some()
    }

    /// Whether it may stand for the objects that it replaced: not where another repository's maintainer
    /// compacted it, whose word must not remove anything from a copy.
    pub(crate) fn stands_for_others_in(&self, repository: &Repository) -> bool {
        self.is_compacted() && self.body.repository == repository.id()
    }

    pub(crate) fn covers(&self, position: u64) -> bool {
        self.body.start <= position && position < self.body.end
    }

    /// When which position had arrived.
    pub(crate) fn marks(&self, table: Option<&LogTable>) -> Vec<bodies::LogMark> {
        match table {
            Some(table) => table.marks.clone(),
            None => vec![bodies::LogMark { end: self.body.end, at: self.body.last }],
        }
    }
}

impl Repository {
    /// Puts a log object together. The head must bind the bodies of table and payload.
    pub(crate) fn wrap_log(
        &self,
        head: &Signed,
        table: Option<Vec<u8>>,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>> {
        let unsigned = |body| Signed { body, signatures: Vec::new() };
        let payload = self.wrap(ObjectType::Log, &unsigned(payload))?;
        let head = self.wrap(ObjectType::Log, head)?;
        let table = match table {
            Some(table) => self.wrap(ObjectType::Log, &unsigned(table))?,
            None => Vec::new(),
        };
        assemble(&head, &table, &payload)
    }

    /// Reads the head of a listed log object from its first bytes alone.
    pub(crate) fn read_log_head(&self, listed: &Listed) -> Result<Headed> {
        let damaged = |what: &str| RepositoryError::damaged(&listed.key, what);
        let size = usize::try_from(listed.size_bytes).unwrap_or(usize::MAX);
        let mut bytes = self.store.get_range(&listed.key, 0, size.min(FIRST_READ_BYTES))?;
        let front = Front::parse(&bytes).ok_or_else(|| damaged("it is no log object of this format"))?;
        if front.object() != size {
            return Err(damaged("it is not as long as it says: only a part of it arrived"));
        }
        if FRONT_BYTES + front.head > bytes.len() {
            bytes = self.store.get_range(&listed.key, 0, FRONT_BYTES + front.head)?;
        }
        let head = bytes.get(FRONT_BYTES..FRONT_BYTES + front.head);
        self.judge_log_head(listed, front, head.ok_or_else(|| damaged("its head is cut off"))?)
    }

    fn judge_log_head(&self, listed: &Listed, front: Front, head: &[u8]) -> Result<Headed> {
        let key = &listed.key;
        let (kind, signed) = self.unwrap(key, head)?;
        if kind != ObjectType::Log {
            return Err(RepositoryError::damaged(key, format!("it is a {kind:?} where a Log belongs")));
        }
        let body: LogBody =
            bodies::decode(&signed.body).map_err(|error| RepositoryError::damaged(key, error))?;
        // What replaces other objects is believed of a maintainer alone.
        let need = if body.table.is_some() { Need::Maintain } else { Need::Publish(&body.dataset) };
        let writer = match body.repository == self.id() {
            true => self.check_signature(kind, key, &signed, need)?,
            false => self.judge_carried_head(key, &signed, &body, need)?,
        };
        let says = LogName {
            dataset: body.dataset.clone(),
            lineage: body.lineage.clone(),
            start: body.start,
            end: body.end,
            writer,
        };
        if layout::log_name(key) != Some(says) || body.start >= body.end {
            return Err(RepositoryError::damaged(key, "it belongs to another place"));
        }
        if body.table.is_some() != (front.table > 0) {
            return Err(RepositoryError::damaged(key, "it has no table where it says one, or one too many"));
        }
        let (key, size_bytes) = (key.clone(), listed.size_bytes);
        Ok(Headed { key, hash: BodyHash::of(&signed.body), body, writer, size_bytes, front })
    }

    /// In a copy: the head of a log that an origin's writer wrote and somebody carried here who may publish
    /// the dataset. Whether the origin's writer was revoked later is not asked: who carried it judged that.
    fn judge_carried_head(
        &self,
        key: &Key,
        signed: &Signed,
        body: &LogBody,
        need: Need<'_>,
    ) -> Result<WriterId> {
        let mut trust = self.trust();
        if !trust.knows(&body.repository) {
            trust = self.refresh_trust()?;
        }
        if !trust.knows(&body.repository) {
            return Err(RepositoryError::damaged(key, "it belongs to another repository"));
        }
        let judged = trust.judge(ObjectType::Log, signed, &body.repository, need);
        let writer = judged.map(|writer| writer.public.id());
        let writer = writer.map_err(|distrust| RepositoryError::damaged(key, distrust))?;
        self.check_signer(ObjectType::Log, key, signed, Need::Publish(&body.dataset))?;
        Ok(writer)
    }

    /// Reads the table of a compacted log, and nothing of its payload.
    pub(crate) fn read_log_table(&self, headed: &Headed) -> Result<LogTable> {
        let start = FRONT_BYTES + headed.front.head;
        let bytes = self.store.get_range(&headed.key, start as u64, headed.front.table)?;
        decode_table(headed, &self.log_table(headed, &bytes)?)
    }

    fn log_table(&self, headed: &Headed, bytes: &[u8]) -> Result<Vec<u8>> {
        let body = self.log_part(headed, bytes)?.body;
        if headed.body.table != Some(BodyHash::of(&body)) {
            return Err(RepositoryError::damaged(&headed.key, "its table is not the one that was signed"));
        }
        Ok(body)
    }

    /// Reads a whole log object whose head is known.
    pub(crate) fn load_log(&self, headed: &Headed) -> Result<Loaded> {
        let parts = self.log_parts(headed)?;
        let table = parts.table.map(|table| decode_table(headed, &table)).transpose()?;
        let payload = decode_payload(headed, parts.payload)?;
        Ok(Loaded { payload, table })
    }

    /// The same object for a copy: what was signed verbatim, with one signature more, under the copy's keys.
    pub(crate) fn rewrap_log(&self, headed: &Headed, target: &Self, signer: &Signer) -> Result<Vec<u8>> {
        let mut parts = self.log_parts(headed)?;
        decode_payload(headed, parts.payload.clone())?;
        parts.head.countersign(ObjectType::Log, signer);
        target.wrap_log(&parts.head, parts.table, parts.payload)
    }

    fn log_parts(&self, headed: &Headed) -> Result<Parts> {
        let damaged = |what: &str| RepositoryError::damaged(&headed.key, what);
        let bytes = self.store.get(&headed.key)?;
        let parts = Front::parse(&bytes).filter(|front| *front == headed.front);
        let (head, table, payload) =
            parts.and_then(|front| front.split(&bytes)).ok_or_else(|| damaged("its length has changed"))?;
        let head = self.log_part(headed, head)?;
        // The head may have rotted since it was read; what is read now must be what was believed then.
        if BodyHash::of(&head.body) != headed.hash {
            return Err(damaged("its head is not the one that was listed"));
        }
        let table = match headed.is_compacted() {
            true => Some(self.log_table(headed, table)?),
            false => None,
        };
        let payload = self.log_part(headed, payload)?.body;
        if LogPayload::hash(&payload) != headed.body.payload {
            return Err(damaged("its payload is not the one that was signed"));
        }
        Ok(Parts { head, table, payload })
    }

    fn log_part(&self, headed: &Headed, bytes: &[u8]) -> Result<Signed> {
        match self.unwrap(&headed.key, bytes)? {
            (ObjectType::Log, signed) => Ok(signed),
            (other, _) => Err(RepositoryError::damaged(&headed.key, format!("a part of it is a {other:?}"))),
        }
    }
}

/// Puts the parts of an object behind its front.
pub(crate) fn assemble(head: &[u8], table: &[u8], payload: &[u8]) -> Result<Vec<u8>> {
    let front = Front { head: head.len(), table: table.len(), payload: payload.len() };
    let mut bytes = front.encode()?;
    bytes.reserve_exact(front.object() - FRONT_BYTES);
    for part in [head, table, payload] {
        bytes.extend_from_slice(part);
    }
    Ok(bytes)
}

/// The parts of a whole object: head, table (empty where there is none), payload.
#[cfg(test)]
pub(crate) fn disassemble(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    Front::parse(bytes)?.split(bytes)
}

/// The bodies of an object's parts, which belong together.
struct Parts {
    head: Signed,
    table: Option<Vec<u8>>,
    payload: Vec<u8>,
}

fn decode_table(headed: &Headed, body: &[u8]) -> Result<LogTable> {
    bodies::decode(body).map_err(|error| RepositoryError::damaged(&headed.key, error))
}

fn decode_payload(headed: &Headed, body: Vec<u8>) -> Result<LogPayload> {
    let positions = headed.body.end - headed.body.start;
    LogPayload::decode(body, headed.body.units, positions)
        .ok_or_else(|| RepositoryError::damaged(&headed.key, "its payload does not fill its positions"))
}

/// For fuzzing: reads anything as a log object with open parts, and as each of its parts.
#[doc(hidden)]
pub fn fuzz_log(bytes: &[u8]) -> bool {
    let whole =
        Front::parse(bytes).and_then(|front| front.split(bytes)).is_some_and(|(head, table, payload)| {
            let part = |bytes: &[u8]| envelope::unwrap(bytes, None, None).map(|(_, signed)| signed.body);
            let head = part(head).ok().and_then(|body| bodies::decode::<LogBody>(&body).ok());
            let table = part(table).ok().and_then(|body| bodies::decode::<LogTable>(&body).ok());
            let positions = head.as_ref().map_or(0, |head| head.end.saturating_sub(head.start));
            let payload = part(payload)
                .ok()
                .and_then(|body| LogPayload::decode(body, head.as_ref().is_some_and(|h| h.units), positions));
            head.is_some() || table.is_some() || payload.is_some()
        });
    let parts = bodies::decode::<LogBody>(bytes).is_ok()
        || bodies::decode::<LogTable>(bytes).is_ok()
        || LogPayload::decode(bytes.to_vec(), true, 1).is_some();
    whole || parts
}
