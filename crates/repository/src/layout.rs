//! The names of the objects: where everything is.
//!
//! Bulk objects are named by their content, control objects by their position (docs/format.md, Layout).

use crate::ids::{BulkName, DatasetName, Position, TicketId, WriterId};
use lifeboat_objects::Key;

/// Numbers in names have this many digits, so that names sort as numbers do.
const NUMBER_DIGITS: usize = 12;

fn key(text: String) -> Key {
    Key::new(text).expect("names built from checked parts are valid")
}

fn number(key: &Key) -> Option<u64> {
    let digits = key.last_component();
    (digits.len() == NUMBER_DIGITS && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

pub(crate) fn config() -> Key {
    key("config".to_owned())
}

pub(crate) const SLOTS: &str = "slots/";
pub(crate) fn slot(id: &TicketId) -> Key {
    key(format!("{SLOTS}{id}"))
}

pub(crate) const ROSTER: &str = "roster/";
pub(crate) fn roster(n: u64) -> Key {
    key(format!("{ROSTER}{n:012}"))
}

pub(crate) const ORIGINS: &str = "origins/";
/// Roster `n` of the repository that root key `root` governs, as carried by a copy.
pub(crate) fn origin(root: &WriterId, n: u64) -> Key {
    key(format!("{ORIGINS}{root}/{n:012}"))
}

pub(crate) const PACKS: &str = "packs/";
pub(crate) fn pack(name: &BulkName) -> Key {
    let hex = name.to_string();
    key(format!("{PACKS}{}/{hex}", &hex[..2]))
}

pub(crate) const INDEX: &str = "index/";
pub(crate) fn index(name: &BulkName) -> Key {
    key(format!("{INDEX}{name}"))
}

/// The name of a listed bulk object.
pub(crate) fn bulk_name(key: &Key) -> Option<BulkName> {
    BulkName::from_hex(key.last_component())
}

pub(crate) const SNAPSHOTS: &str = "snapshots/";
pub(crate) const TOMBSTONES: &str = "tombstones/";
pub(crate) const LEASES: &str = "leases/";

pub(crate) fn snapshot(position: &Position) -> Key {
    at(SNAPSHOTS, position)
}

pub(crate) fn tombstone(position: &Position) -> Key {
    at(TOMBSTONES, position)
}

fn at(prefix: &str, position: &Position) -> Key {
    key(format!("{prefix}{}/{}/{:012}", position.dataset, position.writer, position.number))
}

/// The listing prefix of one chain.
pub(crate) fn chain(prefix: &str, dataset: &DatasetName, writer: &WriterId) -> String {
    format!("{prefix}{dataset}/{writer}/")
}

/// Renewal `renewal` of the lease that claims `position`; zero is the claim itself.
pub(crate) fn lease(position: &Position, renewal: u64) -> Key {
    key(format!("{LEASES}{}/{}/{:012}/{renewal:012}", position.dataset, position.writer, position.number))
}

/// The position that a snapshot, void, release or tombstone stands at.
pub(crate) fn position(listed: &Key) -> Option<Position> {
    let mut parts = listed.as_str().split('/').skip(1);
    let dataset = DatasetName::new(parts.next()?).ok()?;
    let writer = WriterId::from_hex(parts.next()?)?;
    let number = parts.next()?.parse().ok()?;
    Some(Position { dataset, writer, number })
}

/// The position and renewal of a listed lease.
pub(crate) fn lease_parts(listed: &Key) -> Option<(Position, u64)> {
    Some((position(listed)?, number(listed)?))
}

pub(crate) const READERS: &str = "readers/";
pub(crate) fn reader(ticket: &TicketId, renewal: u64) -> Key {
    key(format!("{READERS}{ticket}/{renewal:012}"))
}

pub(crate) const READERS_ENDED: &str = "readers-ended/";
pub(crate) fn reader_ended(ticket: &TicketId) -> Key {
    key(format!("{READERS_ENDED}{ticket}"))
}

pub(crate) const HOLDS: &str = "holds/";
pub(crate) fn hold(ticket: &TicketId) -> Key {
    key(format!("{HOLDS}{ticket}"))
}

pub(crate) const HOLDS_ENDED: &str = "holds-ended/";
pub(crate) fn hold_ended(ticket: &TicketId) -> Key {
    key(format!("{HOLDS_ENDED}{ticket}"))
}

/// The ticket of a listed reader, hold or end of one.
pub(crate) fn ticket(listed: &Key) -> Option<TicketId> {
    listed.as_str().split('/').nth(1).and_then(TicketId::from_hex)
}

pub(crate) const CONDEMNED: &str = "condemned/";
pub(crate) fn condemned(n: u64) -> Key {
    key(format!("{CONDEMNED}{n:012}"))
}

pub(crate) const VERDICTS: &str = "verdicts/";
pub(crate) fn verdict(n: u64) -> Key {
    key(format!("{VERDICTS}{n:012}"))
}

pub(crate) const LEADERS: &str = "leaders/";
pub(crate) fn leader(generation: u64) -> Key {
    key(format!("{LEADERS}{generation:012}"))
}

pub(crate) const HEARTBEATS: &str = "heartbeats/";
pub(crate) fn heartbeat(generation: u64, n: u64) -> Key {
    key(format!("{HEARTBEATS}{generation:012}/{n:012}"))
}

pub(crate) const LOGS: &str = "logs/";
/// A log object: its name alone says which positions it holds and who wrote it. The nonce makes the name of
/// every attempt its own, so that no name is made twice.
pub(crate) fn log(name: &LogName, nonce: u64) -> Key {
    let LogName { dataset, lineage, start, end, writer } = name;
    key(format!("{LOGS}{dataset}/{lineage}/{start:016x}-{end:016x}-{writer}-{nonce:016x}"))
}

/// The listing prefix of one dataset's logs.
pub(crate) fn logs(dataset: &DatasetName) -> String {
    format!("{LOGS}{dataset}/")
}

/// What the name of a log object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogName {
    pub(crate) dataset: DatasetName,
    pub(crate) lineage: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) writer: WriterId,
}

