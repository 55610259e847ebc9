//! How long restores really took: a sample of every proof, restore and rehearsal, kept on this machine, and what a
//! restore would take by them.
//!
//! A sample is of the machine that it was measured on, so it lies in this machine's state, a file for each dataset of
//! each repository, the newest [`KEPT`] of them; a forecast asks only for those of its own host. A rate says how many
//! bytes a second a part of the way went through, never how long a whole restore of other data took. It deliberately
//! knows no store: who restores says what was measured.

use lifeboat_base::Hint;
use lifeboat_base::clock::Timestamp;
use lifeboat_base::crashsafe::{self, CrashsafeError};
use lifeboat_repository::ids::{DatasetName, RepositoryId};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// So many samples of a dataset are kept: the newest.
pub const KEPT: usize = 200;
/// A forecast looks at so many of the newest ones: what the machine was before is past.
const LOOKED_AT: usize = 20;
/// A sample of much less than what is to be restored says more of what every restore costs than of a rate.
const MUCH_LESS: u64 = 10;

/// What was being done when something was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    /// A proof.
    Proof,
    /// A restore.
    Restore,
    /// A rehearsal.
    Rehearsal,
}

/// How long each part of a way back took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Phases {
    /// Finding the snapshot and the position in the log.
    pub resolving: Duration,
    /// Bringing back the snapshot's files.
    pub files: Duration,
    /// Bringing back the log.
    pub log: Duration,
    /// Starting the store and letting it replay the log; `None` where it was not started.
    pub replay: Option<Duration>,
    /// Reading back and questioning; `None` where nothing was asked.
    pub questions: Option<Duration>,
}

/// What a way back brought back, and how long that took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Bytes of files.
    pub bytes: u64,
    /// Bytes of log, which were replayed where the store was started.
    pub log_bytes: u64,
    /// How long each part took.
    pub phases: Phases,
}

/// One way back, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When it ended.
    pub at: Timestamp,
    /// What was being done.
    pub occasion: Occasion,
    /// The host that it was done on.
    pub host: String,
    /// The release of Lifeboat.
    pub version: String,
    /// The dataset's store.
    pub store: String,
    /// The snapshot.
    pub snapshot: String,
    /// What was measured.
    pub measured: Measured,
}

/// A sample as it is written: a line. The text of the time is for people.
#[derive(Serialize, Deserialize)]
struct Line {
    at: String,
    at_nanos: i64,
    occasion: Occasion,
    host: String,
    version: String,
    store: String,
    snapshot: String,
    bytes: u64,
    log_bytes: u64,
    resolve_seconds: f64,
    files_seconds: f64,
    log_seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replay_seconds: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    question_seconds: Option<f64>,
}

impl From<&Sample> for Line {
    fn from(sample: &Sample) -> Self {
        let Measured { bytes, log_bytes, phases } = sample.measured;
        Self {
            at: sample.at.to_string(),
            at_nanos: sample.at.as_nanos(),
            occasion: sample.occasion,
            host: sample.host.clone(),
            version: sample.version.clone(),
            store: sample.store.clone(),
            snapshot: sample.snapshot.clone(),
            bytes,
            log_bytes,
            resolve_seconds: phases.resolving.as_secs_f64(),
            files_seconds: phases.files.as_secs_f64(),
            log_seconds: phases.log.as_secs_f64(),
            replay_seconds: phases.replay.as_ref().map(Duration::as_secs_f64),
            question_seconds: phases.questions.as_ref().map(Duration::as_secs_f64),
        }
    }
}

impl Line {
    /// `None` where a time is none.
    fn sample(self) -> Option<Sample> {
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
        let perhaps = |value: Option<f64>| match value {
            None => Some(None),
            Some(value) => seconds(value).map(Some),
        };
        let phases = Phases {
            resolving: seconds(self.resolve_seconds)?,
            files: seconds(self.files_seconds)?,
            log: seconds(self.log_seconds)?,
            replay: perhaps(self.replay_seconds)?,
            questions: perhaps(self.question_seconds)?,
        };
        Some(Sample {
            at: Timestamp::from_nanos(self.at_nanos),
            occasion: self.occasion,
            host: self.host,
            version: self.version,
            store: self.store,
            snapshot: self.snapshot,
            measured: Measured { bytes: self.bytes, log_bytes: self.log_bytes, phases },
        })
    }
}

