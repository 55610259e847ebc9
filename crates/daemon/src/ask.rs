//! Asking a running service how things stand, over HTTP.

use crate::report::Report;
use lifeboat_base::{Hint, Secret};
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// A service that takes longer is not asked again.
const WITHIN: Duration = Duration::from_secs(10);
/// A report of many thousand datasets is far below this.
const MOST_BYTES: u64 = 256 << 20;

/// A service that does not say how things stand.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answers.
    #[error("ask {url}")]
    Away {
        /// Where.
        url: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// It answers something else.
    #[error("ask {url}: {why}")]
    Refused {
        /// Where.
        url: String,
        /// What it says.
        why: String,
    },
    /// What it answers is no status.
    #[error("read the answer of {url}")]
    NoStatus {
        /// Where.
        url: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The token cannot be sent.
    #[error("the token has characters that cannot be sent in a header")]
    Token,
}

impl Hint for AskError {
    fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::Away { .. } => "Start `lifeboat serve`, or say with --url where it listens.",
                Self::Refused { .. } => {
                    "Check that serve.token in the plan is the token that the service started with."
                }
                Self::NoStatus { .. } => {
                    "Check with --url that this is `lifeboat serve`, of the same release."
                }
                Self::Token => {
                    "Make a token of letters and digits, and start `lifeboat serve` again with it."
                }
            }
            .to_owned(),
        )
    }
}

/// Where a service that listens at an address is asked from its own host; `None` where only it knows the port.
pub fn url_of(address: SocketAddr) -> Option<String> {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    (address.port() != 0).then(|| format!("http://{}", SocketAddr::new(host, address.port())))
}

/// Asks a service how things stand.
///
/// # Errors
/// Where nobody answers, the token is another one, or the answer is no status.
pub fn status(url: &str, token: &Secret) -> Result<Report, AskError> {
    let url = format!("{}/api/v1/status", url.trim_end_matches('/'));
    let away = |source: reqwest::Error| AskError::Away { url: url.clone(), source: source.without_url() };
    // An answer of somebody else's is none: redirections are not followed, so that the token goes nowhere else.
    let client = Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).no_proxy();
    let client = client.build().map_err(away)?;
    let response = client.get(&url).header(AUTHORIZATION, bearer(token)?).send().map_err(away)?;
    if response.status() != StatusCode::OK {
        return Err(AskError::Refused { why: said(response), url });
    }
    let announced = response.content_length().unwrap_or(0).min(MOST_BYTES);
    let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
    let read = response.take(MOST_BYTES).read_to_end(&mut body);
    read.map_err(|error| AskError::Refused { url: url.clone(), why: error.to_string() })?;
    serde_json::from_slice(&body).map_err(|source| AskError::NoStatus { url, source })
}

fn bearer(token: &Secret) -> Result<HeaderValue, AskError> {
    let mut value =
        HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat()).map_err(|_| AskError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a refusal says, as far as it is one of ours.
fn said(response: Response) -> String {
    const MOST: u64 = 64 << 10;
    let status = response.status();
    let mut body = Vec::new();
    let read = response.take(MOST).read_to_end(&mut body).ok();
    let refusal = read.and_then(|_| serde_json::from_slice::<serde_json::Value>(&body).ok());
    let error = refusal.as_ref().and_then(|refusal| refusal["error"].as_str());
    error.map_or_else(|| format!("it answers {status}"), |error| format!("{error} ({status})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_asked_where_it_can_be_reached() {
        let url = |address: &str| url_of(address.parse().unwrap());
        assert_eq!(url("127.0.0.1:8377").as_deref(), Some("http://127.0.0.1:8377"));
        assert_eq!(url("0.0.0.0:80").as_deref(), Some("http://127.0.0.1:80"));
        assert_eq!(url("[::]:8377").as_deref(), Some("http://[::1]:8377"));
        assert_eq!(url("127.0.0.1:0"), None);
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused() {
        assert!(matches!(bearer(&Secret::new(b"a\nb".to_vec())), Err(AskError::Token)));
        assert!(bearer(&Secret::new(b"abc".to_vec())).unwrap().is_sensitive());
    }
}
