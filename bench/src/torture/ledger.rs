//! What was acknowledged, what may have been published all the same, and what the repository must therefore
//! show. Kept outside the repository, by somebody who never dies.

use super::source::Manifest;
use crate::error::BenchError;
use lifeboat_base::clock::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A backup that ended without being acknowledged: its snapshot may appear, and must then be what the source
/// was.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The dataset.
    pub(crate) dataset: String,
    /// The tree that it read; each writer has its own.
    pub(crate) source: PathBuf,
    /// When the process was started.
    pub(crate) began: Timestamp,
    /// When it was over.
    pub(crate) ended: Timestamp,
    /// What the source held all that time.
    pub(crate) manifest: Arc<Manifest>,
}

/// A line of `lifeboat points`, or a snapshot that `lifeboat backup` acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// The snapshot's identity.
    pub(crate) id: String,
    /// Where it stands: dataset, writer, number.
    pub(crate) position: String,
    /// Its dataset.
    pub(crate) dataset: String,
    /// When it was taken.
    pub(crate) taken: Timestamp,
}

/// A snapshot that exists or existed.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// What the repository says of it.
    pub(crate) point: Point,
    /// What it must restore to.
    pub(crate) manifest: Arc<Manifest>,
    /// Whether it has been forgotten.
    pub(crate) gone: bool,
}

/// Everything that is known, by identity.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    known: BTreeMap<String, Known>,
    attempts: Vec<Attempt>,
    /// Snapshots that appeared without having been acknowledged.
    pub(crate) appeared: u64,
}

impl Point {
    /// Reads one from what the program printed.
    pub(crate) fn from_json(value: &Value) -> Result<Self, String> {
        let text = |name: &str| {
            value[name].as_str().map(str::to_owned).ok_or_else(|| format!("no {name} in {value}"))
        };
        let taken: jiff::Timestamp = text("taken")?.parse().map_err(|e| format!("{e}"))?;
        Ok(Self {
            id: text("snapshot")?,
            position: text("position")?,
            dataset: text("dataset")?,
            taken: Timestamp::from_jiff(taken),
        })
    }
}

impl Ledger {
    /// A backup ended with 0.
    pub(crate) fn acknowledged(&mut self, point: Point, manifest: Arc<Manifest>) {
        self.known.insert(point.id.clone(), Known { point, manifest, gone: false });
    }

    /// A backup ended otherwise.
    pub(crate) fn attempted(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
    }

    /// What a snapshot must restore to, where it is known.
    pub(crate) fn manifest(&self, id: &str) -> Option<Arc<Manifest>> {
        self.known.get(id).map(|known| known.manifest.clone())
    }

    /// Every snapshot that is there, in the order of their times.
    pub(crate) fn present(&self) -> Vec<&Known> {
        let mut present: Vec<_> = self.known.values().filter(|known| !known.gone).collect();
        present.sort_by_key(|known| (known.point.taken, known.point.id.clone()));
        present
    }

    /// How many snapshots have been forgotten.
    pub(crate) fn forgotten(&self) -> usize {
        self.known.values().filter(|known| known.gone).count()
    }

    /// Holds what the repository lists (`lifeboat points --json`) against what is known, and its tombstones
    /// against what is missing. Gives the snapshots that appeared unacknowledged.
    ///
    /// # Errors
    /// With what must not be.
    pub(crate) fn compare(
        &mut self,
        listed: &Value,
        tombstones: &BTreeSet<String>,
        keep: usize,
    ) -> Result<Vec<String>, String> {
        if listed["unreadable"].as_array().is_none_or(|unreadable| !unreadable.is_empty()) {
            return Err(format!("snapshots cannot be read: {}", listed["unreadable"]));
        }
        let points = listed["points"].as_array().ok_or("no points are listed")?;
        let (mut seen, mut appeared) = (BTreeSet::new(), Vec::new());
        for value in points {
            let point = Point::from_json(value)?;
            seen.insert(point.id.clone());
            match self.known.get(&point.id) {
                Some(known) if known.gone => return Err(format!("{} was forgotten and is back", point.id)),
                Some(known) if known.point != point => {
                    return Err(format!("{:?} has become {point:?}", known.point));
                }
                Some(_) => {}
                None => {
                    appeared.push(point.id.clone());
                    self.adopt(point, value["source"].as_str().unwrap_or_default())?;
                }
            }
        }
        self.appeared += appeared.len() as u64;
        self.miss(&seen, tombstones, keep)?;
        Ok(appeared)
    }

    /// A snapshot that nobody acknowledged belongs to the one attempt that was under way when it was taken.
    fn adopt(&mut self, point: Point, source: &str) -> Result<(), String> {
        let its = |attempt: &Attempt| {
            attempt.dataset == point.dataset
                && attempt.source == Path::new(source)
                && (attempt.began..=attempt.ended).contains(&point.taken)
        };
        let found = self.attempts.iter().position(its);
        let attempt = self.attempts.remove(found.ok_or_else(|| format!("{point:?} is nobody's"))?);
        self.acknowledged(point, attempt.manifest);
        Ok(())
    }

