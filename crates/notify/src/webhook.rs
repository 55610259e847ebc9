//! Messages as JSON to a URL: signed, with an identity that stays the same for every attempt.
//!
//! Only a status of 2xx says that a message was taken. 408, 425, 429 and 5xx, and all that the network does, are
//! worth another attempt; a redirection is not followed, since a signed request is for one receiver only. The URL may
//! itself be a secret, so no error names more of it than its host.

use crate::channel::{Channel, Rejected, SendError, require_certificate};
use crate::event::Message;
use crate::signature;
use lifeboat_base::Secret;
use lifeboat_base::clock::Timestamp;
use reqwest::{Certificate, Client, Response, StatusCode, Url, redirect};
use serde::Serialize;
use std::io;
use std::thread;
use std::time::Duration;

/// What the User-Agent says.
const USER_AGENT: &str = concat!("lifeboat/", env!("CARGO_PKG_VERSION"));

/// Where and how messages are sent.
#[derive(Clone)]
pub struct WebhookSettings {
    /// The channel's name.
    pub name: String,
    /// Where to.
    pub url: Secret,
    /// What messages are signed with; they are not, where there is none.
    pub secret: Option<Secret>,
    /// The longest that one attempt may take.
    pub timeout: Duration,
    /// Certificates in PEM of an authority of one's own, beside those of the machine.
    pub authority: Option<Vec<u8>>,
    /// Whether messages may go unencrypted to another host.
    pub allow_http: bool,
}

/// The longest that one attempt may take, unless another time is set.
const TIMEOUT: Duration = Duration::from_secs(30);

impl WebhookSettings {
    /// A URL that messages are posted to: unsigned, at most 30 seconds an attempt, encrypted towards other hosts.
    pub fn at(name: &str, url: Secret) -> Self {
        let name = name.to_owned();
        Self { name, url, secret: None, timeout: TIMEOUT, authority: None, allow_http: false }
    }
}

/// A channel that posts JSON.
pub struct Webhook {
    name: String,
    url: Url,
    host: String,
    secret: Option<Secret>,
    client: Client,
}

/// A message as it is posted. The field names are stable.
#[derive(Serialize)]
struct Body<'a> {
    format: u32,
    id: &'a str,
    system: &'a str,
    kind: &'static str,
    phase: &'static str,
    key: &'a str,
    about: &'a str,
    what: &'a str,
    severity: Option<&'a str>,
    since: String,
    at: String,
    subject: &'a str,
    body: &'a str,
}

impl Webhook {
    /// A channel of these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// Where the URL is none, is not `https` or leads to another host unencrypted, or a certificate cannot be read.
    pub fn new(settings: WebhookSettings) -> Result<Self, Rejected> {
        let (url, host) = address(&settings)?;
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .timeout(settings.timeout)
            // Each attempt has a runtime of its own, which no connection outlives.
            .pool_max_idle_per_host(0);
        if is_loopback(&host) {
            builder = builder.no_proxy();
        }
        if let Some(authority) = &settings.authority {
            require_certificate(&settings.name, authority)?;
            let certificates = Certificate::from_pem_bundle(authority);
            let certificates =
                certificates.map_err(|e| Rejected::because(&settings.name, "read its authority", e))?;
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(|e| Rejected::because(&settings.name, "set up HTTP", e))?;
        Ok(Self { name: settings.name, url, host, secret: settings.secret, client })
    }

    async fn post(&self, body: Vec<u8>, id: &str, signature: Option<String>) -> reqwest::Result<Response> {
        let mut request = self.client.post(self.url.clone());
        request = request.header("Content-Type", "application/json").header("Idempotency-Key", id);
        if let Some(signature) = signature {
            request = request.header(signature::HEADER, signature);
        }
        // The answer is its status: whatever else the other side says is not waited for.
        request.body(body).send().await.map_err(reqwest::Error::without_url)
    }
}

impl Channel for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn send(&self, message: &Message, now: Timestamp) -> Result<(), SendError> {
        let body = serde_json::to_vec(&Body::of(message));
        let body = body.map_err(|e| SendError::never("write the message as JSON", e))?;
        let signature = self.secret.as_ref().map(|secret| signature::sign(secret, &body, now));
        match wait_for(self.post(body, &message.id, signature)) {
            Err(error) => Err(SendError::later("start a thread for HTTP", error)),
            Ok(Err(error)) => Err(SendError::later(format!("post to {}", self.host), error)),
            Ok(Ok(response)) => judge(&response, &self.host),
        }
    }
}

