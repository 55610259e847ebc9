//! Datasets, as watch wants to see them: what is promised, what each place holds, how the stream stands.

use super::REPOSITORY;
use super::known::Known;
use crate::house::House;
use crate::live::{DatasetSeen, Seen, SnapshotSeen, StreamSeen};
use crate::schedule::Scheduler;
use crate::stream::is_followed;
use crate::task::{TaskKey, TaskKind, is_done_by};
use lifeboat_base::clock::Timestamp;
use lifeboat_plan::{DatasetPlan, Mode, Plan, Span};
use lifeboat_recovery::prove;
use lifeboat_watch::forecast::{Activity, Takes};
use lifeboat_watch::health::Status;
use lifeboat_watch::observe::{Dataset, Held, Log, Objectives, Proof, Schedule, Spool, Stream, Verdict};
use std::collections::BTreeMap;
use std::time::Duration;

/// A copy without a schedule of its own is brought up to date so often.
const COPY_EVERY: Span = crate::task::COPY_EVERY;

/// What one dataset is looked at with.
struct Look<'a> {
    house: &'a House,
    scheduler: &'a Scheduler,
    seen: &'a Seen,
    known: &'a Known,
    name: &'a str,
    plan: &'a DatasetPlan,
    dataset: Option<&'a DatasetSeen>,
    now: Timestamp,
}

pub(super) fn all(
    house: &House,
    scheduler: &Scheduler,
    seen: &Seen,
    known: &Known,
    stores: &BTreeMap<String, Status>,
    now: Timestamp,
) -> Vec<Dataset> {
    let one = |(name, plan): (&String, &DatasetPlan)| {
        let look = Look { house, scheduler, seen, known, name, plan, dataset: seen.datasets.get(name), now };
        Dataset {
            name: name.clone(),
            rpo: objectives(&house.plan, name, plan),
            host: plan.host.clone(),
            region: region(&house.plan, plan),
            store: stores.get(name).copied().unwrap_or_default(),
            held: look.held(),
            stream: look.stream(),
            schedule: look.schedule(),
            proof: look.proof(),
            restore: look.restore(),
            shares: shares(plan),
        }
    };
    house.plan.datasets.iter().map(one).collect()
}

/// What a dataset says of itself, else the strictest environment of the services that need it, else the system.
pub(super) fn objectives(plan: &Plan, name: &str, dataset: &DatasetPlan) -> Objectives {
    let duration = |span: Option<Span>| span.map(Span::duration);
    if let Some(rpo) = dataset.rpo {
        return Objectives {
            host: Some(rpo.host.duration()),
            repository: duration(rpo.repository),
            region: duration(rpo.region),
        };
    }
    let needing = plan.services.values().filter(|service| service.needs.iter().any(|need| need == name));
    let environments =
        needing.filter_map(|service| plan.environments.get(service.environment.as_ref()?)?.rpo);
    let system = || plan.system.as_ref().and_then(|system| system.rpo);
    Objectives { host: duration(environments.min().or_else(system)), ..Objectives::default() }
}

pub(super) fn region(plan: &Plan, dataset: &DatasetPlan) -> Option<String> {
    let of_host = || plan.hosts.get(dataset.host.as_ref()?)?.region.clone();
    let home = || plan.system.as_ref()?.region.clone();
    dataset.region.clone().or_else(of_host).or_else(home)
}

/// Restores from one repository share its rate, and those onto one host that of its disk.
pub(super) fn shares(dataset: &DatasetPlan) -> Vec<String> {
    let host = dataset.host.iter().map(|host| format!("host {host}"));
    std::iter::once(REPOSITORY.to_owned()).chain(host).collect()
}

