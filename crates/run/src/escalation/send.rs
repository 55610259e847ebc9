//! Sending beside the one who writes the journal: a thread a recipient, so that one who does not answer holds up
//! neither the run nor the others.

use super::{Messenger, NotSent, Notice, Pace, Recipient};
use lifeboat_base::backoff::Backoff;
use lifeboat_base::clock::Stopwatch;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A message to one recipient, by the record with which it was about to be sent.
pub(crate) struct Letter {
    pub(crate) telling: u64,
    pub(crate) to: Recipient,
    /// Where a contact is reached.
    pub(crate) reach: Vec<String>,
    pub(crate) notice: Notice,
}

/// What became of a message, or of its first attempt.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) telling: u64,
    pub(crate) to: Recipient,
    pub(crate) attempts: u32,
    pub(crate) why: Option<String>,
    pub(crate) over: bool,
}

/// Sends what it is given.
pub(crate) struct Sender {
    messenger: Arc<dyn Messenger>,
    pace: Pace,
    lanes: BTreeMap<Recipient, Arc<Lane>>,
    report: mpsc::Sender<Sent>,
    reports: Receiver<Sent>,
    /// What is being sent; whether something is known of it.
    held: BTreeMap<(u64, Recipient), bool>,
}

#[derive(Default)]
struct Lane {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    letters: VecDeque<Letter>,
    /// Why they are not wanted any more.
    withdrawn: BTreeMap<u64, String>,
    is_stopped: bool,
}