impl<'a> Body<'a> {
    fn of(message: &'a Message) -> Self {
        Self {
            format: 1,
            id: &message.id,
            system: &message.system,
            kind: message.event.kind.as_str(),
            phase: message.phase.as_str(),
            key: &message.event.key,
            about: &message.event.about,
            what: &message.event.what,
            severity: message.event.severity.as_deref(),
            since: message.since.to_string(),
            at: message.at.to_string(),
            subject: &message.subject,
            body: &message.body,
        }
    }
}

fn address(settings: &WebhookSettings) -> Result<(Url, String), Rejected> {
    let rejected = |what: &str| Rejected::new(&settings.name, what);
    let text = std::str::from_utf8(settings.url.expose()).map_err(|_| rejected("its URL is not UTF-8"))?;
    // Not the parser's own error: it might say a part of a secret.
    let url = Url::parse(text.trim()).map_err(|_| rejected("its URL cannot be read"))?;
    let host = url.host_str().ok_or_else(|| rejected("its URL has no host"))?.to_owned();
    match url.scheme() {
        "https" => Ok((url, host)),
        "http" if settings.allow_http || is_loopback(&host) => Ok((url, host)),
        "http" => Err(rejected("its URL is http to another host: use https, or say `allow_http`")),
        _ => Err(rejected("its URL is neither https nor http")),
    }
}

pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

fn judge(response: &Response, host: &str) -> Result<(), SendError> {
    let status = response.status();
    let what = format!("{host} answered {}", status.as_u16());
    let is_worth_another = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    match () {
        () if status.is_success() => Ok(()),
        () if is_worth_another => Err(SendError::Later { what, after: retry_after(response), source: None }),
        () => Err(SendError::Final { what, source: None }),
    }
}

/// `Retry-After` in seconds; its other form, a date, is not taken, and the usual backoff is.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get("Retry-After")?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Runs something of the library to its end, on a thread of its own: the caller may stand on one of another runtime.
fn wait_for<T: Send>(future: impl Future<Output = T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("lifeboat-webhook".to_owned());
        let running = thread.spawn_scoped(scope, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(future))
        })?;
        running.join().unwrap_or_else(|_| Err(io::Error::other("the thread for HTTP panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(url: &str, allow_http: bool) -> Result<Webhook, Rejected> {
        let settings = WebhookSettings::at("hook", Secret::new(url.as_bytes().to_vec()));
        Webhook::new(WebhookSettings { allow_http, ..settings })
    }

    #[test]
    fn only_the_own_host_is_told_unencrypted() {
        for url in ["https://example.org/x", "http://localhost:1/x", "http://127.0.0.1/", "http://[::1]:80/"]
        {
            assert!(made(url, false).is_ok(), "{url}");
        }
        for url in ["http://example.org/x", "ftp://example.org", "example.org", "", "http://10.0.0.1/"] {
            assert!(made(url, false).is_err(), "{url}");
        }
        assert!(made("http://example.org/x", true).is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_it() {
        for url in ["http://example.org/t0ken", "t0ken", "ftp://u:t0ken@example.org/"] {
            let error = made(url, false).err().unwrap();
            let said = format!("{} {error:?}", lifeboat_base::report(&error));
            assert!(!said.contains("t0ken"), "{said}");
        }
    }
}
