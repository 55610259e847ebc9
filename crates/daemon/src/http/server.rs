//! The listener: connections are taken, bounded in number, size and time, and each request goes to its endpoint. The
//! runtime is here and nowhere else (docs/adr/0002).
//!
//! No body is ever read: nothing here takes one.

use super::Inner;
use super::answer::Answer;
use super::endpoint::{ENDPOINTS, Endpoint, How};
use super::events;
use super::fault::Fault;
use super::parameter::Asked;
use crate::means::Trouble;
use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, Method};
use axum::response::Response;
use axum::routing::any;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// So many connections at once; who comes then waits in the listener's queue.
const CONNECTIONS: usize = 64;
/// So many requests at once that ask the state or the repository.
const SLOW_AT_ONCE: usize = 4;
/// A request must have come whole within so long.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// An answer is waited for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// No connection lasts longer: whoever reads slowly does not keep others out for ever.
pub(crate) const CONNECTION_LASTS: Duration = Duration::from_mins(10);
/// A request's line and headers take so much at the most.
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;
/// How long requests that are under way may go on when the service ends.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// The listener, until it is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    /// Listens on an address; port 0 is any that is free.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub(crate) fn start(inner: Arc<Inner>, address: SocketAddr) -> Result<Self, Trouble> {
        let refused = |error: std::io::Error| {
            Trouble::new(
                format!("listen on {address}: {error}"),
                "Name another address with --listen or serve.listen, or stop what listens there.",
            )
        };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2 * SLOW_AT_ONCE)
            .thread_name("http-work")
            .build()
            .map_err(refused)?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            runtime.block_on(listen(inner, listener, stopped));
            // What still asks a repository that is away is not waited for.
            runtime.shutdown_timeout(ENDS_WITHIN);
        });
        Ok(Self { address, stop, thread: Some(thread.map_err(refused)?) })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It panicked: that has been told where it happened.
            let _ = thread.join();
        }
    }
}

/// What every request needs.
struct Shared {
    inner: Arc<Inner>,
    slow: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

async fn listen(inner: Arc<Inner>, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return inner.house.say("http", "not-listening", json!({ "error": error.to_string() })),
    };
    let router = router(&Arc::new(Shared {
        inner,
        slow: Arc::new(Semaphore::new(SLOW_AT_ONCE)),
        streams: Arc::new(Semaphore::new(events::STREAMS)),
    }));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let taken = async {
            let room = room.clone().acquire_owned().await;
            (room, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            taken = taken => taken,
            _ = stopped.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stopped) = (router.clone(), stopped.clone());
                connections.spawn(async move {
                    let _permit = permit;
                    converse(router, stream, stopped).await;
                });
            }
            // No file descriptor is left, or the other side has gone already.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    let all_end = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(ENDS_WITHIN, all_end).await;
}

/// One connection, until it ends, has lasted long enough, or the service ends.
async fn converse(router: Router, stream: tokio::net::TcpStream, mut stopped: watch::Receiver<bool>) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(CONNECTION_LASTS) => {}
        _ = stopped.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(ENDS_WITHIN, connection).await;
}

fn router(shared: &Arc<Shared>) -> Router {
    let mut router = Router::new();
    for endpoint in ENDPOINTS {
        let shared = shared.clone();
        let answer = move |path: Result<RawPathParams, RawPathParamsRejection>, request: Request| {
            answer(shared.clone(), endpoint, path, request)
        };
        router = router.route(endpoint.path, any(answer));
    }
    router.fallback(async || Answer::refusal(&Fault::NoSuchPath).response())
}

async fn answer(
    shared: Arc<Shared>,
    endpoint: &'static Endpoint,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response {
    let answered = match asked(&shared.inner, endpoint, path, &request) {
        Ok(asked) if endpoint.streams && events::are_wanted(request.headers()) => {
            return events::stream(&shared.inner, &shared.streams, &asked, request.headers());
        }
        Ok(asked) => carry_out(&shared, endpoint, asked).await,
        Err(fault) => Err(fault),
    };
    answered.unwrap_or_else(|fault| Answer::refusal(&fault)).response()
}

/// What is asked, where it may be: read only, with the token, within the bounds.
fn asked(
    inner: &Inner,
    endpoint: &Endpoint,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: &Request,
) -> Result<Asked, Fault> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Fault::Method);
    }
    if endpoint.needs_token {
        inner.token.admit(request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes))?;
    }
    let not_text = |_| Fault::Parameter { name: "path".to_owned(), why: "is not text".to_owned() };
    let path = path.map_err(not_text)?;
    Asked::checked(endpoint.parameters, path.iter(), request.uri().query().unwrap_or_default())
}

async fn carry_out(shared: &Shared, endpoint: &'static Endpoint, asked: Asked) -> Result<Answer, Fault> {
    let inner = shared.inner.clone();
    match endpoint.how {
        How::AtOnce(handle) => handle(&inner, &asked),
        How::Slowly(handle) => {
            let room = tokio::time::timeout(ANSWER_WITHIN, shared.slow.clone().acquire_owned()).await;
            let permit = room.map_err(|_| Fault::Busy)?.map_err(|_| Fault::Inside)?;
            let work = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                handle(&inner, &asked)
            });
            let done = tokio::time::timeout(ANSWER_WITHIN, work).await.map_err(|_| Fault::TooSlow)?;
            done.map_err(|_| Fault::Inside)?
        }
    }
}
