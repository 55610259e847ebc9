//! Following through a spool: while one thread keeps what arrives in the spool, another one publishes it.

use super::{FollowEvent, Follower, Shared};
use crate::error::Result;
use crate::host::Elsewhere;
use crate::spool::{Publisher, Publishing, Spool};
use lifeboat_repository::RepositoryError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How the log goes through a spool.
#[derive(Clone, Debug)]
pub struct Spooling {
    /// The spool.
    pub spool: Arc<Spool>,
    /// Who says that the server is on another host.
    pub elsewhere: Elsewhere,
}

/// Follows, with a publisher beside it, until both have ended.
pub(super) fn run(follower: &Follower, spool: &Spool) -> Result<()> {
    let shared = &*follower.shared;
    say_what_is_left(shared, spool, false);
    let ends = AtomicBool::new(false);
    let say = |event: FollowEvent| shared.say(event);
    let pause = |time: Duration| shared.pause(time);
    let how = Publishing { gather: follower.options.gather, ends: &ends, say: &say, pause: &pause };
    let (followed, published) = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let published = Publisher::new(spool, &follower.repository).run(&how);
            if published.is_err() {
                // What cannot be published must not be acknowledged for ever.
                shared.stop();
            }
            published
        });
        let followed = follower.until_stopped();
        ends.store(true, Ordering::Relaxed);
        if followed.is_err() {
            shared.stop();
        }
        (followed, publisher.join())
    });
    say_what_is_left(shared, spool, true);
    followed?;
    published.unwrap_or_else(|_| Err(RepositoryError::Aborted.into()))
}

fn say_what_is_left(shared: &Shared, spool: &Spool, ends: bool) {
    let waiting_bytes = spool.status().waiting_bytes;
    let torn_bytes = if ends { 0 } else { spool.torn_bytes() };
    if waiting_bytes > 0 || torn_bytes > 0 {
        shared.say(FollowEvent::Spooled { waiting_bytes, torn_bytes, ends });
    }
}
