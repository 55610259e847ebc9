//! Publishing: what has gathered is made durable, and only then acknowledged to the server.

use super::{FollowEvent, Shared};
use crate::error::{PostgresStoreError, Result};
use crate::pending::WalStretch;
use crate::sink::WalSink;
use lifeboat_base::backoff::Backoff;
use lifeboat_base::{Hint, failpoint, report};
use lifeboat_repository::{LogError, RepositoryError};
use lifeboat_wire_postgres::StatusSender;
use std::time::Duration;

/// How long to wait for something to publish before looking whether it is to end.
const LOOK_UP: Duration = Duration::from_millis(250);
/// Waits between attempts, as long as the repository cannot take anything: an outage is ridden out.
const PATIENCE: Backoff =
    Backoff { first: Duration::from_millis(200), cap: Duration::from_secs(5), attempts: u32::MAX };

/// Publishes until nothing more will come or it is told to stop.
pub(super) fn publish(shared: &Shared, sink: &mut dyn WalSink, status: &StatusSender) -> Result<()> {
    loop {
        match shared.pending().take(LOOK_UP) {
            Some(stretch) => {
                if !append(shared, sink, &stretch)? {
                    return Ok(());
                }
                shared.is_durable(stretch.timeline, stretch.end());
                reach("postgres::published-not-acknowledged")?;
                // A connection that is gone is noticed by who receives.
                let _ = shared.tell(status);
            }
            None if shared.is_over() => return Ok(()),
            None => {}
        }
    }
}

/// Makes a stretch durable, however often that takes. False where it was told to stop meanwhile.
fn append(shared: &Shared, sink: &mut dyn WalSink, stretch: &WalStretch) -> Result<bool> {
    let mut failed = 0;
    loop {
        reach("postgres::received-not-published")?;
        match sink.append(stretch) {
            Ok(()) => return Ok(true),
            Err(error) if !is_worth_trying_again(&error) => return Err(error),
            Err(error) => {
                failed += 1;
                let (position, hint) = (stretch.start, error.hint());
                let said = report(&error);
                shared.say(match error {
                    PostgresStoreError::Spool(_) => FollowEvent::NotSpooled { position, error: said, hint },
                    _ => FollowEvent::NotPublished { position, error: said, hint },
                });
            }
        }
        if !shared.pause(PATIENCE.wait_after(failed).unwrap_or(PATIENCE.cap)) {
            return Ok(false);
        }
    }
}

fn is_worth_trying_again(error: &PostgresStoreError) -> bool {
    let never =
        matches!(error, PostgresStoreError::Log(LogError::NotNext { .. } | LogError::InvalidName { .. }));
    error.is_passing() && !never
}

fn reach(moment: &'static str) -> Result<()> {
    failpoint::reach(moment).map_err(|error| RepositoryError::Io("follow", error).into())
}
