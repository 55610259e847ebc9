//! What is seen of the service from outside, and what sees to that: the report once a second, the checks of what it
//! stands on, notifications, and the listener that answers.

use crate::health::Health;
use crate::http::{Inner, Listening};
use crate::means::Trouble;
use crate::report::Reports;
use crate::serve::Service;
use lifeboat_base::clock::Stopwatch;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Where the service listens, unless it is told otherwise.
pub const LISTEN: &str = "127.0.0.1:8377";
/// A report so often: a stall must show within three seconds.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// What the disk and the state say is looked up so often, and more often while everything begins.
const LOOK_UP_EVERY: Duration = Duration::from_secs(30);
const AT_FIRST_EVERY: Duration = Duration::from_secs(3);
const AT_FIRST: Duration = Duration::from_secs(60);
/// How long the threads are waited for when all of it ends.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// Everything that is seen from outside, until it is dropped.
#[derive(Debug)]
pub struct Outside {
    reports: Arc<Reports>,
    listening: Listening,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Outside {
    /// Starts all of it for a service, which may begin afterwards.
    ///
    /// # Errors
    /// Where the address cannot be had, or no thread started.
    pub fn start(service: &Arc<Service>, address: SocketAddr) -> Result<Self, Trouble> {
        let house = service.house();
        let (reports, health) = (Arc::<Reports>::default(), Arc::new(Health::new(house)));
        let stop = Arc::new(AtomicBool::new(false));
        let inner = Inner::new(service, &reports, &health);
        let listening = Listening::start(Arc::new(inner), address)?;
        house.say("http", "listening", json!({ "address": listening.address().to_string() }));
        let mut outside =
            Self { reports: reports.clone(), listening, stop: stop.clone(), threads: Vec::new() };
        let reporting = {
            let (service, stop) = (service.clone(), stop.clone());
            std::thread::Builder::new()
                .name("report".to_owned())
                .spawn(move || keep(&service, &reports, &stop))
        };
        let checking = health.start(house, &outside.reports, &stop);
        let telling = {
            let (house, reports, stop) = (house.clone(), outside.reports.clone(), stop.clone());
            let tell = move || crate::tell::keep(&house, &reports, &stop);
            std::thread::Builder::new().name("notify".to_owned()).spawn(tell)
        };
        let probing = {
            let (house, reports, stop) = (house.clone(), outside.reports.clone(), stop.clone());
            let probe = move || crate::probe::keep(&house, &reports, &stop);
            std::thread::Builder::new().name("probe".to_owned()).spawn(probe)
        };
        for started in [reporting, telling, probing].into_iter().chain(checking) {
            // What has started ends when `outside` is dropped.
            outside.threads.push(started.map_err(no_thread)?);
        }
        Ok(outside)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The reports.
    pub const fn reports(&self) -> &Arc<Reports> {
        &self.reports
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let watch = Stopwatch::start();
        // One that waits for a network is left behind: it changes nothing any more.
        while watch.elapsed() < ENDS_WITHIN && !self.threads.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(10));
        }
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            // It panicked: that has been told where it happened.
            let _ = thread.join();
        }
    }
}

fn no_thread(error: std::io::Error) -> Trouble {
    Trouble::new(format!("start a thread: {error}"), "Check the limits of this user.")
}

fn keep(service: &Service, reports: &Reports, stop: &AtomicBool) {
    let (begun, mut looked_up) = (Stopwatch::start(), None::<Stopwatch>);
    while !stop.load(Ordering::Relaxed) {
        let pause = if begun.elapsed() < AT_FIRST { AT_FIRST_EVERY } else { LOOK_UP_EVERY };
        if looked_up.is_none_or(|watch| watch.elapsed() >= pause) {
            reports.look_up(service);
            looked_up = Some(Stopwatch::start());
        }
        reports.make(service);
        crate::stream::sleep(REPORT_EVERY, stop);
    }
}
