//! Who is due to be told: a pure function of what is waited for, what was told, and the time.

use super::record::{About, Next, Recipient, What};
use super::{Escalation, Stage, Tellings};
use lifeboat_base::clock::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Something that a run waits for people for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Awaited {
    /// The record with which the waiting began.
    pub(crate) record: u64,
    pub(crate) since: Timestamp,
    pub(crate) what: What,
    pub(crate) role: Option<String>,
    pub(crate) until: Option<Timestamp>,
}

/// What people are due to be told of now, and when the next of that is due. Where several stages have passed, as after
/// a restart or a jump of the clock, they are one.
pub(crate) fn due(
    escalation: &Escalation,
    awaited: &[Awaited],
    tellings: &Tellings,
    now: Timestamp,
) -> (Vec<About>, Option<Timestamp>) {
    let mut due = Vec::new();
    let mut next: Option<Timestamp> = None;
    let mut of_role: BTreeMap<Option<&str>, Vec<Stage>> = BTreeMap::new();
    for one in awaited {
        let role = one.role.as_deref();
        let stages = of_role.entry(role).or_insert_with(|| escalation.stages(role));
        let later = stages.iter().map(|stage| one.since.plus(stage.after)).find(|at| *at > now);
        next = next.into_iter().chain(later).min();
        due.extend(due_of(one, stages, tellings, now));
    }
    (due, next)
}

fn due_of(one: &Awaited, stages: &[Stage], tellings: &Tellings, now: Timestamp) -> Option<About> {
    let told = tellings.through(one.record);
    let has_come = |stage: &&Stage| stage.after.is_zero() || one.since.plus(stage.after) <= now;
    let is_new = |stage: &&Stage| told.is_none_or(|through| millis(stage) > through);
    let due: Vec<&Stage> = stages.iter().filter(has_come).filter(is_new).collect();
    let through_ms = due.iter().map(|stage| millis(stage)).max()?;
    let mut who: BTreeSet<&String> = due.iter().flat_map(|stage| &stage.who).collect();
    if told.is_none() {
        // The same step waits anew: whoever was told of that before has to know.
        who.extend(tellings.told_of(&one.what, one.record));
    }
    let next = stages.iter().find(|stage| millis(stage) > through_ms);
    Some(About {
        record: one.record,
        since: one.since,
        what: one.what.clone(),
        role: one.role.clone(),
        until: one.until,
        who: who.into_iter().cloned().collect(),
        actions: due.iter().flat_map(|stage| stage.actions.clone()).collect(),
        through_ms,
        next: next
            .map(|stage| Next { at: one.since.plus(stage.after), who: stage.who.iter().cloned().collect() }),
    })
}

/// Milliseconds, which the journal keeps exactly.
fn millis(stage: &Stage) -> u64 {
    u64::try_from(stage.after.as_millis()).unwrap_or(u64::MAX).min(1 << 52)
}

