//! What people were told, derived from the records: so that nobody forgets and nobody repeats.

use super::record::{About, Next, Recipient, Telling, Told, What};
use lifeboat_base::clock::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// In so long …
const WINDOW: Duration = Duration::from_mins(5);
/// … so many messages are sent at the most; what comes beyond that waits, and is told together.
const IN_WINDOW: usize = 10;
/// A run tells so often and then no more.
pub(crate) const MOST: usize = 500;

/// What was told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tellings {
    /// By the record with which the waiting began.
    open: BTreeMap<u64, Open>,
    /// By the record with which they were about to be sent.
    sent: BTreeMap<u64, Telling>,
    letters: BTreeMap<(u64, Recipient), Letter>,
    /// When the last ones were about to be sent that asked for something.
    recent: Vec<Timestamp>,
    nobody: Option<String>,
}

/// Something that people were told of.
#[derive(Clone, Debug, PartialEq)]
struct Open {
    about: About,
    at: Timestamp,
    who: BTreeSet<String>,
    tellings: BTreeSet<u64>,
    /// Who was told that it is settled.
    settled: BTreeSet<Recipient>,
}

/// What became of one message to one recipient.
#[derive(Clone, Debug, Default, PartialEq)]
struct Letter {
    attempts: u32,
    why: Option<String>,
    over: bool,
}

/// What was told of something, for people to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToldOf {
    /// Of what.
    pub what: What,
    /// The contacts whom it was for.
    pub who: Vec<String>,
    /// When it was told last.
    #[serde(serialize_with = "crate::time::serialize")]
    pub at: Timestamp,
    /// Where it arrived.
    pub arrived: Vec<Recipient>,
    /// Where it did not, or not yet.
    pub failing: Vec<Failing>,
    /// Where it is on its way.
    pub under_way: Vec<Recipient>,
    /// Who is told next.
    pub next: Option<Next>,
}

/// Where a message did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// Where.
    pub to: Recipient,
    /// Why not.
    pub why: String,
    /// Whether it is tried again.
    pub is_tried_again: bool,
}

impl Tellings {
    /// Takes in that something is about to be told.
    pub(crate) fn begin(&mut self, number: u64, at: Timestamp, telling: &Telling) {
        for about in &telling.about {
            match telling.settled {
                true => self.settle(about, &telling.to),
                false => self.tell(number, at, about),
            }
        }
        if !telling.settled {
            self.recent.push(at);
            let surplus = self.recent.len().saturating_sub(IN_WINDOW);
            self.recent.drain(..surplus);
            self.nobody = None;
        }
        for to in &telling.to {
            self.letters.insert((number, to.clone()), Letter::default());
        }
        self.sent.insert(number, telling.clone());
    }

    fn settle(&mut self, about: &About, to: &[Recipient]) {
        if let Some(open) = self.open.get_mut(&about.record) {
            open.settled.extend(to.iter().cloned());
        }
    }

    fn tell(&mut self, number: u64, at: Timestamp, about: &About) {
        // What is waited for anew takes the place of what was waited for before.
        let step = about.what.step();
        let is_before = |open: &Open| open.about.record != about.record && open.about.what.step() == step;
        let before: Vec<u64> =
            self.open.iter().filter(|(_, open)| is_before(open)).map(|(record, _)| *record).collect();
        let mut tellings: BTreeSet<u64> = [number].into();
        for record in before {
            let Some(open) = self.open.remove(&record) else { continue };
            // Of what was said to be settled, nobody needs to hear once more that it is.
            if open.settled.is_empty() {
                tellings.extend(open.tellings);
            }
        }
        let open = self.open.entry(about.record).or_insert_with(|| Open {
            about: about.clone(),
            at,
            who: BTreeSet::new(),
            tellings: BTreeSet::new(),
            settled: BTreeSet::new(),
        });
        (open.about, open.at) = (about.clone(), at);
        open.who.extend(about.who.iter().cloned());
        open.tellings.extend(tellings);
        // Whoever is told once more is also told once more when it is settled.
        open.settled.clear();
    }

    /// Takes in what became of a message.
    pub(crate) fn end(&mut self, told: &Told) {
        if let Some(letter) = self.letters.get_mut(&(told.telling, told.to.clone())) {
            *letter = Letter { attempts: told.attempts, why: told.why.clone(), over: told.over };
        }
    }

    /// Takes in that nobody can be told.
    pub(crate) fn have_nobody(&mut self, why: &str) {
        self.nobody = Some(why.to_owned());
    }

    /// Why nobody is told, where nobody is.
    pub fn nobody(&self) -> Option<&str> {
        self.nobody.as_deref()
    }

    /// How far the escalation has come of what waits since a record.
    pub(crate) fn through(&self, record: u64) -> Option<u64> {
        self.open.get(&record).map(|open| open.about.through_ms)
    }

    /// The contacts who were told of the same step, since another record.
    pub(crate) fn told_of(&self, what: &What, record: u64) -> impl Iterator<Item = &String> {
        let step = what.step().cloned();
        let is_of = move |open: &&Open| {
            open.about.record != record && open.about.what.step() == step.as_ref() && open.settled.is_empty()
        };
        self.open.values().filter(is_of).flat_map(|open| &open.who)
    }

