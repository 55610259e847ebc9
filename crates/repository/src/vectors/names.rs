//! The names of all objects.

use super::*;
use crate::layout;
use crate::receipts::ReceiptChain;

#[test]
fn names_of_objects() {
    let (position, root, ticket) = (position(42), root().id(), TICKET);
    let (pack, index) = (BulkName([0x41; 32]), BulkName([0x43; 32]));
    let keys = [
        layout::config(),
        layout::slot(&ticket),
        layout::roster(1),
        layout::origin(&root, 2),
        layout::pack(&pack),
        layout::index(&index),
        layout::snapshot(&position),
        layout::tombstone(&position),
        layout::lease(&position, 0),
        layout::reader(&ticket, 1),
        layout::reader_ended(&ticket),
        layout::hold(&ticket),
        layout::hold_ended(&ticket),
        layout::condemned(3),
        layout::verdict(layout::MAX_NUMBER),
        layout::leader(4),
        layout::heartbeat(4, 5),
        layout::receipt(&ReceiptChain { repository: REPOSITORY, writer: writer().id() }, 7),
        layout::run_record(&run_record().run, 8),
        layout::run_request(&run_request().run, &run_request().id),
    ];
    let mut text: Vec<String> = keys.iter().map(ToString::to_string).collect();
    text.push(logs::name(0x10, u64::MAX, 9));
    exact("object-names", (text.join("\n") + "\n").as_bytes());
}