    /// What is missing must have been forgotten, and only retention forgets: `keep` newer ones of its dataset
    /// existed.
    fn miss(
        &mut self,
        seen: &BTreeSet<String>,
        tombstones: &BTreeSet<String>,
        keep: usize,
    ) -> Result<(), String> {
        let missing: Vec<Point> = self
            .present()
            .into_iter()
            .map(|known| known.point.clone())
            .filter(|p| !seen.contains(&p.id))
            .collect();
        for point in missing {
            if !tombstones.contains(&point.position) {
                return Err(format!("{point:?} was acknowledged and is lost: it has no tombstone"));
            }
            let newer = self.newer(&point, tombstones);
            if newer < keep {
                return Err(format!(
                    "{point:?} was forgotten though only {newer} newer ones of its dataset exist, and {keep} are kept"
                ));
            }
            if let Some(known) = self.known.get_mut(&point.id) {
                known.gone = true;
            }
        }
        Ok(())
    }

    /// How many newer snapshots of its dataset there can have been. One that was published unacknowledged
    /// and forgotten between two looks is only known by its tombstone.
    fn newer(&self, point: &Point, tombstones: &BTreeSet<String>) -> usize {
        let of_dataset = |position: &str| position.split('/').next() == Some(point.dataset.as_str());
        let positions: BTreeSet<&str> = self.known.values().map(|k| k.point.position.as_str()).collect();
        let known = self.known.values().filter(|known| {
            known.point.dataset == point.dataset
                && (known.point.taken, &known.point.id) > (point.taken, &point.id)
        });
        let unseen = tombstones.iter().filter(|p| of_dataset(p) && !positions.contains(p.as_str()));
        known.count() + unseen.count()
    }
}

/// The positions that have a tombstone: the names of these objects are their positions.
///
/// # Errors
/// With the folder that cannot be listed.
pub(crate) fn tombstones(repository: &Path) -> Result<BTreeSet<String>, BenchError> {
    let root = repository.join("tombstones");
    if !root.is_dir() {
        return Ok(BTreeSet::new());
    }
    let files = crate::tree::files(&root)?;
    Ok(files.iter().filter_map(|below| position(below)).collect())
}

/// `dataset/writer/000000000007` as the program writes it: `dataset/writer/7`.
fn position(below: &Path) -> Option<String> {
    let number: u64 = below.file_name()?.to_str()?.parse().ok()?;
    Some(format!("{}/{number}", below.parent()?.to_str()?))
}

/// How many objects a folder of the repository holds.
pub(crate) fn objects(repository: &Path, folder: &str) -> u64 {
    fs::read_dir(repository.join(folder)).map_or(0, |entries| entries.flatten().count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn point(id: &str, second: i64) -> Point {
        let taken = Timestamp::from_secs(second);
        Point { id: id.into(), position: format!("d/w/{second}"), dataset: "d".into(), taken }
    }

    fn line(point: &Point) -> Value {
        json!({ "snapshot": point.id, "position": point.position, "dataset": point.dataset,
                "taken": point.taken.to_string(), "source": "/tree" })
    }

    fn listing(points: &[Point]) -> Value {
        json!({ "points": points.iter().map(line).collect::<Vec<_>>(), "unreadable": [] })
    }

    fn with(points: &[Point]) -> Ledger {
        let mut ledger = Ledger::default();
        points.iter().for_each(|point| ledger.acknowledged(point.clone(), Arc::default()));
        ledger
    }

    #[test]
    fn what_is_lost_or_forgotten_too_early_is_found() {
        let all = [point("a", 1), point("b", 2), point("c", 3)];
        let none = BTreeSet::new();
        assert_eq!(with(&all).compare(&listing(&all), &none, 2), Ok(vec![]));
        let lost = with(&all).compare(&listing(&all[1..]), &none, 2).unwrap_err();
        assert!(lost.contains("lost"), "{lost}");
        let stones = BTreeSet::from(["d/w/1".to_owned()]);
        let mut ledger = with(&all);
        ledger.compare(&listing(&all[1..]), &stones, 2).unwrap();
        assert_eq!((ledger.forgotten(), ledger.present().len()), (1, 2));
        let back = ledger.compare(&listing(&all), &stones, 2).unwrap_err();
        assert!(back.contains("is back"), "{back}");
        let early = with(&all).compare(&listing(&all[1..]), &stones, 3).unwrap_err();
        assert!(early.contains("only 2 newer"), "{early}");
    }

    #[test]
    fn what_appears_belongs_to_one_attempt() {
        let mut ledger = Ledger::default();
        let none = BTreeSet::new();
        let nobodys = ledger.compare(&listing(&[point("a", 5)]), &none, 3).unwrap_err();
        assert!(nobodys.contains("nobody's"), "{nobodys}");
        ledger.attempted(Attempt {
            dataset: "d".into(),
            source: "/tree".into(),
            began: Timestamp::from_secs(4),
            ended: Timestamp::from_secs(6),
            manifest: Arc::default(),
        });
        assert_eq!(ledger.compare(&listing(&[point("a", 5)]), &none, 3), Ok(vec!["a".to_owned()]));
        ledger.compare(&listing(&[point("a", 5), point("b", 6)]), &none, 3).unwrap_err();
        let unreadable = json!({ "points": [], "unreadable": ["snapshots/d/w/1"] });
        Ledger::default().compare(&unreadable, &none, 3).unwrap_err();
    }

    #[test]
    fn names_of_tombstones_are_positions() {
        assert_eq!(position(Path::new("d/w/000000000042")).as_deref(), Some("d/w/42"));
        assert_eq!(position(Path::new("d/w/x")), None);
    }
}