/// What is settled and not yet said so, by those who are to be told: whoever was told of it, or may have been.
pub(crate) fn settled(
    awaited: &[Awaited],
    tellings: &Tellings,
    comes_back: impl Fn(&What) -> bool,
) -> BTreeMap<BTreeSet<Recipient>, Vec<About>> {
    let mut due: BTreeMap<BTreeSet<Recipient>, Vec<About>> = BTreeMap::new();
    for about in tellings.open() {
        // What is waited for anew of the same step is told as that.
        let waits = |one: &Awaited| one.record == about.record || one.what.step() == about.what.step();
        if awaited.iter().any(waits) || comes_back(&about.what) {
            continue;
        }
        let whom = tellings.to_be_told_that_settled(about.record);
        if !whom.is_empty() {
            due.entry(whom).or_default().push(About { next: None, actions: Vec::new(), ..about.clone() });
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escalation::{Telling, Told};
    use crate::event::Act;
    use lifeboat_plan::Plan;
    use lifeboat_runbook::{Front, StepId};
    use std::time::Duration;

    const PLAN: &str = "[contacts.ann]\nrole = \"commander\"\nreach = [\"a@a.org\"]\nafter = \"0s\"\n\
                        [contacts.bob]\nreach = [\"b@a.org\"]\nafter = \"5m\"\n\
                        [contacts.eve]\nreach = [\"e@a.org\"]\nafter = \"10m\"\n";

    /// Seconds since the beginning, as the journal and the messenger would have it.
    struct Simulated {
        escalation: Escalation,
        tellings: Tellings,
        number: u64,
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000).plus(Duration::from_secs(seconds))
    }

    fn awaited(record: u64, since: u64) -> Awaited {
        let what = What::Consent { block: StepId::new("a").unwrap() };
        Awaited { record, since: at(since), what, role: Some("commander".to_owned()), until: None }
    }

    impl Simulated {
        fn new() -> Self {
            let escalation = Escalation::of(&Plan::parse(PLAN, "p.toml").unwrap(), &Front::default());
            Self { escalation, tellings: Tellings::default(), number: 100 }
        }

        /// Who is told at a time; what is told arrives, at everybody but those.
        fn tell(&mut self, awaited: &[Awaited], now: u64, away: &[&str]) -> Vec<String> {
            let (about, next) = due(&self.escalation, awaited, &self.tellings, at(now));
            assert!(next.is_none_or(|next| next > at(now)));
            let who: BTreeSet<String> = about.iter().flat_map(|about| about.who.clone()).collect();
            if !about.is_empty() {
                self.send(about, false, &who, now, away);
            }
            who.into_iter().collect()
        }

        fn settle(&mut self, awaited: &[Awaited], now: u64) -> Vec<String> {
            let mut told = Vec::new();
            for (whom, about) in settled(awaited, &self.tellings, |_| false) {
                let names: BTreeSet<String> = whom.iter().map(name).collect();
                told.extend(names.iter().cloned());
                self.send(about, true, &names, now, &[]);
            }
            told
        }

        fn send(
            &mut self,
            about: Vec<About>,
            settled: bool,
            who: &BTreeSet<String>,
            now: u64,
            away: &[&str],
        ) {
            self.number += 1;
            let telling = self.number;
            let to: Vec<Recipient> = who.iter().cloned().map(Recipient::Contact).collect();
            self.tellings.begin(telling, at(now), &Telling { about, settled, to: to.clone() });
            for to in to {
                if !away.contains(&name(&to).as_str()) {
                    self.tellings.end(&Told { telling, to, attempts: 1, why: None, over: true });
                }
            }
        }
    }

    fn name(recipient: &Recipient) -> String {
        match recipient {
            Recipient::Channel(name) | Recipient::Contact(name) => name.clone(),
        }
    }

    #[test]
    fn each_stage_is_told_once_at_its_time_however_often_one_looks() {
        let (mut run, one) = (Simulated::new(), [awaited(7, 0)]);
        for (now, who) in [
            (0, vec!["ann"]),
            (0, vec![]),
            (299, vec![]),
            (300, vec!["bob"]),
            (301, vec![]),
            (600, vec!["eve"]),
            (14_999, vec![]),
            (15_000, vec!["ann", "bob", "eve"]),
            (15_001, vec![]),
        ] {
            assert_eq!(run.tell(&one, now, &[]), who, "{now}");
        }
        assert_eq!(run.tell(&one, 14_400 * 100, &[]), ["ann", "bob", "eve"], "all that passed is one");
        assert_eq!(run.tell(&one, 14_400 * 1000, &[]), [""; 0], "and nobody is reminded for ever");
    }

    #[test]
    fn a_clock_that_jumps_forward_tells_all_that_passed_at_once_and_back_tells_nobody_twice() {
        let (mut run, one) = (Simulated::new(), [awaited(7, 1000)]);
        assert_eq!(run.tell(&one, 0, &[]), ["ann"], "before it even began");
        assert_eq!(run.tell(&one, 1000 + 601, &[]), ["bob", "eve"]);
        for now in [0, 1000, 1300, 1600, 1700] {
            assert_eq!(run.tell(&one, now, &[]), [""; 0], "{now}");
        }
    }

    #[test]
    fn what_is_settled_is_said_once_to_those_who_were_told() {
        let (mut run, one) = (Simulated::new(), [awaited(7, 0)]);
        run.tell(&one, 0, &[]);
        assert_eq!(run.settle(&one, 10), [""; 0], "it is still waited for");
        run.tell(&one, 300, &["bob"]);
        assert_eq!(run.settle(&[], 310), ["ann"], "nobody knows whether it reached bob");
        assert_eq!(run.settle(&[], 311), [""; 0]);
        let (telling, to) = (102, Recipient::Contact("bob".to_owned()));
        run.tellings.end(&Told { telling, to, attempts: 3, why: None, over: true });
        assert_eq!(run.settle(&[], 320), ["bob"], "it did, later");
        assert_eq!(run.settle(&[], 321), [""; 0]);
    }

    #[test]
    fn what_is_asked_anew_is_told_anew_and_also_to_those_who_were_told_before() {
        let mut run = Simulated::new();
        for now in [0, 300] {
            run.tell(&[awaited(7, 0)], now, &[]);
        }
        let anew = [awaited(20, 3600)];
        assert_eq!(run.settle(&anew, 3600), [""; 0]);
        assert_eq!(
            run.tell(&anew, 3600, &[]),
            ["ann", "bob"],
            "bob has to know that there is another question"
        );
        assert_eq!(run.settle(&anew, 3601), [""; 0], "what was asked first is not over: it is asked again");
        assert_eq!(run.tell(&anew, 3900, &[]), ["bob"], "it begins again");
        assert_eq!(run.settle(&[], 3901), ["ann", "bob"]);
        assert_eq!(run.settle(&[], 3902), [""; 0]);
    }

    #[test]
    fn several_things_are_told_together() {
        let mut run = Simulated::new();
        let step = StepId::new("b").unwrap();
        let other = Awaited { what: What::Failed { step, act: Act::Do }, role: None, ..awaited(8, 0) };
        let (about, next) = due(&run.escalation, &[awaited(7, 0), other.clone()], &run.tellings, at(0));
        assert_eq!((about.len(), next), (2, Some(at(300))));
        run.tell(&[awaited(7, 0), other], 0, &[]);
        assert_eq!(settled(&[], &run.tellings, |_| false).len(), 1, "and settled together");
        assert_eq!(
            settled(&[], &run.tellings, |what| matches!(what, What::Consent { .. }))
                .values()
                .flatten()
                .count(),
            1
        );
    }
}