    /// What people were told of, settled or not.
    pub(crate) fn open(&self) -> impl Iterator<Item = &About> {
        self.open.values().map(|open| &open.about)
    }

    /// Those who were told of it, or may have been, and not yet that it is settled.
    pub(crate) fn to_be_told_that_settled(&self, record: u64) -> BTreeSet<Recipient> {
        let Some(open) = self.open.get(&record) else { return BTreeSet::new() };
        let tried = self.letters.iter().filter(|((telling, _), letter)| {
            letter.attempts > 0 && letter.over && open.tellings.contains(telling)
        });
        tried.map(|((_, to), _)| to).filter(|to| !open.settled.contains(to)).cloned().collect()
    }

    /// The messages of which nobody knows yet whether they arrived.
    pub(crate) fn pending(&self) -> impl Iterator<Item = (u64, &Recipient, &Telling)> {
        self.letters
            .iter()
            .filter(|(_, letter)| !letter.over)
            .filter_map(|((number, to), _)| self.sent.get(number).map(|telling| (*number, to, telling)))
    }

    /// Whether another message may be sent that asks for something: from when on, where not now.
    pub(crate) fn may_tell(&self, now: Timestamp) -> Result<(), Option<Timestamp>> {
        if self.sent.len() >= MOST {
            return Err(None);
        }
        match self.recent.first() {
            Some(first) if self.recent.len() >= IN_WINDOW && now < first.plus(WINDOW) => {
                Err(Some(first.plus(WINDOW)))
            }
            _ => Ok(()),
        }
    }

    /// What was told, of what a run still waits for.
    pub(crate) fn shown(&self, is_awaited: impl Fn(&About) -> bool) -> Vec<ToldOf> {
        self.open.values().filter(|open| is_awaited(&open.about)).map(|open| self.shown_of(open)).collect()
    }

    fn shown_of(&self, open: &Open) -> ToldOf {
        let mut shown = ToldOf {
            what: open.about.what.clone(),
            who: open.who.iter().cloned().collect(),
            at: open.at,
            arrived: Vec::new(),
            failing: Vec::new(),
            under_way: Vec::new(),
            next: open.about.next.clone(),
        };
        let mut newest: BTreeMap<&Recipient, &Letter> = BTreeMap::new();
        for ((telling, to), letter) in &self.letters {
            if open.tellings.contains(telling) {
                newest.insert(to, letter);
            }
        }
        for (to, letter) in newest {
            match (&letter.why, letter.over) {
                (Some(why), over) => {
                    shown.failing.push(Failing { to: to.clone(), why: why.clone(), is_tried_again: !over });
                }
                (None, true) => shown.arrived.push(to.clone()),
                (None, false) => shown.under_way.push(to.clone()),
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Act;
    use lifeboat_runbook::StepId;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + seconds)
    }

    fn telling(record: u64) -> Telling {
        let what = What::Failed { step: StepId::new(&format!("s{record}")).unwrap(), act: Act::Do };
        let (who, actions) = (vec!["ann".to_owned()], Vec::new());
        let about = About {
            record,
            since: at(0),
            what,
            role: None,
            until: None,
            who,
            actions,
            through_ms: 0,
            next: None,
        };
        Telling { about: vec![about], settled: false, to: vec![Recipient::Channel("ops".to_owned())] }
    }

    #[test]
    fn a_flood_is_told_together_and_nothing_is_told_for_ever() {
        let mut tellings = Tellings::default();
        for number in 0..10 {
            assert_eq!(tellings.may_tell(at(0)), Ok(()), "{number}");
            tellings.begin(number, at(number.try_into().unwrap()), &telling(number));
        }
        assert_eq!(tellings.may_tell(at(10)), Err(Some(at(300))));
        assert_eq!(tellings.may_tell(at(300)), Ok(()), "when the oldest of them is long enough ago");
        for number in 10..500 {
            tellings.begin(number, at(0), &telling(number));
        }
        assert_eq!(tellings.may_tell(at(99_999)), Err(None));
    }

    #[test]
    fn what_did_not_arrive_is_shown_with_why() {
        let (mut tellings, to) = (Tellings::default(), Recipient::Channel("ops".to_owned()));
        tellings.begin(9, at(5), &telling(3));
        let shown = |tellings: &Tellings| tellings.shown(|about| about.record == 3).remove(0);
        assert_eq!(shown(&tellings).under_way, std::slice::from_ref(&to));
        let why = Some("away".to_owned());
        tellings.end(&Told { telling: 9, to: to.clone(), attempts: 1, why, over: false });
        assert!(shown(&tellings).failing[0].is_tried_again);
        assert_eq!(tellings.pending().count(), 1);
        tellings.end(&Told { telling: 9, to: to.clone(), attempts: 2, why: None, over: true });
        assert_eq!((shown(&tellings).arrived, tellings.pending().count()), (vec![to], 0));
        assert_eq!(tellings.shown(|_| false), []);
    }
}
