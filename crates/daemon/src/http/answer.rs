//! What is answered: a status, a kind of content and its bytes.

use super::fault::Fault;
use axum::body::Body;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

/// A kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// A JSON document.
    Json,
    /// What Prometheus reads.
    Metrics,
    /// Events as they happen (WHATWG, server-sent events).
    Events,
}

impl Media {
    /// As the header and the document name it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
            Self::Events => "text/event-stream",
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) media: Media,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A document.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub(crate) fn json(document: &impl Serialize) -> Result<Self, Fault> {
        Self::json_with(200, document)
    }

    /// A document with another status than 200.
    ///
    /// # Errors
    /// As [`Answer::json`].
    pub(crate) fn json_with(status: u16, document: &impl Serialize) -> Result<Self, Fault> {
        let body = serde_json::to_vec(document).map_err(|_| Fault::Inside)?;
        Ok(Self { status, media: Media::Json, body })
    }

    /// What Prometheus reads.
    pub(crate) fn metrics(text: String) -> Self {
        Self { status: 200, media: Media::Metrics, body: text.into_bytes() }
    }

    /// What is answered in place of what was asked for.
    pub(crate) fn refusal(fault: &Fault) -> Self {
        let body = serde_json::to_vec(&fault.refusal()).unwrap_or_default();
        Self { status: fault.status(), media: Media::Json, body }
    }

    /// As it goes out.
    pub(crate) fn response(self) -> Response {
        response(self.status, self.media, Body::from(self.body))
    }
}

/// An answer whose bytes may still be to come.
pub(crate) fn response(status: u16, media: Media, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media.word()));
    // What stands now is old in a second.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    match status {
        401 => headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"lifeboat\"")),
        405 => headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD")),
        _ => None,
    };
    response
}