/// Samples that could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// They could not be written.
    #[error(transparent)]
    Write(#[from] CrashsafeError),
    /// They could not be read.
    #[error("{operation} {}", path.display())]
    Read {
        /// What was being done, in the present tense.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl Hint for SampleError {
    fn hint(&self) -> Option<String> {
        Some(
            "Only forecasts need it: give the state directory room, or let this user write there.".to_owned(),
        )
    }
}

/// The samples of one repository on this machine.
#[derive(Clone, Debug)]
pub struct Samples {
    folder: PathBuf,
}

impl Samples {
    /// Those in a state directory.
    pub fn new(state: &Path, repository: &RepositoryId) -> Self {
        Self { folder: state.join("samples").join(repository.to_string()) }
    }

    /// Those of each repository that this machine has measured anything of, without saying which one it is.
    pub fn all(state: &Path) -> Vec<Self> {
        let folders = fs::read_dir(state.join("samples")).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> =
            folders.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        folders.sort_unstable();
        folders.into_iter().map(|folder| Self { folder }).collect()
    }

    fn path(&self, dataset: &DatasetName) -> PathBuf {
        self.folder.join(format!("{dataset}.jsonl"))
    }

    /// Keeps a sample, durably.
    ///
    /// # Errors
    /// Where the state directory cannot be read or written.
    pub fn keep(&self, dataset: &DatasetName, sample: &Sample) -> Result<(), SampleError> {
        crashsafe::create_dir_all(&self.folder)?;
        // Held until it is dropped, so that of two who keep at once neither forgets the other's.
        let _lock = self.lock()?;
        let path = self.path(dataset);
        let before = read_text(&path)?;
        // What another release wrote stays, whether it is understood here or not.
        let mut lines: Vec<&str> = before.lines().filter(|line| !line.trim().is_empty()).collect();
        let line = serde_json::to_string(&Line::from(sample)).map_err(|error| SampleError::Read {
            operation: "write a line for",
            path: path.clone(),
            source: error.into(),
        })?;
        lines.push(&line);
        let kept = &lines[lines.len().saturating_sub(KEPT)..];
        Ok(crashsafe::replace(&path, format!("{}\n", kept.join("\n")).as_bytes())?)
    }

    fn lock(&self) -> Result<File, SampleError> {
        let path = self.folder.join("lock");
        let failed = |operation| {
            let path = path.clone();
            move |source| SampleError::Read { operation, path, source }
        };
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(failed("open"))?;
        // Without locks on this file system a sample may be lost to another, and that is all.
        let _ = file.lock();
        Ok(file)
    }

    /// The samples of a dataset, oldest first. A line that cannot be read is none.
    ///
    /// # Errors
    /// Where they are there and cannot be read.
    pub fn of(&self, dataset: &DatasetName) -> Result<Vec<Sample>, SampleError> {
        let text = read_text(&self.path(dataset))?;
        let parsed = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()?.sample());
        Ok(parsed.collect())
    }
}

fn read_text(path: &Path) -> Result<String, SampleError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(SampleError::Read { operation: "read", path: path.to_owned(), source }),
    }
}

/// How something varies over samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Half of the samples were at least as good.
    pub typical: f64,
    /// Nine of ten were.
    pub slow: f64,
}

/// Bytes a second of each part of the way, by samples; `None` where none was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Files of the snapshot.
    pub files: Option<Spread>,
    /// Bringing back log.
    pub log: Option<Spread>,
    /// Replaying log, the start of the store included.
    pub replay: Option<Spread>,
}

impl Rates {
    /// The rates of samples, for restoring so many bytes and so many of log.
    pub fn of(samples: &[Sample], bytes: u64, log_bytes: u64) -> Self {
        Self {
            files: rate(samples, bytes, |m| Some((m.bytes, m.phases.files))),
            log: rate(samples, log_bytes, |m| Some((m.log_bytes, m.phases.log))),
            replay: rate(samples, log_bytes, |m| Some((m.log_bytes, m.phases.replay?))),
        }
    }
}

