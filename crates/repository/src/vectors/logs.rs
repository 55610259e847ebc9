//! Vectors of logs and of leadership.

use super::*;
use crate::layout::{self, LogName};
use crate::log::LogPayload;
use crate::log::object::{assemble, disassemble};

const UNITS: [&[u8]; 3] = [b"first", b"", b"third \xff"];

/// The name of a log object of the lineage that all vectors have.
pub(super) fn name(start: u64, end: u64, nonce: u64) -> String {
    let (dataset, lineage) = (DatasetName::new("users").unwrap(), "7-1".to_owned());
    layout::log(&LogName { dataset, lineage, start, end, writer: writer().id() }, nonce).to_string()
}

fn units() -> LogPayload {
    LogPayload::Units(UNITS.map(<[u8]>::to_vec).to_vec())
}

fn bytes() -> LogPayload {
    LogPayload::Bytes(b"lifeboat".to_vec())
}

fn head(payload: &LogPayload, table: Option<&LogTable>) -> LogBody {
    LogBody {
        repository: REPOSITORY,
        dataset: DatasetName::new("users").unwrap(),
        lineage: "7-1".to_owned(),
        start: 16,
        end: 16 + payload.positions(),
        first: AT,
        last: Timestamp::from_nanos(1_800_000_001_000_000_000),
        predecessor: None,
        kind: "sqlite-wal".to_owned(),
        units: payload.is_units(),
        generation: None,
        payload: LogPayload::hash(&payload.encode()),
        table: table.map(|table| BodyHash::of(&encode(table))),
    }
}

fn follower() -> LogBody {
    LogBody { predecessor: Some(BodyHash([0x66; 32])), generation: Some(2), ..head(&bytes(), None) }
}

fn table() -> LogTable {
    LogTable {
        marks: vec![LogMark { end: 17, at: AT }, LogMark { end: 19, at: Timestamp::from_nanos(-1) }],
        replaced: vec![
            LogReplaced { end: 17, body: BodyHash([0x67; 32]) },
            LogReplaced { end: 19, body: BodyHash([0x68; 32]) },
        ],
    }
}

#[test]
fn bodies_of_leadership() {
    let (repository, at) = (REPOSITORY, AT);
    let nonce = TicketId([0x31; 16]);
    body("leader", &Leader { repository, generation: 2, writer: writer().id(), at, nonce });
    let beat = Heartbeat { repository, generation: 2, number: 9, at, resigned: false };
    body("heartbeat", &beat);
    body("heartbeat-resigned", &Heartbeat { resigned: true, ..beat });
}

#[test]
fn bodies_of_logs() {
    body("log-head", &head(&units(), None));
    body("log-head-follower", &follower());
    body("log-head-compacted", &head(&units(), Some(&table())));
    body("log-table", &table());
    exact("log-payload-units", &units().encode());
    exact("log-payload-bytes", &bytes().encode());
    for payload in [units(), bytes()] {
        let (encoded, positions) = (payload.encode(), payload.positions());
        assert_eq!(LogPayload::decode(encoded, payload.is_units(), positions), Some(payload));
    }
}

fn seal(signed: &Signed) -> Vec<u8> {
    let public = epoch_private().public().unwrap();
    envelope::wrap(ObjectType::Log, signed, &REPOSITORY, Seal::To { epoch: EPOCH, public: &public }).unwrap()
}

fn unsigned(body: Vec<u8>) -> Signed {
    Signed { body, signatures: Vec::new() }
}

fn build(head: &Signed, table: Option<&LogTable>, payload: &LogPayload) -> Vec<u8> {
    let table = table.map(|table| seal(&unsigned(encode(table)))).unwrap_or_default();
    assemble(&seal(head), &table, &seal(&unsigned(payload.encode()))).unwrap()
}

fn open(part: &[u8]) -> Signed {
    let (kind, signed) = envelope::unwrap(part, Some(&REPOSITORY), Some(&epoch_keys())).unwrap();
    assert_eq!(kind, ObjectType::Log);
    signed
}

/// A whole object decodes to these parts.
fn object(name: &str, head: &Signed, table: Option<&LogTable>, payload: &LogPayload) {
    let bytes = decoded(name, || build(head, table, payload));
    let (found_head, found_table, found_payload) = disassemble(&bytes).unwrap();
    assert_eq!(open(found_head), *head, "{name}");
    assert_eq!(open(found_payload), unsigned(payload.encode()), "{name}");
    match table {
        Some(table) => assert_eq!(open(found_table), unsigned(encode(table)), "{name}"),
        None => assert!(found_table.is_empty(), "{name}"),
    }
}

#[test]
fn log_objects() {
    let sign = |head: &LogBody| Signed::new(ObjectType::Log, encode(head), &writer());
    object("log-object", &sign(&follower()), None, &bytes());
    object("log-object-compacted", &sign(&head(&units(), Some(&table()))), Some(&table()), &units());
    // In a copy: another repository's head, signed by its writer and by the copier.
    let mut carried = sign(&LogBody { repository: ORIGIN, ..head(&units(), None) });
    carried.countersign(ObjectType::Log, &copier());
    assert_eq!(carried.signatures.len(), 2);
    object("log-object-carried", &carried, None, &units());
}

fn copier() -> Signer {
    Signer::from_seed(&[0x0a; 32])
}
