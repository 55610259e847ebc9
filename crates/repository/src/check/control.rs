//! Check of what decides whether other objects count: the leaders, and in a copy the rosters of its origins; and of
//! the receipts, the records of runs and the requests to them, that each is where it belongs and can be read (what receipts say, `lifeboat
//! evidence verify` judges).

use super::Check;
use crate::error::Result;
use crate::layout;
use crate::opening;
use crate::snapshots::Published;
use lifeboat_objects::list_all;

/// Every generation is what a leader signed, and every origin what the copy's root did. Of the snapshots
/// those are named that came too late from a leader that had been replaced.
pub(super) fn check(check: &mut Check<'_>, snapshots: &[Published]) -> Result<()> {
    let repository = check.repository.clone();
    for listed in list_all(&*repository.store, layout::LEADERS)? {
        if layout::listed_number(&listed.key).is_some() {
            let read = repository.read_leader(&listed.key);
            check.note(&listed.key, read)?;
        }
    }
    for listed in list_all(&*repository.store, layout::ORIGINS)? {
        let read =
            opening::read_origin(&repository.store, &repository.config, &repository.keys.root, &listed.key);
        check.note(&listed.key, read)?;
    }
    for listed in list_all(&*repository.store, layout::RECEIPTS)? {
        if let Some((chain, number)) = layout::receipt_parts(&listed.key) {
            let read = repository.read_receipt(&chain, number);
            check.note(&listed.key, read)?;
        }
    }
    for listed in list_all(&*repository.store, layout::RUNS)? {
        if let Some((run, number)) = layout::run_parts(&listed.key) {
            let read = repository.read_run_record(&run, number);
            check.note(&listed.key, read)?;
        }
    }
    for listed in list_all(&*repository.store, layout::REQUESTS)? {
        if let Some((run, id)) = layout::request_parts(&listed.key) {
            let read = repository.read_run_request(&run, &id);
            check.note(&listed.key, read)?;
        }
    }
    let leaders = repository.leaders()?;
    let judged = crate::leader::effective_snapshots(&repository.id(), snapshots.to_vec(), &leaders);
    check.report.void = judged.void.iter().map(|published| published.slot.to_string()).collect();
    Ok(())
}
