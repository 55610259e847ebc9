//! A store behind a network: the common part of S3 and what works like it, on the `object_store` library.
//!
//! This module owns the runtime that the library needs (two threads of its own, so that callers stay free of
//! one), the time limits, and the sorting of what servers answer into [`ObjectErrorKind`]. It tries nothing
//! twice: [`crate::retry`] does.
//!
//! Time limits are limits of silence. The server may take `timeout` to answer and as long for each further
//! piece of an object; bytes that are sent and not acknowledged for so long end the connection. Only a server
//! that has taken a whole object and then says nothing is given more time, at
//! [`SLOWEST_BYTES_PER_SECOND`], since nobody can tell it from a slow line. So a slow line works, and every
//! stall ends in bounded time.

use crate::retry::Retrying;
use crate::{
    Creation, Key, Listed, MAX_OBJECT_BYTES, ObjectError, ObjectErrorKind, ObjectStore, SharedStore,
};
use futures::StreamExt;
use lifeboat_base::backoff::Backoff;
use lifeboat_base::clock::Timestamp;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    ClientConfigKey, ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, RetryConfig,
};
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// The longest silence of a server, unless the configuration says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The slowest line that still works: each byte earns its time at this rate.
pub const SLOWEST_BYTES_PER_SECOND: u64 = 128 << 10;

/// Rides out a server that restarts (SeaweedFS needs 15 s until its first good read).
const PATIENCE: Backoff =
    Backoff { first: Duration::from_millis(200), cap: Duration::from_secs(5), attempts: 10 };
/// No attempt starts later than this: with a stalled server each takes its whole time limit.
const GIVE_UP_AFTER: Duration = Duration::from_secs(90);

/// The longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Requests at once that pay off where each waits for a network.
const PARALLELISM: usize = 8;
/// Enough for TLS and signatures on small machines; callers' threads do the rest.
const WORKER_THREADS: usize = 2;
/// How long dropping a store waits for what the runtime still does (a name being resolved).
const SHUTDOWN: Duration = Duration::from_secs(1);
/// How much of a server's answer an error repeats.
const MAX_MESSAGE_CHARS: usize = 600;

/// The store wrapped so that it tries again for as long as a server may need to restart.
pub fn patiently(store: SharedStore) -> Retrying {
    Retrying::new(store, PATIENCE).give_up_after(GIVE_UP_AFTER)
}

/// What `object_store` offers for a bucket.
trait Bucket: object_store::ObjectStore + PaginatedListStore {}
impl<T: object_store::ObjectStore + PaginatedListStore> Bucket for T {}

/// A bucket, or a part of one, behind a network.
pub struct RemoteStore {
    bucket: Arc<dyn Bucket>,
    worker: Worker,
    /// What every object's name starts with in the bucket: empty, or ending with `/`.
    root: String,
    location: String,
    timeout: Duration,
    ordered: bool,
}

/// What a [`RemoteStore`] is made of, besides the bucket.
pub(crate) struct RemoteConfig {
    pub(crate) prefix: String,
    pub(crate) location: String,
    pub(crate) timeout: Duration,
    /// Whether the server lists in the byte order of the names. Where that is not known, a listing is
    /// collected and sorted before the first object is visited.
    pub(crate) ordered: bool,
}

impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteStore")
            .field("location", &self.location)
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl RemoteStore {
    pub(crate) fn new(
        bucket: impl object_store::ObjectStore + PaginatedListStore,
        config: RemoteConfig,
    ) -> Result<Self, ObjectError> {
        let worker =
            Worker::start().map_err(|error| about_store(&config.location, ObjectErrorKind::Other, error))?;
        let root = if config.prefix.is_empty() { String::new() } else { format!("{}/", config.prefix) };
        let RemoteConfig { location, timeout, ordered, .. } = config;
        Ok(Self { bucket: Arc::new(bucket), worker, root, location, timeout, ordered })
    }

    /// Runs something of the library on this store's runtime, within the time limit.
    pub(crate) fn within_limit<T: Send + 'static>(
        &self,
        future: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, ObjectErrorKind> {
        let limit = self.timeout;
        self.worker.run(answered(limit, future)).map_err(|failure| failure.kind())
    }

    fn path(&self, operation: &'static str, key: &Key) -> Result<Path, ObjectError> {
        let path = Path::parse(format!("{}{key}", self.root));
        path.map_err(|error| ObjectError::new(ObjectErrorKind::Other, operation, key, &self.location, error))
    }

    fn error(&self, operation: &'static str, key: &Key, failure: Failure) -> ObjectError {
        ObjectError::new(failure.kind(), operation, key, &self.location, failure)
    }

    fn read(&self, key: &Key, range: Option<GetRange>) -> Result<Vec<u8>, ObjectError> {
        let path = self.path("get", key)?;
        let options = GetOptions { range, ..GetOptions::default() };
        let read = read(Arc::clone(&self.bucket), path, options, self.timeout);
        self.worker.run(read).map_err(|failure| self.error("get", key, failure))
    }

    /// A conflict with a request that was going on at the same time: the object is there, or nothing is and
    /// the same request may work in a moment.
    fn settle_conflict(&self, key: &Key, conflict: Failure) -> Result<Creation, ObjectError> {
        match self.head(key) {
            Ok(_) => Ok(Creation::Existed),
            Err(error) if error.is_not_found() => {
                Err(ObjectError::new(ObjectErrorKind::Transient, "create", key, &self.location, conflict))
            }
            Err(error) => Err(error),
        }
    }

    fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        token: Option<String>,
    ) -> Result<PaginatedListResult, ObjectError> {
        let bucket = Arc::clone(&self.bucket);
        let full = format!("{}{prefix}", self.root);
        let offset = after.map(|after| format!("{}{after}", self.root));
        let limit = self.timeout;
        let listed = self.worker.run(async move {
            let options =
                PaginatedListOptions { offset, page_token: token, ..PaginatedListOptions::default() };
            answered(
                limit,
                bucket.list_paginated(Some(&full).filter(|p| !p.is_empty()).map(String::as_str), options),
            )
            .await
        });
        listed.map_err(|failure| ObjectError::about(failure.kind(), "list", prefix, &self.location, failure))
    }

    /// Calls `visit` for each object of a listing in the server's own order.
    fn list_as_served(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut dyn FnMut(Listed) -> Result<ControlFlow<()>, ObjectError>,
    ) -> Result<(), ObjectError> {
        let mut token = None;
        loop {
            let page = self.page(prefix, after, token)?;
            for listed in page.result.objects.into_iter().filter_map(|meta| self.listed(&meta)) {
                if listed.key.as_str().starts_with(prefix) && visit(listed)?.is_break() {
                    return Ok(());
                }
            }
            token = page.page_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(());
            }
        }
    }

    /// For a server that is known to list in the byte order of the names; one that does not is found out.
    fn list_ordered(
        &self,
        prefix: &str,
        after: Option<&Key>,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), ObjectError> {
        let mut last = after.cloned();
        self.list_as_served(prefix, after.map(Key::as_str), &mut |listed| {
            if last.as_ref().is_some_and(|last| *last >= listed.key) {
                let what =
                    "the server does not list in the byte order of the names: leave out listing=ordered";
                return Err(ObjectError::about(
                    ObjectErrorKind::Unsuitable,
                    "list",
                    prefix,
                    &self.location,
                    what,
                ));
            }
            last = Some(listed.key.clone());
            Ok(visit(listed))
        })
    }

    /// For any other server. Some (SeaweedFS) list `a/1` before `a-b/1` and start in the middle by the same
    /// order, so that neither can be relied on.
    fn list_sorted(
        &self,
        prefix: &str,
        after: Option<&Key>,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), ObjectError> {
        let mut all = Vec::new();
        self.list_as_served(prefix, None, &mut |listed| {
            if after.is_none_or(|after| listed.key > *after) {
                all.push(listed);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let _ = all.into_iter().try_for_each(visit);
        Ok(())
    }

    /// `None` for what is no object of ours: another name, or something outside the prefix.
    fn listed(&self, meta: &ObjectMeta) -> Option<Listed> {
        let name = meta.location.as_ref().strip_prefix(&self.root)?;
        Some(listed(Key::new(name).ok()?, meta))
    }
}

/// Arrival in whole seconds: a listing has more, a single object's header does not.
fn listed(key: Key, meta: &ObjectMeta) -> Listed {
    Listed { key, size_bytes: meta.size, arrived: Timestamp::from_secs(meta.last_modified.timestamp()) }
}

impl ObjectStore for RemoteStore {
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Creation, ObjectError> {
        if bytes.len() > MAX_OBJECT_BYTES {
            return Err(ObjectError::oversized("create", key, self.location(), bytes.len() as u64));
        }
        let path = self.path("create", key)?;
        let bucket = Arc::clone(&self.bucket);
        let limit = self.timeout.saturating_add(earned(bytes.len() as u64));
        let payload = PutPayload::from(bytes.to_vec());
        let put = self.worker.run(async move {
            let options = PutOptions::from(PutMode::Create);
            answered(limit, bucket.put_opts(&path, payload, options)).await
        });
        match put {
            Ok(_) => Ok(Creation::Created),
            Err(conflict) if conflict.is_conflict() => self.settle_conflict(key, conflict),
            Err(Failure::Answer { error: object_store::Error::AlreadyExists { .. }, .. }) => {
                Ok(Creation::Existed)
            }
            Err(failure) => Err(self.error("create", key, failure)),
        }
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, ObjectError> {
        self.read(key, None)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, ObjectError> {
        let truncated = |size_bytes: u64| {
            let what = format!("{length} bytes from {offset} of an object of {size_bytes}");
            ObjectError::new(ObjectErrorKind::Truncated, "get", key, &self.location, what)
        };
        let end = offset.checked_add(length as u64).ok_or_else(|| truncated(0))?;
        if length == 0 {
            let size_bytes = self.head(key)?.size_bytes;
            return if offset <= size_bytes { Ok(Vec::new()) } else { Err(truncated(size_bytes)) };
        }
        let bytes = self.read(key, Some(GetRange::Bounded(offset..end)))?;
        if bytes.len() == length {
            Ok(bytes)
        } else {
            Err(truncated(offset.saturating_add(bytes.len() as u64)))
        }
    }

    fn head(&self, key: &Key) -> Result<Listed, ObjectError> {
        let path = self.path("head", key)?;
        let bucket = Arc::clone(&self.bucket);
        let limit = self.timeout;
        let found = self.worker.run(async move { answered(limit, bucket.head(&path)).await });
        let meta = found.map_err(|failure| self.error("head", key, failure))?;
        Ok(listed(key.clone(), &meta))
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        visit: &mut dyn FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), ObjectError> {
        if self.ordered {
            self.list_ordered(prefix, after, visit)
        } else {
            self.list_sorted(prefix, after, visit)
        }
    }

    fn delete(&self, key: &Key) -> Result<(), ObjectError> {
        let path = self.path("delete", key)?;
        let bucket = Arc::clone(&self.bucket);
        let limit = self.timeout;
        match self.worker.run(async move { answered(limit, bucket.delete(&path)).await }) {
            Ok(()) => Ok(()),
            Err(failure) => match self.error("delete", key, failure) {
                error if error.is_not_found() => Ok(()),
                error => Err(error),
            },
        }
    }

    fn location(&self) -> String {
        self.location.clone()
    }

    fn parallelism(&self) -> usize {
        PARALLELISM
    }
}

pub(crate) fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() }
}

pub(crate) fn about_store(
    location: &str,
    kind: ObjectErrorKind,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> ObjectError {
    ObjectError::about(kind, "open", "store", location, source)
}

/// The time that bytes on their way earn.
fn earned(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
}

/// Reads one object or part of one, with a limit on every silence and on the whole.
async fn read(
    bucket: Arc<dyn Bucket>,
    path: Path,
    options: GetOptions,
    limit: Duration,
) -> Result<Vec<u8>, Failure> {
    let answer = answered(limit, bucket.get_opts(&path, options)).await?;
    let expected = answer.range.end.saturating_sub(answer.range.start);
    let capacity = usize::try_from(expected).unwrap_or(usize::MAX);
    if capacity > MAX_OBJECT_BYTES {
        return Err(Failure::Oversized(expected));
    }
    let mut stream = answer.into_stream();
    let mut bytes = Vec::with_capacity(capacity);
    let receive = async {
        while let Some(piece) = timeout(limit, stream.next()).await.map_err(|_| Failure::Silent(limit))? {
            bytes.extend_from_slice(&piece.map_err(Failure::answer)?);
            if bytes.len() > capacity {
                break;
            }
        }
        Ok(())
    };
    let whole = limit.saturating_add(earned(expected));
    timeout(whole, receive).await.map_err(|_| Failure::Silent(whole))??;
    if bytes.len() == capacity { Ok(bytes) } else { Err(Failure::Short { received: bytes.len(), expected }) }
}

async fn answered<T>(
    limit: Duration,
    future: impl Future<Output = object_store::Result<T>>,
) -> Result<T, Failure> {
    timeout(limit, future).await.map_err(|_| Failure::Silent(limit))?.map_err(Failure::answer)
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("{received} of {expected} bytes arrived")]
    Short { received: usize, expected: u64 },
    #[error("{0} bytes are more than an object may have")]
    Oversized(u64),
    #[error("{}", legible(error))]
    Answer { status: Option<u16>, error: object_store::Error },
    #[error("the store's own threads ended")]
    Lost,
}

impl Failure {
    /// Takes the status of the last answer along. To be called in the task that made the request.
    fn answer(error: object_store::Error) -> Self {
        Self::Answer { status: LAST_STATUS.try_with(Cell::get).ok().flatten(), error }
    }

    fn is_conflict(&self) -> bool {
        matches!(self, Self::Answer { status: Some(409), .. })
    }

    fn kind(&self) -> ObjectErrorKind {
        match self {
            Self::Silent(_) => ObjectErrorKind::Transient,
            Self::Short { .. } => ObjectErrorKind::Truncated,
            Self::Oversized(_) | Self::Lost => ObjectErrorKind::Other,
            Self::Answer { error, status } => kind_of(error, *status),
        }
    }
}

fn kind_of(error: &object_store::Error, status: Option<u16>) -> ObjectErrorKind {
    use object_store::Error as E;
    match (error, status) {
        (E::NotFound { .. }, _) => ObjectErrorKind::NotFound,
        (E::PermissionDenied { .. } | E::Unauthenticated { .. }, _) => ObjectErrorKind::Denied,
        (_, Some(status)) if status >= 300 => kind_of_status(status),
        _ => kind_of_transport(error),
    }
}

fn kind_of_status(status: u16) -> ObjectErrorKind {
    match status {
        401 | 403 => ObjectErrorKind::Denied,
        404 => ObjectErrorKind::NotFound,
        416 => ObjectErrorKind::Truncated,
        507 => ObjectErrorKind::Full,
        408 | 429 | 500..=599 => ObjectErrorKind::Transient,
        _ => ObjectErrorKind::Other,
    }
}

/// Without a status no (whole) answer came: what the connection did decides.
fn kind_of_transport(error: &object_store::Error) -> ObjectErrorKind {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(found) = cause {
        if found.is::<HttpError>() {
            return ObjectErrorKind::Transient;
        }
        cause = found.source();
    }
    ObjectErrorKind::Other
}

/// What the library said, on one line, without control characters and not without end.
fn legible(error: &object_store::Error) -> String {
    let text = lifeboat_base::report(error);
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE_CHARS).collect();
    if text.chars().nth(MAX_MESSAGE_CHARS).is_some() {
        line.push('…');
    }
    line
}

tokio::task_local! {
    /// The status of the last answer to the request that this task makes. The library keeps it where nobody
    /// can ask for it.
    static LAST_STATUS: Cell<Option<u16>>;
}

/// Makes clients without time limits for a whole request (the library's are replaced by ours), which note
/// the status of every answer and follow no redirection: a signed request is for one server only.
#[derive(Debug)]
pub(crate) struct Connector {
    /// The longest silence of a server.
    pub(crate) timeout: Duration,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let client = reqwest::Client::builder()
            .https_only(allow_http.as_deref() != Some("true"))
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.timeout.min(CONNECT_WITHIN))
            .tcp_user_timeout(self.timeout)
            .build();
        let client =
            client.map_err(|source| object_store::Error::Generic { store: "HTTP", source: source.into() })?;
        Ok(HttpClient::new(Noting(HttpClient::new(client))))
    }
}

