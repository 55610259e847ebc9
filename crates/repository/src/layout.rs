//! The names of the objects: where everything is.
//!
//! Bulk objects are named by their content, control objects by their position (docs/format.md, Layout).

use crate::ids::{BulkName, DatasetName, Position, RepositoryId, RequestId, RunName, TicketId, WriterId};
use crate::receipts::ReceiptChain;
use lifeboat_base::hex;
use lifeboat_objects::Key;

/// Numbers in names have this many digits, so that names sort as numbers do.
const NUMBER_DIGITS: usize = 12;
/// The largest number that a name can have.
pub(crate) const MAX_NUMBER: u64 = 999_999_999_999;

fn key(text: String) -> Key {
    Key::new(text).expect("names built from checked parts are valid")
}

/// The components of a name behind its prefix, where there are exactly `N`.
fn components<'k, const N: usize>(key: &'k Key, prefix: &str) -> Option<[&'k str; N]> {
    let mut parts = key.as_str().strip_prefix(prefix)?.split('/');
    let mut components = [""; N];
    for component in &mut components {
        *component = parts.next()?;
    }
    parts.next().is_none().then_some(components)
}

/// A number of a name; those of renewals alone start at zero.
fn number_from_zero(digits: &str) -> Option<u64> {
    let decimal = digits.len() == NUMBER_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    if decimal { digits.parse().ok() } else { None }
}

fn number(digits: &str) -> Option<u64> {
    number_from_zero(digits).filter(|number| *number > 0)
}

/// 16 hexadecimal digits.
fn hex_number(digits: &str) -> Option<u64> {
    hex::decode(digits).map(u64::from_be_bytes)
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
    if let Some([name]) = components(key, INDEX) {
        return BulkName::from_hex(name);
    }
    let [shelf, name] = components(key, PACKS)?;
    name.starts_with(shelf).then(|| BulkName::from_hex(name)).flatten().filter(|_| shelf.len() == 2)
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
    let parts = components(listed, SNAPSHOTS).or_else(|| components(listed, TOMBSTONES));
    parts.and_then(place)
}

fn place([dataset, writer, digits]: [&str; 3]) -> Option<Position> {
    let dataset = DatasetName::new(dataset).ok()?;
    Some(Position { dataset, writer: WriterId::from_hex(writer)?, number: number(digits)? })
}

/// The position and renewal of a listed lease.
pub(crate) fn lease_parts(listed: &Key) -> Option<(Position, u64)> {
    let [dataset, writer, digits, renewal] = components(listed, LEASES)?;
    Some((place([dataset, writer, digits])?, number_from_zero(renewal)?))
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
    if let Some([ticket, renewal]) = components(listed, READERS) {
        return TicketId::from_hex(ticket).filter(|_| number_from_zero(renewal).is_some());
    }
    let ended = [READERS_ENDED, HOLDS, HOLDS_ENDED].into_iter().find_map(|prefix| components(listed, prefix));
    ended.and_then(|[ticket]| TicketId::from_hex(ticket))
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
    let [dataset, lineage, name] = components(listed, LOGS)?;
    let [start, end, writer, nonce] = name.split('-').collect::<Vec<_>>().try_into().ok()?;
    hex_number(nonce)?;
    Some(LogName {
        dataset: DatasetName::new(dataset).ok()?,
        // The rule for lineages is that for datasets.
        lineage: DatasetName::new(lineage).ok()?.as_str().to_owned(),
        start: hex_number(start)?,
        end: hex_number(end)?,
        writer: WriterId::from_hex(writer)?,
    })
}

pub(crate) const RECEIPTS: &str = "receipts/";
/// Receipt `n` of a chain. Its repository is named since a copy holds chains of several.
pub(crate) fn receipt(chain: &ReceiptChain, n: u64) -> Key {
    key(format!("{}{n:012}", receipts(chain)))
}