/// What the name of a listed log object says.
pub(crate) fn log_name(listed: &Key) -> Option<LogName> {
    let mut parts = listed.as_str().split('/').skip(1);
    let dataset = DatasetName::new(parts.next()?).ok()?;
    let lineage = parts.next()?.to_owned();
    let mut fields = parts.next()?.split('-');
    let mut hex = || fields.next().filter(|f| f.len() == 16).and_then(|f| u64::from_str_radix(f, 16).ok());
    let (start, end) = (hex()?, hex()?);
    let writer = WriterId::from_hex(fields.next()?)?;
    Some(LogName { dataset, lineage, start, end, writer })
}

/// The log object that a list or verdict names; nothing else can be named there.
pub(crate) fn listed_log(name: &str) -> Option<Key> {
    Key::new(name).ok().filter(|key| key.as_str().starts_with(LOGS) && log_name(key).is_some())
}

/// The number that a roster, list, verdict, leader or heartbeat is named by.
pub(crate) fn listed_number(listed: &Key) -> Option<u64> {
    number(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_positions() {
        let position_ =
            Position { dataset: DatasetName::new("users").unwrap(), writer: WriterId([7; 16]), number: 42 };
        assert_eq!(position(&snapshot(&position_)), Some(position_.clone()));
        assert_eq!(position(&tombstone(&position_)), Some(position_.clone()));
        assert_eq!(lease_parts(&lease(&position_, 3)), Some((position_, 3)));
        let name = LogName {
            dataset: DatasetName::new("users").unwrap(),
            lineage: "7-1".to_owned(),
            start: 0x10,
            end: u64::MAX,
            writer: WriterId([7; 16]),
        };
        assert_eq!(log_name(&log(&name, 9)), Some(name));
        assert_eq!(listed_number(&verdict(9)), Some(9));
        assert_eq!(bulk_name(&pack(&BulkName([3; 32]))), Some(BulkName([3; 32])));
    }
}