#[derive(Debug)]
struct Noting(HttpClient);

impl HttpService for Noting {
    fn call<'life, 'future>(
        &'life self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let outcome = self.0.execute(request).await;
            let status = outcome.as_ref().ok().map(|response| response.status().as_u16());
            let _ = LAST_STATUS.try_with(|last| last.set(status));
            outcome
        })
    }
}

/// The runtime. Callers hand it a task and wait for the answer on a channel, so that they may themselves
/// stand on any thread, one of another runtime included.
struct Worker(Option<Runtime>);

impl Worker {
    fn start() -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(WORKER_THREADS).thread_name("lifeboat-objects").enable_all();
        Ok(Self(Some(builder.build()?)))
    }

    fn run<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let runtime = self.0.as_ref().ok_or(Failure::Lost)?;
        runtime.spawn(LAST_STATUS.scope(Cell::new(None), async move {
            let _ = sender.send(request.await);
        }));
        receiver.recv().unwrap_or(Err(Failure::Lost))
    }
}

impl Drop for Worker {
    /// On a thread of its own, since a runtime must not be waited for on a thread of another.
    fn drop(&mut self) {
        let Some(runtime) = self.0.take() else { return };
        if let Ok(ending) = thread::Builder::new().spawn(move || runtime.shutdown_timeout(SHUTDOWN)) {
            let _ = ending.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic() -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: "x".into() }
    }