/// The listing prefix of one chain of receipts.
pub(crate) fn receipts(chain: &ReceiptChain) -> String {
    format!("{RECEIPTS}{}/{}/", chain.repository, chain.writer)
}

/// The chain and number of a listed receipt.
pub(crate) fn receipt_parts(listed: &Key) -> Option<(ReceiptChain, u64)> {
    let [repository, writer, digits] = components(listed, RECEIPTS)?;
    let (repository, writer) = (RepositoryId::from_hex(repository)?, WriterId::from_hex(writer)?);
    Some((ReceiptChain { repository, writer }, number(digits)?))
}

pub(crate) const RUNS: &str = "runs/";
/// Record `n` of a run.
pub(crate) fn run_record(run: &RunName, n: u64) -> Key {
    key(format!("{}{n:012}", run_records(run)))
}

/// The listing prefix of one run.
pub(crate) fn run_records(run: &RunName) -> String {
    format!("{RUNS}{run}/")
}

/// The run and number of a listed record.
pub(crate) fn run_parts(listed: &Key) -> Option<(RunName, u64)> {
    let [run, digits] = components(listed, RUNS)?;
    Some((RunName::new(run).ok()?, number(digits)?))
}

pub(crate) const REQUESTS: &str = "requests/";
/// A request to a run.
pub(crate) fn run_request(run: &RunName, id: &RequestId) -> Key {
    key(format!("{}{id}", run_requests(run)))
}

/// The listing prefix of the requests to one run.
pub(crate) fn run_requests(run: &RunName) -> String {
    format!("{REQUESTS}{run}/")
}

/// The run and identity of a listed request.
pub(crate) fn request_parts(listed: &Key) -> Option<(RunName, RequestId)> {
    let [run, digits] = components(listed, REQUESTS)?;
    Some((RunName::new(run).ok()?, RequestId::from_hex(digits)?))
}

/// The log object that a list or verdict names; nothing else can be named there.
pub(crate) fn listed_log(name: &str) -> Option<Key> {
    Key::new(name).ok().filter(|key| log_name(key).is_some())
}

