//! Events as they happen: server-sent events, each with the number of its record, so that a reader who comes back
//! with `Last-Event-ID` goes on where it was.

use super::Inner;
use super::answer::{Answer, Media, response};
use super::fault::Fault;
use super::parameter::Asked;
use super::shapes::EventShown;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::Response;
use futures::stream;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many at once: each keeps a connection.
pub(crate) const STREAMS: usize = 8;
/// New records are looked for so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A sign of life, where nothing happens.
const QUIET: u32 = 30;
const AT_ONCE: u32 = 100;

/// Whether somebody wants events as they happen.
pub(crate) fn are_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|one| one.split(';').next().is_some_and(|one| one.trim() == Media::Events.word()))
}

/// The stream that answers.
pub(crate) fn stream(
    inner: &Arc<Inner>,
    room: &Arc<Semaphore>,
    asked: &Asked,
    headers: &HeaderMap,
) -> Response {
    let Ok(permit) = room.clone().try_acquire_owned() else {
        return Answer::refusal(&Fault::Busy).response();
    };
    let last = headers.get("last-event-id").and_then(|last| last.to_str().ok()?.parse().ok());
    let since = last.or_else(|| asked.whole("since")).unwrap_or(0);
    let going = Going { inner: inner.clone(), since, waiting: VecDeque::new(), quiet: 0, _permit: permit };
    let body = Body::from_stream(stream::unfold(going, |going| async move {
        let (text, going) = going.next().await?;
        Some((Ok::<_, Infallible>(text), going))
    }));
    response(200, Media::Events, body)
}

/// Where a stream is.
struct Going {
    inner: Arc<Inner>,
    since: u64,
    waiting: VecDeque<String>,
    quiet: u32,
    _permit: OwnedSemaphorePermit,
}

impl Going {
    /// What goes out next; `None` where the state cannot be read any more.
    async fn next(mut self) -> Option<(String, Self)> {
        loop {
            if let Some(text) = self.waiting.pop_front() {
                return Some((text, self));
            }
            self.look().await?;
            if !self.waiting.is_empty() {
                self.quiet = 0;
                continue;
            }
            self.quiet += 1;
            if self.quiet % QUIET == 1 {
                return Some((": here\n\n".to_owned(), self));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&mut self) -> Option<()> {
        let (inner, since) = (self.inner.clone(), self.since);
        let read = tokio::task::spawn_blocking(move || inner.house.state.records(since, AT_ONCE));
        let records = read.await.ok()?.ok()?;
        for (sequence, record) in records {
            self.since = sequence;
            if let Some(event) = EventShown::of(sequence, &record) {
                let data = serde_json::to_string(&event).ok()?;
                self.waiting.push_back(format!("id: {sequence}\nevent: {}\ndata: {data}\n\n", event.event));
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn events_are_sent_to_whoever_asks_for_them() {
        let wanted = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            are_wanted(&headers)
        };
        assert!(wanted("text/event-stream") && wanted("application/json;q=0.5, text/event-stream;q=1"));
        assert!(!wanted("*/*") && !wanted("application/json") && !are_wanted(&HeaderMap::new()));
    }
}
