//! What the service answers over HTTP: probes, health, metrics, and an API that is only for reading.
//!
//! Every path is in one table ([`endpoint`]); the core stays synchronous, and what is not is in [`server`] alone. Nothing
//! here judges or changes anything.

mod answer;
mod api;
mod document;
mod endpoint;
mod events;
mod fault;
mod parameter;
mod probes;
mod server;
mod shapes;
mod token;

use crate::health::Health;
use crate::house::House;
use crate::report::{Report, Reports};
use crate::serve::Service;
use fault::Fault;
use std::sync::Arc;
use token::Token;

pub use document::openapi;
pub(crate) use server::Listening;

/// What answers are made from.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) house: Arc<House>,
    reports: Arc<Reports>,
    health: Arc<Health>,
    token: Token,
}

impl Inner {
    pub(crate) fn new(service: &Service, reports: &Arc<Reports>, health: &Arc<Health>) -> Self {
        let house = service.house().clone();
        let token = Token::of(&house);
        Self { house, reports: reports.clone(), health: health.clone(), token }
    }

    /// The newest report.
    fn report(&self) -> Result<Arc<Report>, Fault> {
        self.reports.newest().ok_or_else(|| Fault::NotReady { why: "nothing was looked at yet".to_owned() })
    }

    /// Something failed inside: the log is told what, and whoever asked is not.
    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> Fault {
        self.house.say("http", "failed", serde_json::json!({ "error": lifeboat_base::report(error) }));
        Fault::Inside
    }
}