impl Look<'_> {
    fn mode(&self) -> Option<Mode> {
        self.plan.protect.as_ref().map(|protect| protect.mode)
    }

    fn own_stream(&self) -> Option<&StreamSeen> {
        self.dataset?.stream.as_ref()
    }

    fn held(&self) -> Vec<Held> {
        let copies = self.house.copies().filter_map(|(name, copy)| {
            let holds = self.seen.copies.get(&name)?.holds.get(self.name).copied();
            Some(Held {
                snapshot: holds.map(|holds| self.known.valid_through(self.name, holds)),
                lag_max: Some(self.lag_max(copy)),
                place: name,
                ..Held::default()
            })
        });
        self.in_repository().into_iter().chain(copies).collect()
    }

    fn in_repository(&self) -> Option<Held> {
        let snapshot = self.dataset?.snapshot.as_ref()?;
        let (log, spool) = match self.own_stream().and_then(|stream| Some((stream, stream.status?))) {
            Some((stream, status)) => self.followed(stream, &status),
            None => (self.log_of_others(snapshot), None),
        };
        let taken = self.known.valid_through(self.name, snapshot.taken);
        Some(Held { place: REPOSITORY.to_owned(), snapshot: Some(taken), log, spool, ..Held::default() })
    }

    /// What our own follower has made durable, and where.
    fn followed(
        &self,
        stream: &StreamSeen,
        status: &lifeboat_store_postgres::FollowStatus,
    ) -> (Option<Log>, Option<Spool>) {
        let log = stream.durable_through.map(|through| Log {
            through,
            position: Some(status.durable.0),
            hole: None,
        });
        let Some(spooled) = status.spool else { return (log, None) };
        let published = match spooled.oldest_wait {
            None => log,
            Some(wait) => log.map(|log| Log {
                through: log.through.min(self.now.minus(wait)),
                position: spooled.published.map(|(_, position)| position.0),
                hole: None,
            }),
        };
        (published, log.map(|log| Spool { host: self.house.means.host(), log }))
    }

    /// What somebody else's follower has published, by the arrival of the last of it: what an idle server has not
    /// written is not in it, so that this says too much rather than too little.
    fn log_of_others(&self, snapshot: &SnapshotSeen) -> Option<Log> {
        let until = self.seen.repository.holds.get(self.name).copied();
        until.filter(|until| *until > snapshot.taken).map(|through| Log {
            through,
            position: None,
            hole: None,
        })
    }

    /// How our stream stands; a dataset that is ours to follow and of which nothing was heard has one all the same.
    fn stream(&self) -> Option<Stream> {
        if let Some(stream) = self.own_stream() {
            let Some(status) = stream.status else { return Some(Stream::default()) };
            let silent = stream.heard.elapsed() + status.silent_for;
            // Without a connection the server says nothing, whenever it last did.
            return Some(Stream {
                heard: Some(self.now.minus(silent)),
                position: Some(status.server_end.0),
                durable: Some(status.durable.0),
                through: stream.durable_through,
            });
        }
        (is_followed(self.plan) && super::is_ours(self.house, self.seen, self.name)).then(Stream::default)
    }

    fn key(&self, kind: TaskKind) -> TaskKey {
        TaskKey { kind, subject: self.name.to_owned() }
    }

    /// When its snapshots are due. On change there is one only when something has changed.
    fn schedule(&self) -> Option<Schedule> {
        if self.mode() != Some(Mode::Scheduled) || !is_done_by(self.plan, &self.house.means.host()) {
            return None;
        }
        let key = self.key(TaskKind::Snapshot);
        let (_, past, due) = self.scheduler.one(&key)?;
        let stated = || self.plan.protect.as_ref()?.takes.map(Span::duration);
        Some(Schedule {
            next: due,
            running: if due.is_none() { past.begun } else { None },
            takes: self.known.takes(&key).or_else(stated),
        })
    }

    fn proof(&self) -> Proof {
        let Some(planned) = &self.plan.prove else { return Proof::default() };
        let verdict_of = |verdict| match verdict {
            prove::Verdict::Proven => Verdict::Proven,
            prove::Verdict::Failed => Verdict::Failed,
            prove::Verdict::Inconclusive => Verdict::Inconclusive,
        };
        let seen = self.dataset.and_then(|dataset| dataset.proof.as_ref());
        let seen = seen.map(|proof| (verdict_of(proof.verdict), proof.at));
        // What was just seen is newer than what was looked up.
        let last = [seen, self.known.verdict(self.name)].into_iter().flatten().max_by_key(|(_, at)| *at);
        let proven = last.filter(|(verdict, _)| *verdict == Verdict::Proven).map(|(_, at)| at);
        Proof {
            last,
            proven: proven.or_else(|| self.known.last_good(&self.key(TaskKind::Proof))),
            age_max: planned.max_age.map(Span::duration),
        }
    }

    /// As it was measured here; else as the plan states it; else nobody knows.
    fn restore(&self) -> Vec<Activity> {
        let stated = || self.plan.recover?.stated();
        match (self.known.restore(self.name), stated()) {
            (Some(measured), _) => measured.to_vec(),
            (None, Some(stated)) => vec![Activity::new("restore", Takes::Stated(stated.duration()))],
            (None, None) => Vec::new(),
        }
    }

    /// How far a copy may be behind: what is new in the repository, one run that was missed, the next one and how long
    /// it takes, and the look by which that is seen.
    fn lag_max(&self, copy: &lifeboat_plan::CopyPlan) -> Duration {
        let between = copy.schedule.as_ref().map_or(COPY_EVERY, |schedule| self.known.gap(schedule));
        let takes = copy.takes.unwrap_or(between);
        let new = self.plan.protect.as_ref().map_or(Span::default(), |protect| {
            match (protect.mode, &protect.snapshots) {
                (Mode::Continuous, _) | (Mode::Scheduled, None) => Span::default(),
                (Mode::OnChange { look_every }, _) => look_every,
                (Mode::Scheduled, Some(schedule)) => self.known.gap(schedule),
            }
        });
        let seen = crate::survey::every(self.house);
        new.plus(between.times(2)).plus(takes).duration().saturating_add(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objectives_of(plan: &str) -> Objectives {
        let plan = Plan::parse(plan, "p.toml").unwrap();
        objectives(&plan, "users", &plan.datasets["users"])
    }

    #[test]
    fn an_objective_is_the_datasets_own_or_that_of_who_needs_it() {
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        let store = "[datasets.users]\nstore = \"/srv\"\n";
        let of_host = |text: &str| objectives_of(text).host;
        let system = "[system]\nname = \"x\"\nrpo = \"1h\"\n";
        let environment = "[environments.production]\nrpo = \"15m\"\n[services.api]\nenvironment = \"production\"\nneeds = [\"users\"]\n";
        assert_eq!(of_host(store), None);
        assert_eq!(of_host(&format!("{system}{store}")), minutes(60));
        assert_eq!(of_host(&format!("{system}{environment}{store}")), minutes(15));
        let own = objectives_of(&format!(
            "{system}{environment}{store}rpo = {{ host = \"5m\", region = \"2h\" }}\n"
        ));
        assert_eq!((own.host, own.repository, own.region), (minutes(5), None, minutes(120)));
    }
}