fn rate(
    samples: &[Sample],
    wanted: u64,
    part: impl Fn(&Measured) -> Option<(u64, Duration)>,
) -> Option<Spread> {
    let measured = samples.iter().filter_map(|sample| part(&sample.measured));
    let all: Vec<(u64, Duration)> = measured.filter(|(bytes, took)| *bytes > 0 && !took.is_zero()).collect();
    let is_like = |(bytes, _): &&(u64, Duration)| *bytes >= wanted / MUCH_LESS;
    let like: Vec<_> = all.iter().filter(is_like).copied().collect();
    let chosen = if like.is_empty() { all } else { like };
    let mut rates: Vec<f64> = chosen.iter().map(|(bytes, took)| *bytes as f64 / took.as_secs_f64()).collect();
    // The fastest first, so that what is behind is slower.
    rates.sort_by(|one, other| other.total_cmp(one));
    Some(Spread { typical: nearest(&rates, 0.5)?, slow: nearest(&rates, 0.9)? })
}

/// The value at or before which such a part of all lies.
fn nearest(sorted: &[f64], part: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// How long a restore would take on this host, by what was measured on it. Not a measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// As half of the samples would have it.
    pub typical: Phases,
    /// As nine of ten would.
    pub slow: Phases,
    /// How many samples it is from.
    pub samples: usize,
    /// When the newest of them was taken.
    pub newest: Timestamp,
}

impl Forecast {
    /// What restoring so many bytes and so many of log would take on a host; `None` without a sample of that host.
    /// `replay` is `None` where log is to be replayed and no sample has measured that.
    pub fn of(samples: &[Sample], host: &str, bytes: u64, log_bytes: u64) -> Option<Self> {
        let here: Vec<Sample> =
            samples.iter().rev().filter(|sample| sample.host == host).take(LOOKED_AT).cloned().collect();
        let newest = here.iter().map(|sample| sample.at).max()?;
        let rates = Rates::of(&here, bytes, log_bytes);
        let mut resolving: Vec<f64> =
            here.iter().map(|sample| sample.measured.phases.resolving.as_secs_f64()).collect();
        resolving.sort_by(f64::total_cmp);
        let phases = |which: fn(&Spread) -> f64, part: f64| {
            Some(Phases {
                resolving: seconds(nearest(&resolving, part)?),
                files: at_rate(bytes, rates.files.as_ref().map(which))?,
                log: at_rate(log_bytes, rates.log.as_ref().map(which))?,
                replay: at_rate(log_bytes, rates.replay.as_ref().map(which)),
                questions: None,
            })
        };
        let (typical, slow) = (phases(|s| s.typical, 0.5)?, phases(|s| s.slow, 0.9)?);
        Some(Self { typical, slow, samples: here.len(), newest })
    }
}

impl Phases {
    /// All of it until the store can be used: without the questions of a proof.
    pub fn total(&self) -> Duration {
        self.resolving + self.files + self.log + self.replay.unwrap_or_default()
    }
}