impl Lane {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, how: impl FnOnce(&mut Queue)) {
        how(&mut self.queue());
        self.changed.notify_all();
    }

    /// The next letter; none once it is stopped.
    fn next(&self) -> Option<Letter> {
        let mut queue = self.queue();
        loop {
            if queue.is_stopped {
                return None;
            }
            if let Some(letter) = queue.letters.pop_front() {
                return Some(letter);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits so long, unless a letter is not wanted any more.
    fn pause(&self, telling: u64, long: Duration) {
        let is_wanted = |queue: &mut Queue| !queue.is_stopped && !queue.withdrawn.contains_key(&telling);
        let waited = self.changed.wait_timeout_while(self.queue(), long, is_wanted);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Sender {
    pub(crate) fn new(messenger: Arc<dyn Messenger>, pace: Pace) -> Self {
        let (report, reports) = channel();
        Self { messenger, pace, lanes: BTreeMap::new(), report, reports, held: BTreeMap::new() }
    }

    pub(crate) fn messenger(&self) -> &dyn Messenger {
        &*self.messenger
    }

    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    /// Whether a message is being sent.
    pub(crate) fn holds(&self, telling: u64, to: &Recipient) -> bool {
        self.held.contains_key(&(telling, to.clone()))
    }

    /// Whether something is known of everything that is being sent.
    pub(crate) fn is_quiet(&self) -> bool {
        self.held.values().all(|is_known| *is_known)
    }

    /// Begins to send a message.
    pub(crate) fn send(&mut self, letter: Letter) {
        let (telling, to) = (letter.telling, letter.to.clone());
        self.held.insert((telling, to.clone()), false);
        match self.lane(&to) {
            Ok(lane) => lane.change(|queue| queue.letters.push_back(letter)),
            Err(error) => {
                let why = Some(format!("start a thread to send it: {error}"));
                let _ = self.report.send(Sent { telling, to, attempts: 0, why, over: true });
            }
        }
    }

    /// What is not wanted any more is not tried again, and not begun.
    pub(crate) fn withdraw(&mut self, telling: u64, to: &Recipient, why: &str) {
        if let Some(lane) = self.lanes.get(to) {
            lane.change(|queue| drop(queue.withdrawn.insert(telling, why.to_owned())));
        }
    }

    /// What has become of messages, waiting at most so long for the first.
    pub(crate) fn sent(&mut self, wait: Duration) -> Vec<Sent> {
        let first = self.reports.recv_timeout(wait).ok();
        let all: Vec<Sent> = first.into_iter().chain(self.reports.try_iter()).collect();
        for sent in &all {
            let key = (sent.telling, sent.to.clone());
            match sent.over {
                true => drop(self.held.remove(&key)),
                false => drop(self.held.insert(key, true)),
            }
        }
        all
    }

    fn lane(&mut self, to: &Recipient) -> std::io::Result<Arc<Lane>> {
        if let Some(lane) = self.lanes.get(to) {
            return Ok(lane.clone());
        }
        let lane = Arc::<Lane>::default();
        let courier = Courier {
            lane: lane.clone(),
            messenger: self.messenger.clone(),
            pace: self.pace,
            report: self.report.clone(),
        };
        // Nobody waits for it: whoever does not answer holds up no end of the process either.
        thread::Builder::new().name("run-tell".to_owned()).spawn(move || courier.go_on())?;
        self.lanes.insert(to.clone(), lane.clone());
        Ok(lane)
    }
}

/// Nothing is begun any more; what is under way ends by itself.
impl Drop for Sender {
    fn drop(&mut self) {
        self.lanes.values().for_each(|lane| lane.change(|queue| queue.is_stopped = true));
    }
}

/// Sends to one recipient, one message after the other.
struct Courier {
    lane: Arc<Lane>,
    messenger: Arc<dyn Messenger>,
    pace: Pace,
    report: mpsc::Sender<Sent>,
}

impl Courier {
    fn go_on(&self) {
        while let Some(letter) = self.lane.next() {
            self.deliver(&letter);
        }
    }

    fn deliver(&self, letter: &Letter) {
        let watch = Stopwatch::start();
        let mut attempts = 0;
        loop {
            if let Some(why) = self.withdrawn(letter.telling) {
                return self.say(letter, attempts, Some(why), true);
            }
            if self.lane.queue().is_stopped {
                return;
            }
            attempts += 1;
            let Err(error) = self.try_once(letter) else { return self.say(letter, attempts, None, true) };
            if !error.is_worth_another || watch.elapsed() >= self.pace.give_up {
                return self.say(letter, attempts, Some(error.why), true);
            }
            if attempts == 1 {
                self.say(letter, attempts, Some(error.why.clone()), false);
            }
            self.lane.pause(letter.telling, self.wait(attempts, &error));
        }
    }

    fn withdrawn(&self, telling: u64) -> Option<String> {
        self.lane.queue().withdrawn.get(&telling).cloned()
    }

    fn try_once(&self, letter: &Letter) -> Result<(), NotSent> {
        let send = || self.messenger.send(&letter.to, &letter.reach, &letter.notice);
        catch_unwind(AssertUnwindSafe(send)).unwrap_or_else(|_| {
            let why = "whoever sends it panicked: a defect".to_owned();
            Err(NotSent { why, is_worth_another: false, after: None })
        })
    }

    /// Beyond the doublings that lead to the cap nothing changes, and no attempt is the last one.
    fn wait(&self, attempts: u32, error: &NotSent) -> Duration {
        let endless = Backoff { attempts: u32::MAX, ..self.pace.backoff };
        let wait = endless.wait_after(attempts.min(31)).unwrap_or(endless.cap);
        wait.max(error.after.unwrap_or_default().min(Duration::from_hours(1)))
    }

    fn say(&self, letter: &Letter, attempts: u32, why: Option<String>, over: bool) {
        let (telling, to) = (letter.telling, letter.to.clone());
        // Nobody listens any more where the executor is gone.
        let _ = self.report.send(Sent { telling, to, attempts, why, over });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escalation::{Contact, Moment};
    use lifeboat_base::clock::Timestamp;
    use std::collections::BTreeSet;

    /// Longer than a busy machine takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn pace(give_up: Duration) -> Pace {
        let backoff = Backoff { first: Duration::from_millis(1), cap: Duration::from_millis(2), attempts: 9 };
        Pace { backoff, give_up, ..Pace::default() }
    }

    fn letter(telling: u64, to: &str) -> Letter {
        let at = Timestamp::from_secs(1);
        let (id, key, moment, severity) = (String::new(), String::new(), Moment::Began, None);
        let (headline, text) = ("h".to_owned(), "t".to_owned());
        let notice = Notice { id, key, moment, severity, headline, text, since: at, at };
        Letter { telling, to: Recipient::Channel(to.to_owned()), reach: Vec::new(), notice }
    }

    /// Answers by the name of the recipient; `hang` hangs until the test is over.
    struct Answers(Mutex<BTreeMap<String, u32>>, Mutex<Receiver<()>>);

    impl Messenger for Answers {
        fn recipients(&self, _: &[&Contact]) -> BTreeSet<Recipient> {
            BTreeSet::new()
        }

        fn send(&self, to: &Recipient, _: &[String], _: &Notice) -> Result<(), NotSent> {
            let Recipient::Channel(name) = to else { return Ok(()) };
            let mut counts = self.0.lock().unwrap();
            let count = counts.entry(name.clone()).or_default();
            *count += 1;
            let failed = |again| NotSent { why: name.clone(), is_worth_another: again, after: None };
            match (name.as_str(), *count) {
                ("third", 3..) | ("well", _) => Ok(()),
                ("never", _) => Err(failed(false)),
                ("panics", _) => {
                    drop(counts);
                    panic!("as a defect would")
                }
                ("hang", _) => {
                    drop(counts);
                    let _ = self.1.lock().unwrap().recv();
                    Ok(())
                }
                _ => Err(failed(true)),
            }
        }
    }

    fn sender(give_up: Duration) -> (Sender, mpsc::Sender<()>) {
        let (hold, held) = channel();
        let answers = Answers(Mutex::default(), Mutex::new(held));
        (Sender::new(Arc::new(answers), pace(give_up)), hold)
    }

    /// What became of messages, until so many are over.
    fn over(sender: &mut Sender, count: usize) -> Vec<Sent> {
        let (mut all, watch) = (Vec::new(), Stopwatch::start());
        while all.iter().filter(|sent: &&Sent| sent.over).count() < count && watch.elapsed() < PATIENCE {
            all.extend(sender.sent(Duration::from_millis(20)));
        }
        all
    }

    #[test]
    fn one_that_hangs_holds_up_no_other_and_one_that_fails_is_tried_again() {
        let (mut sender, hold) = sender(PATIENCE);
        for (telling, to) in [(1, "hang"), (2, "well"), (3, "third"), (4, "never"), (5, "panics")] {
            sender.send(letter(telling, to));
        }
        let mut all = over(&mut sender, 4);
        all.retain(|sent| sent.over);
        all.sort_by_key(|sent| sent.telling);
        let found: Vec<_> =
            all.iter().map(|sent| (sent.telling, sent.attempts, sent.why.as_deref())).collect();
        let panicked = Some("whoever sends it panicked: a defect");
        assert_eq!(found, [(2, 1, None), (3, 3, None), (4, 1, Some("never")), (5, 1, panicked)]);
        assert!(sender.holds(1, &letter(1, "hang").to) && !sender.is_quiet());
        assert_eq!(sender.lanes.len(), 5);
        drop(hold);
        assert_eq!(over(&mut sender, 1)[0].telling, 1);
        assert!(sender.is_quiet());
    }

    #[test]
    fn the_first_failure_is_said_and_what_is_not_wanted_any_more_is_not_tried_again() {
        let (mut sender, _hold) = sender(PATIENCE);
        sender.send(letter(1, "away"));
        let watch = Stopwatch::start();
        let mut first = Vec::new();
        while first.is_empty() && watch.elapsed() < PATIENCE {
            first = sender.sent(Duration::from_millis(20));
        }
        assert_eq!((first[0].attempts, first[0].over, sender.is_quiet()), (1, false, true));
        sender.withdraw(1, &letter(1, "away").to, "settled");
        let last = over(&mut sender, 1);
        assert_eq!(last[0].why.as_deref(), Some("settled"));
        assert!(!sender.holds(1, &letter(1, "away").to));
    }

    #[test]
    fn what_never_arrives_is_given_up() {
        let (mut sender, _hold) = sender(Duration::from_millis(5));
        sender.send(letter(1, "away"));
        assert_eq!(over(&mut sender, 1).last().unwrap().why.as_deref(), Some("away"));
    }
}
