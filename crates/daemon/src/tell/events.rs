//! What of a report people are told of. Each host tells of what it does itself, and the leader of what is shared: of
//! two that see the same, one tells.

use lifeboat_notify::{Event, Kind};
use lifeboat_watch::reason::{Reason, State};
use lifeboat_watch::report::Report;
use std::collections::BTreeMap;

/// Everything that holds, as events: one for each kind of trouble with each thing.
pub(super) fn holding(report: &Report, host: &str, is_ours: impl Fn(&str) -> bool) -> Vec<Event> {
    let leads = report.leader.as_ref().is_some_and(|leader| leader.here);
    let mut events = Events::default();
    for dataset in report.datasets.iter().filter(|dataset| is_ours(&dataset.name)) {
        // Jobs and places are told of by themselves, below.
        let own = dataset.reasons.iter().filter(|reason| !is_elsewhere(reason));
        events.take(&dataset.name, own);
    }
    for service in report.services.iter().filter(|_| leads) {
        events.take(
            &service.name,
            service.reasons.iter().filter(|reason| !matches!(reason, Reason::NeedNotOk { .. })),
        );
    }
    for place in report.places.iter().filter(|_| leads) {
        events.take(&place.name, &place.reasons);
    }
    for job in &report.jobs {
        events.take(&job.name, &job.reasons);
    }
    for component in &report.components {
        events.take(&format!("{} of {host}", component.name), &component.reasons);
    }
    for channel in &report.channels {
        events.take(&format!("channel {} of {host}", channel.name), &channel.reasons);
    }
    events.take(&report.system, &report.reasons);
    events.0.into_values().collect()
}

fn is_elsewhere(reason: &Reason) -> bool {
    use Reason::{JobFailed, JobLate, PlaceLost, PlaceUnknown, PlaceUnreachable};
    matches!(
        reason,
        JobFailed { .. } | JobLate { .. } | PlaceLost { .. } | PlaceUnknown { .. } | PlaceUnreachable { .. }
    )
}

#[derive(Default)]
struct Events(BTreeMap<String, Event>);

impl Events {
    fn take<'r>(&mut self, about: &str, reasons: impl IntoIterator<Item = &'r Reason>) {
        for reason in reasons {
            let kind = kind_of(reason);
            let key = format!("{} {about}", kind.as_str());
            let event = self.0.entry(key.clone()).or_insert_with(|| Event {
                key,
                kind,
                about: about.to_owned(),
                what: String::new(),
                severity: None,
            });
            if !event.what.is_empty() {
                event.what.push_str("; ");
            }
            event.what.push_str(&reason.to_string());
        }
    }
}

fn kind_of(reason: &Reason) -> Kind {
    match reason {
        Reason::Stalled { .. } | Reason::NeverHeard => Kind::Stall,
        Reason::ProofFailed { .. }
        | Reason::ProofInconclusive { .. }
        | Reason::ProofTooOld { .. }
        | Reason::NeverProven => Kind::ProofFailed,
        Reason::JobFailed { .. } | Reason::JobLate { .. } => Kind::JobFailed,
        Reason::CopyLags { .. } => Kind::CopyLags,
        Reason::StoreDown
        | Reason::PlaceUnreachable { .. }
        | Reason::PlaceLost { .. }
        | Reason::ComponentDown { .. }
        | Reason::ServiceDown { .. }
        | Reason::NoLeader => Kind::Down,
        other => match other.state() {
            State::Breach => Kind::Breach,
            State::Unknown => Kind::Unknown,
            State::Ok | State::AtRisk => Kind::AtRisk,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_base::clock::Timestamp;
    use lifeboat_watch::observe::{
        Dataset, Job, Leader, Leadership, Observations, Place, Reach, Role, Stream,
    };
    use lifeboat_watch::report::{Limits, judge};
    use std::time::Duration;

    fn report(leads: bool) -> Report {
        let now = Timestamp::from_secs(100_000);
        let ago = |seconds| now.minus(Duration::from_secs(seconds));
        let dataset = |name: &str| Dataset {
            name: name.to_owned(),
            rpo: lifeboat_watch::observe::Objectives {
                host: Some(Duration::from_secs(60)),
                ..Default::default()
            },
            stream: Some(Stream {
                heard: Some(ago(10)),
                position: Some(1),
                durable: Some(1),
                through: Some(ago(10)),
            }),
            ..Dataset::default()
        };
        let repository = Place {
            name: "repository".to_owned(),
            role: Role::Repository,
            host: None,
            region: None,
            reach: Reach::Unreachable(Some(ago(30))),
            checked: None,
        };
        let leader = Leader { host: "a".to_owned(), generation: 1, here: leads };
        let job = Job { name: "prune".to_owned(), kind: "prune".to_owned(), failures: 2, ..Job::default() };
        let observed = Observations {
            leader: Leadership::Held(leader),
            places: vec![repository],
            datasets: vec![dataset("ours"), dataset("theirs")],
            jobs: vec![job],
            ..Observations::default()
        };
        judge(&observed, &Limits::default(), now)
    }

    fn keys(leads: bool) -> Vec<String> {
        let events = holding(&report(leads), "a", |dataset| dataset == "ours");
        events.into_iter().map(|event| event.key).collect()
    }

    #[test]
    fn each_host_tells_of_its_own_and_the_leader_of_what_is_shared() {
        assert_eq!(keys(false), ["breach ours", "job_failed prune", "stall ours"]);
        assert_eq!(keys(true), ["breach ours", "down repository", "job_failed prune", "stall ours"]);
    }
}