/// `None` where nothing says how fast it goes.
fn at_rate(bytes: u64, rate: Option<f64>) -> Option<Duration> {
    match bytes {
        0 => Some(Duration::ZERO),
        _ => rate.map(|rate| seconds(bytes as f64 / rate)),
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn sample(at: i64, bytes: u64, files: f64) -> Sample {
        Sample {
            at: Timestamp::from_secs(at),
            occasion: Occasion::Proof,
            host: "here".to_owned(),
            version: "0".to_owned(),
            store: "files".to_owned(),
            snapshot: format!("{at:08}"),
            measured: Measured {
                bytes,
                log_bytes: 0,
                phases: Phases { files: seconds(files), ..Phases::default() },
            },
        }
    }

    fn with_log(at: i64, log_bytes: u64, replay: Option<f64>) -> Sample {
        let mut sample = sample(at, 100 * MIB, 1.0);
        sample.measured.log_bytes = log_bytes;
        sample.measured.phases.log = seconds(log_bytes as f64 / 100e6);
        sample.measured.phases.replay = replay.map(seconds);
        sample
    }

    fn samples() -> (tempfile::TempDir, Samples, DatasetName) {
        let place = tempfile::tempdir().unwrap();
        let samples = Samples::new(&place.path().join("state"), &RepositoryId([7; 16]));
        (place, samples, DatasetName::new("app").unwrap())
    }

    #[test]
    fn what_is_kept_is_read_back_and_the_oldest_make_room() {
        let (_place, samples, app) = samples();
        assert_eq!(samples.of(&app).unwrap(), []);
        let first = with_log(1, 5 * MIB, Some(2.5));
        samples.keep(&app, &first).unwrap();
        assert_eq!(samples.of(&app).unwrap(), [first]);
        for at in 2..=i64::try_from(KEPT).unwrap() + 1 {
            samples.keep(&app, &sample(at, MIB, 1.0)).unwrap();
        }
        let kept = samples.of(&app).unwrap();
        assert_eq!((kept.len(), kept[0].at), (KEPT, Timestamp::from_secs(2)));
        assert_eq!(samples.of(&DatasetName::new("other").unwrap()).unwrap(), []);
    }

    #[test]
    fn samples_of_every_repository_are_found_without_it() {
        let (place, samples, app) = samples();
        let state = place.path().join("state");
        assert!(Samples::all(&state).is_empty());
        samples.keep(&app, &sample(1, MIB, 1.0)).unwrap();
        Samples::new(&state, &RepositoryId([8; 16])).keep(&app, &sample(2, MIB, 1.0)).unwrap();
        let newest: Vec<_> = Samples::all(&state).iter().map(|one| one.of(&app).unwrap()[0].at).collect();
        assert_eq!(newest, [Timestamp::from_secs(1), Timestamp::from_secs(2)]);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_no_sample_and_stays() {
        let (_place, samples, app) = samples();
        samples.keep(&app, &sample(1, MIB, 1.0)).unwrap();
        let path = samples.path(&app);
        let whole = fs::read_to_string(&path).unwrap();
        // A line of another release, one with a time that is none, and one that was cut short.
        let negative = whole.replace("\"files_seconds\":1.0", "\"files_seconds\":-1.0");
        let text = format!("{whole}{{\"newer\":true}}\n{negative}{}", &whole[..20]);
        crashsafe::replace(&path, text.as_bytes()).unwrap();
        assert_eq!(samples.of(&app).unwrap(), [sample(1, MIB, 1.0)]);
        samples.keep(&app, &sample(2, MIB, 1.0)).unwrap();
        assert_eq!(samples.of(&app).unwrap().len(), 2);
        assert!(fs::read_to_string(&path).unwrap().contains("newer"));
    }

    #[test]
    fn two_who_keep_at_once_both_do() {
        let (_place, samples, app) = samples();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (samples, app) = (&samples, &app);
                scope.spawn(move || {
                    (0..10).for_each(|n| samples.keep(app, &sample(thread * 100 + n, MIB, 1.0)).unwrap());
                });
            }
        });
        assert_eq!(samples.of(&app).unwrap().len(), 40);
    }

    #[test]
    fn rates_are_the_median_and_what_nine_of_ten_reach() {
        let ten: Vec<Sample> = (1..=10).map(|n| sample(n, 100 * MIB, n as f64)).collect();
        let files = Rates::of(&ten, 100 * MIB, 0).files.unwrap();
        assert_eq!(files, Spread { typical: 20.0 * MIB as f64, slow: 100.0 * MIB as f64 / 9.0 });
        assert_eq!(Rates::of(&[], 1, 1), Rates::default());
        // What took no time at all or moved nothing has no rate.
        assert_eq!(Rates::of(&[sample(1, 0, 1.0), sample(2, 5, 0.0)], 1, 1), Rates::default());
    }

    #[test]
    fn a_small_sample_counts_only_where_there_is_no_better_one() {
        let small = sample(1, MIB, 1.0);
        let large = sample(2, 500 * MIB, 5.0);
        let typical = |samples: &[Sample]| Rates::of(samples, 1000 * MIB, 0).files.unwrap().typical;
        assert_eq!(typical(&[small.clone(), large]), 100.0 * MIB as f64);
        assert_eq!(typical(&[small]), MIB as f64);
    }

    #[test]
    fn a_forecast_is_by_the_samples_of_its_own_host_and_says_what_it_cannot_know() {
        assert_eq!(Forecast::of(&[sample(1, MIB, 1.0)], "elsewhere", MIB, 0), None);
        let restored = with_log(1, 100_000_000, None);
        let unknown = Forecast::of(std::slice::from_ref(&restored), "here", 200 * MIB, 50_000_000).unwrap();
        assert_eq!(unknown.typical.files, Duration::from_secs(2));
        assert_eq!((unknown.typical.log, unknown.typical.replay), (Duration::from_millis(500), None));
        let proven = with_log(2, 100_000_000, Some(4.0));
        let known = Forecast::of(&[restored, proven], "here", 200 * MIB, 50_000_000).unwrap();
        assert_eq!(known.typical.replay, Some(Duration::from_secs(2)));
        assert_eq!(known.typical.total(), Duration::from_millis(4500));
        assert_eq!((known.samples, known.newest), (2, Timestamp::from_secs(2)));
    }
}