    #[test]
    fn statuses_are_sorted() {
        for (status, kind) in [
            (Some(401), ObjectErrorKind::Denied),
            (Some(403), ObjectErrorKind::Denied),
            (Some(404), ObjectErrorKind::NotFound),
            (Some(416), ObjectErrorKind::Truncated),
            (Some(429), ObjectErrorKind::Transient),
            (Some(500), ObjectErrorKind::Transient),
            (Some(503), ObjectErrorKind::Transient),
            (Some(507), ObjectErrorKind::Full),
            (Some(301), ObjectErrorKind::Other),
            (Some(400), ObjectErrorKind::Other),
            (Some(200), ObjectErrorKind::Other),
            (None, ObjectErrorKind::Other),
        ] {
            assert_eq!(kind_of(&generic(), status), kind, "{status:?}");
        }
    }

    #[test]
    fn a_servers_words_are_bounded_and_cannot_steer_a_terminal() {
        let source = format!("\x1b[2J\n{}", "x".repeat(5000));
        let text = legible(&object_store::Error::Generic { store: "S3", source: source.into() });
        assert!(!text.chars().any(char::is_control));
        assert_eq!(text.chars().count(), MAX_MESSAGE_CHARS + 1);
    }

    #[test]
    fn bytes_earn_time() {
        assert_eq!(earned(0), Duration::ZERO);
        assert_eq!(earned(32 << 20), Duration::from_secs(256));
    }
}
