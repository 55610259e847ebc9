//! For the fuzz targets in `fuzz/`: parsers that this crate keeps to itself, behind one door each.
//!
//! Each door takes any bytes, says whether they were taken for what it reads, and panics where something was
//! read that cannot be written and read again. It deliberately knows nothing of where the bytes come from.

use crate::bodies::{
    self, BulkSet, Config, CopiedSnapshot, End, Heartbeat, Hold, Leader, Lease, Origin, ReaderLease,
    ReceiptObject, Release, Roster, RunRecordObject, RunRequestObject, Slot, SlotSecrets, Snapshot,
    Tombstone, Void,
};
use crate::ids::ChunkId;
use crate::{layout, walk};
use lifeboat_objects::Key;
use minicbor::{Decode, Encode};

/// For fuzzing: reads anything as the body of each control object.
#[doc(hidden)]
pub fn fuzz_bodies(bytes: &[u8]) -> bool {
    let readers = [
        reads::<Config>,
        reads::<Slot>,
        reads::<SlotSecrets>,
        reads::<Roster>,
        reads::<Origin>,
        reads::<Snapshot>,
        reads::<CopiedSnapshot>,
        reads::<Release>,
        reads::<Void>,
        reads::<Tombstone>,
        reads::<Lease>,
        reads::<ReaderLease>,
        reads::<End>,
        reads::<Hold>,
        reads::<ReceiptObject>,
        reads::<RunRecordObject>,
        reads::<RunRequestObject>,
        reads::<BulkSet>,
        reads::<Leader>,
        reads::<Heartbeat>,
    ];
    readers.into_iter().filter(|read| read(bytes)).count() > 0
}

fn reads<T: for<'b> Decode<'b, ()> + Encode<()>>(bytes: &[u8]) -> bool {
    let Ok(body) = bodies::decode::<T>(bytes) else { return false };
    let written = bodies::encode(&body);
    let again = bodies::decode::<T>(&written).expect("what was written can be read");
    assert_eq!(bodies::encode(&again), written, "what was read is written the same way again");
    true
}

/// For fuzzing: reads anything as a list of chunks.
#[doc(hidden)]
pub fn fuzz_list(bytes: &[u8]) -> bool {
    let Ok(chunks) = walk::decode_list(&ChunkId([0; 32]), bytes) else { return false };
    assert_eq!(walk::encode_list(&chunks), bytes, "a list has one form");
    true
}

/// For fuzzing: reads anything as the name of a listed object.
#[doc(hidden)]
pub fn fuzz_names(text: &str) -> bool {
    let Ok(key) = Key::new(text) else { return false };
    let position = layout::position(&key);
    if let Some(position) = &position {
        assert!(
            [layout::snapshot(position), layout::tombstone(position)].contains(&key),
            "{key} has one form"
        );
    }
    let bulk = layout::bulk_name(&key);
    if let Some(name) = &bulk {
        assert!([layout::pack(name), layout::index(name)].contains(&key), "{key} has one form");
    }
    let lease = layout::lease_parts(&key);
    if let Some((position, renewal)) = &lease {
        assert_eq!(layout::lease(position, *renewal), key, "a lease has one form");
    }
    let log = layout::log_name(&key);
    if let Some(name) = &log {
        let same = layout::log(name, 0);
        let digits = same.as_str().len() - 16;
        assert_eq!(same.as_str()[..digits], key.as_str()[..digits], "a log has one form but for its nonce");
    }
    let receipt = layout::receipt_parts(&key);
    if let Some((chain, number)) = &receipt {
        assert_eq!(layout::receipt(chain, *number), key, "a receipt has one form");
    }
    let run = layout::run_parts(&key);
    if let Some((run, number)) = &run {
        assert_eq!(layout::run_record(run, *number), key, "a record of a run has one form");
    }
    let request = layout::request_parts(&key);
    if let Some((run, id)) = &request {
        assert_eq!(layout::run_request(run, id), key, "a request to a run has one form");
    }
    let named = position.is_some() | bulk.is_some() | lease.is_some() | log.is_some();
    let named = named | receipt.is_some() | run.is_some() | request.is_some();
    named | layout::ticket(&key).is_some() | layout::listed_number(&key).is_some()
}
