//! Requests: one, without following redirections, since what goes along is for one receiver only.
//!
//! What the other side did is known only once it answered: a request whose answer never came is unknown, unless it
//! certainly never left.

use super::{Capture, Carried, Carry, Masker, Order, Stop};
use crate::event::Ended;
use crate::resolve::fill;
use lifeboat_base::clock::Stopwatch;
use lifeboat_plan::Span;
use lifeboat_runbook::Action;
use reqwest::{Client, Method, Response, Url, redirect};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the User-Agent says.
const USER_AGENT: &str = concat!("lifeboat/", env!("CARGO_PKG_VERSION"));
/// So much of an answer is read.
const BODY_BYTES: usize = 1 << 20;
/// It is looked whether to stop so often.
const LOOK: Duration = Duration::from_millis(50);

/// Carries out requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Http;

impl Carry for Http {
    fn carry(&self, order: &Order, stop: &Stop) -> Carried {
        let request = match Prepared::of(order) {
            Ok(request) => request,
            Err(why) => return Carried::not_begun(why),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return Carried::not_begun(format!("start a runtime for HTTP: {error}")),
        };
        let carried = runtime.block_on(answer(order, request, stop));
        masked(order, carried)
    }

    fn look(&self, order: &Order) -> Vec<String> {
        Prepared::of(order).err().into_iter().collect()
    }
}

async fn answer(order: &Order, request: Prepared, stop: &Stop) -> Carried {
    let watch = Stopwatch::start();
    let mut sent = std::pin::pin!(request.send());
    loop {
        let left = order.timeout.saturating_sub(watch.elapsed());
        if let Ok(answer) = tokio::time::timeout(left.min(LOOK), &mut sent).await {
            return answered(order, answer);
        }
        if stop.is_wanted() {
            return Carried::unknown("it was stopped");
        }
        if watch.elapsed() >= order.timeout {
            return Carried::unknown(format!("there was no answer within {}", Span::new(order.timeout)));
        }
    }
}

struct Prepared {
    client: Client,
    request: reqwest::Request,
}

impl Prepared {
    fn of(order: &Order) -> Result<Self, String> {
        let Action::Http { request } = &order.action else { return Err("this is no request".to_owned()) };
        let method: Method =
            request.method.parse().map_err(|_| format!("{} is no method", request.method))?;
        // Not the parser's own error: it might say a part of a secret.
        let url = Url::parse(&fill(&request.url, &order.values)?)
            .map_err(|_| "its URL cannot be read".to_owned())?;
        let mut builder = Client::builder().user_agent(USER_AGENT).redirect(redirect::Policy::none());
        if url.host_str().is_some_and(is_loopback) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| format!("set up HTTP: {error}"))?;
        let mut prepared = client.request(method, url);
        for (name, value) in &request.headers {
            prepared = prepared.header(name, fill(value, &order.values)?);
        }
        if let Some(body) = &request.body {
            prepared = prepared.body(fill(body, &order.values)?);
        }
        let request = prepared.build().map_err(|error| error.without_url().to_string())?;
        Ok(Self { client, request })
    }

    async fn send(self) -> Result<(u16, Vec<u8>), Failure> {
        let response = self.client.execute(self.request).await.map_err(|error| Failure {
            has_left: !error.is_connect() && !error.is_builder(),
            why: lifeboat_base::report(&error.without_url()),
        })?;
        let status = response.status().as_u16();
        Ok((status, body(response).await))
    }
}

struct Failure {
    has_left: bool,
    why: String,
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// The beginning of the answer; what cannot be read of it does not change what the status said.
async fn body(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = BODY_BYTES - body.len();
        body.extend_from_slice(&chunk[..room.min(chunk.len())]);
        if body.len() == BODY_BYTES {
            break;
        }
    }
    body
}

fn answered(order: &Order, answer: Result<(u16, Vec<u8>), Failure>) -> Carried {
    let (status, body) = match answer {
        Ok(answer) => answer,
        Err(Failure { has_left: false, why }) => return Carried::failed(why),
        Err(Failure { why, .. }) => return Carried::unknown(why),
    };
    let captured = capture(order, status, &body);
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut outputs = BTreeMap::new();
    for output in &order.outputs {
        let value = match &output.pointer {
            Some(pointer) => json.pointer(pointer).map(text),
            None => (output.name == "status").then(|| status.to_string()),
        };
        outputs.extend(value.map(|value| (output.name.clone(), value)));
    }
    let ended = match captured {
        Err(why) => Ended::Unknown { why },
        Ok(()) => judge(order, status),
    };
    Carried { ended, outputs, answer: Some(status.to_string()) }
}

/// A check asks by its expectation, so any answer will do; anything else wants 2xx.
fn judge(order: &Order, status: u16) -> Ended {
    match status {
        _ if order.expects => Ended::Done,
        200..=299 => Ended::Done,
        500..=599 if order.asks => Ended::Unknown { why: format!("the answer is {status}") },
        _ => Ended::Failed { why: format!("the answer is {status}") },
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn capture(order: &Order, status: u16, body: &[u8]) -> Result<(), String> {
    let write = || {
        let mut capture = Capture::create(&order.capture)?;
        capture.push(format!("{status}\n").as_bytes())?;
        let mut masker = Masker::new(&order.secrets);
        capture.push(&masker.push(body))?;
        capture.push(&masker.finish())?;
        capture.finish()
    };
    write().map_err(|error: std::io::Error| format!("keep the answer: {error}"))
}

fn masked(order: &Order, carried: Carried) -> Carried {
    let mask = |text: String| Masker::text(&order.secrets, &text);
    let ended = match carried.ended {
        Ended::Done => Ended::Done,
        Ended::Failed { why } => Ended::Failed { why: mask(why) },
        Ended::Unknown { why } => Ended::Unknown { why: mask(why) },
        Ended::NotBegun { why } => Ended::NotBegun { why: mask(why) },
    };
    let outputs = carried.outputs.into_iter().map(|(name, value)| (name, mask(value))).collect();
    Carried { ended, outputs, answer: carried.answer.map(mask) }
}