/// The number that a roster, list, verdict, leader or heartbeat is named by.
pub(crate) fn listed_number(listed: &Key) -> Option<u64> {
    if let Some([generation, beat]) = components(listed, HEARTBEATS) {
        return number(generation).and(number(beat));
    }
    let prefixes = [ROSTER, CONDEMNED, VERDICTS, LEADERS];
    let found = prefixes.into_iter().find_map(|prefix| components(listed, prefix));
    found.and_then(|[digits]| number(digits))
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
        let chain = ReceiptChain { repository: RepositoryId([6; 16]), writer: WriterId([7; 16]) };
        assert_eq!(receipt_parts(&receipt(&chain, 9)), Some((chain, 9)));
        let run = RunName::new("20261122t190000z-07").unwrap();
        assert_eq!(run_parts(&run_record(&run, 9)), Some((run.clone(), 9)));
        let id = RequestId([8; 16]);
        assert_eq!(request_parts(&run_request(&run, &id)), Some((run, id)));
        for key in [roster(9), condemned(9), verdict(9), leader(9), heartbeat(1, 9)] {
            assert_eq!(listed_number(&key), Some(9), "{key}");
        }
        let ticket_ = TicketId([5; 16]);
        for key in [reader(&ticket_, 0), reader_ended(&ticket_), hold(&ticket_), hold_ended(&ticket_)] {
            assert_eq!(ticket(&key), Some(ticket_), "{key}");
        }
        for key in [pack(&BulkName([3; 32])), index(&BulkName([3; 32]))] {
            assert_eq!(bulk_name(&key), Some(BulkName([3; 32])), "{key}");
        }
    }

    /// Whatever reads a name of the layout in some way.
    fn is_known(name: &str) -> bool {
        // Some are not even the names of objects.
        let Ok(key) = Key::new(name) else { return false };
        position(&key).is_some()
            || lease_parts(&key).is_some()
            || ticket(&key).is_some()
            || listed_number(&key).is_some()
            || bulk_name(&key).is_some()
            || log_name(&key).is_some()
            || receipt_parts(&key).is_some()
            || run_parts(&key).is_some()
            || request_parts(&key).is_some()
            || listed_log(name).is_some()
    }

    #[test]
    fn only_names_that_the_format_writes_are_read() {
        let (writer, digest) = ("07".repeat(16), "03".repeat(32));
        let good = [
            format!("snapshots/users/{writer}/000000000042"),
            format!("tombstones/users/{writer}/999999999999"),
            format!("leases/users/{writer}/000000000042/000000000000"),
            format!("readers/{writer}/000000000000"),
            format!("readers-ended/{writer}"),
            format!("holds/{writer}"),
            format!("holds-ended/{writer}"),
            "roster/000000000001".to_owned(),
            "condemned/000000000001".to_owned(),
            "verdicts/000000000001".to_owned(),
            "leaders/000000000001".to_owned(),
            "heartbeats/000000000001/000000000001".to_owned(),
            format!("packs/03/{digest}"),
            format!("index/{digest}"),
            format!("logs/users/7-1/0000000000000010-ffffffffffffffff-{writer}-0000000000000009"),
            format!("receipts/{writer}/{writer}/000000000001"),
            "runs/a-run/000000000001".to_owned(),
            format!("requests/a-run/{writer}"),
        ];
        for name in &good {
            assert!(is_known(name), "{name}");
            // One component more or less, another prefix, something before or behind it.
            assert!(!is_known(&format!("{name}/000000000001")), "{name} and more");
            assert!(!is_known(&format!("other/{name}")), "{name} below another prefix");
            assert!(!is_known(&format!("{name}0")) && !is_known(&format!("{name}.tmp")), "longer {name}");
            assert!(!is_known(&name[..name.len() - 1]), "{name} without its last digit");
            assert!(!is_known(name.rsplit_once('/').unwrap().0), "{name} without its last component");
            let other = name.replacen(name.split('/').next().unwrap(), "config", 1);
            assert!(!is_known(&other), "{other}");
        }
        for name in [
            format!("snapshots/users/{writer}/42"),
            format!("snapshots/users/{writer}/+00000000042"),
            format!("snapshots/users/{writer}/000000000000"),
            format!("snapshots/Users/{writer}/000000000042"),
            format!("snapshots/users/{}/000000000042", "0A".repeat(16)),
            format!("leases/users/{writer}/000000000000/000000000000"),
            format!("leases/users/{writer}/000000000042"),
            "verdicts/000000000000".to_owned(),
            "verdicts/users/000000000001".to_owned(),
            "heartbeats/000000000001".to_owned(),
            format!("receipts/{writer}/000000000001"),
            format!("receipts/{writer}/{writer}/000000000000"),
            "runs/a-run/000000000000".to_owned(),
            "runs/A-run/000000000001".to_owned(),
            "runs/-run/000000000001".to_owned(),
            "runs/000000000001".to_owned(),
            format!("requests/A-run/{writer}"),
            format!("requests/a-run/{}", "0A".repeat(16)),
            format!("requests/{writer}"),
            format!("receipts/{writer}/{}/000000000001", "0A".repeat(16)),
            format!("packs/04/{digest}"),
            format!("packs/{digest}"),
            format!("packs/0/{digest}"),
            format!("index/03/{digest}"),
            format!("logs/users/7-1/000000000000001F-ffffffffffffffff-{writer}-0000000000000009"),
            format!("logs/users/7-1/+000000000000010-ffffffffffffffff-{writer}-0000000000000009"),
            format!("logs/users/7-1/0000000000000010-ffffffffffffffff-{writer}"),
            format!("logs/users/7-1/0000000000000010-ffffffffffffffff-{writer}-0000000000000009-1"),
            format!("logs/users/-1/0000000000000010-ffffffffffffffff-{writer}-0000000000000009"),
        ] {
            assert!(!is_known(&name), "{name}");
        }
    }
}
