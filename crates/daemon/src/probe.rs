//! Probes: each service that says where it answers is asked so often as the plan says, and what it is watch decides. A
//! runtime of its own, in one thread: thousands of services wait for the network at once and for nobody else.

use crate::house::House;
use crate::report::Reports;
use lifeboat_base::clock::{Stopwatch, Timestamp};
use lifeboat_plan::ProbePlan;
use lifeboat_watch::health::{Checker, Outcome, Settings, Status};
use reqwest::Client;
use serde_json::json;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whether it is to end is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Without a question for so many intervals nothing is known any more.
const MISSED: u32 = 3;

/// Asks every service that has a probe, until it is told to stop.
pub(crate) fn keep(house: &Arc<House>, reports: &Arc<Reports>, stop: &AtomicBool) {
    let probes =
        house.plan.services.iter().filter_map(|(name, service)| Some((name, service.probe.as_ref()?)));
    let mut probes = probes.peekable();
    if probes.peek().is_none() {
        return;
    }
    let (runtime, client) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => return house.note("probes", "not-started", json!({ "error": error })),
    };
    runtime.block_on(async {
        for (name, probe) in probes {
            let (house, reports, client) = (house.clone(), reports.clone(), client.clone());
            let (name, probe) = (name.clone(), probe.clone());
            tokio::spawn(async move { ask_again_and_again(&house, &reports, &client, &name, &probe).await });
        }
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}

/// A redirection is no answer: whoever is asked answers by itself.
fn prepare() -> Result<(tokio::runtime::Runtime, Client), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build();
    Ok((runtime.map_err(|error| error.to_string())?, client.map_err(|error| lifeboat_base::report(&error))?))
}

async fn ask_again_and_again(
    house: &House,
    reports: &Reports,
    client: &Client,
    name: &str,
    probe: &ProbePlan,
) {
    let (mut checker, begun) = (Checker::new(settings(probe)), Stopwatch::start());
    loop {
        let outcome = ask(client, probe).await;
        // While a service starts a failure says nothing.
        let counts =
            matches!(outcome, Outcome::Success(_)) || begun.elapsed() >= probe.start_period.duration();
        if counts && let Some(change) = checker.record(outcome, house.clock.now()) {
            let event = if change.to == Status::Up { "answers" } else { "down" };
            house.note(name, event, json!({ "error": checker.failure() }));
        }
        let now = house.clock.now();
        let status = checker.status(now);
        let down: Option<Timestamp> = checker.since().filter(|_| status == Status::Down);
        reports.find_out(|found| {
            found.probes.insert(name.to_owned(), (status, down));
        });
        tokio::time::sleep(probe.interval.duration().max(LOOK_EVERY)).await;
    }
}

fn settings(probe: &ProbePlan) -> Settings {
    let interval = probe.interval.duration().saturating_add(probe.timeout.duration());
    let usual = Settings::default();
    Settings {
        failures_down: NonZeroU32::new(probe.failures).unwrap_or(usual.failures_down),
        successes_up: NonZeroU32::new(probe.successes).unwrap_or(usual.successes_up),
        stale_after: interval.saturating_mul(MISSED),
        ..usual
    }
}

/// The answer is its status: what else is said is not waited for.
async fn ask(client: &Client, probe: &ProbePlan) -> Outcome {
    let watch = Stopwatch::start();
    match client.get(&probe.url).timeout(probe.timeout.duration()).send().await {
        Ok(response) if response.status().is_success() => Outcome::Success(watch.elapsed()),
        Ok(response) => Outcome::Failure(format!("it answers {}", response.status())),
        // A URL may have a secret in it.
        Err(error) => Outcome::Failure(lifeboat_base::report(&error.without_url())),
    }
}
