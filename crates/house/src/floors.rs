//! Who may depend on whom: the one table of floors and wings, and the rule that reads it.
//!
//! A crate may use crates of strictly lower floors, for its tests as well. Two wings, data and action, do
//! not know each other; they meet in whoever stands above both.

use crate::workspace::Package;

/// A half of the house that must not know the other half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wing {
    /// What moves bytes: wire, repository, stores, recovery.
    Data,
    /// What acts and records: notify, evidence, watch, runbook, incident.
    Action,
}

/// What a package is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A floor by its height; higher ones use lower ones.
    Floor(u8),
    /// Uses no package of the workspace, and none uses it.
    Alone,
    /// Measures the house from outside: may use every floor, and none uses it.
    Outside,
}

/// Where a package lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The package's name; a `*` at the end stands for any name that goes on.
    pub pattern: &'static str,
    /// Its floor.
    pub standing: Standing,
    /// Its wing, if it is in one.
    pub wing: Option<Wing>,
}

const fn place(pattern: &'static str, standing: Standing, wing: Option<Wing>) -> Place {
    Place { pattern, standing, wing }
}

use Standing::{Alone, Floor, Outside};
use Wing::{Action, Data};

/// The house, from the ground up. The heights leave room in between. Some of these are planned and do not
/// exist yet; only packages that exist are checked, and each of them must be here.
pub const PLACES: &[Place] = &[
    place("lifeboat-base", Floor(0), None),
    place("lifeboat-objects", Floor(10), None),
    place("lifeboat-repository", Floor(20), Some(Data)),
    place("lifeboat-plan", Floor(30), None),
    place("lifeboat-discover", Floor(35), None),
    place("lifeboat-postgres-server", Floor(37), Some(Data)),
    place("lifeboat-postgres-wal", Floor(38), Some(Data)),
    place("lifeboat-wire-*", Floor(40), Some(Data)),
    place("lifeboat-store", Floor(50), Some(Data)),
    place("lifeboat-notify", Floor(54), Some(Action)),
    place("lifeboat-store-*", Floor(55), Some(Data)),
    place("lifeboat-evidence", Floor(56), Some(Action)),
    place("lifeboat-watch", Floor(57), Some(Action)),
    place("lifeboat-runbook", Floor(53), Some(Action)),
    place("lifeboat-run", Floor(58), Some(Action)),
    place("lifeboat-recovery", Floor(60), Some(Data)),
    place("lifeboat-receipts", Floor(62), None),
    place("lifeboat-carriers", Floor(64), None),
    place("lifeboat-incident", Floor(70), Some(Action)),
    place("lifeboat-failover", Floor(72), None),
    place("lifeboat-drill", Floor(74), None),
    place("lifeboat-daemon", Floor(80), None),
    place("lifeboat", Floor(90), None),
    place("lifeboat-protocol-model", Alone, None),
    place("lifeboat-house", Alone, None),
    place("lifeboat-bench", Outside, None),
];

/// A package that breaks the rule of the floors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// Nobody said where the package lives.
    #[error(
        "{package} has no place in the house: add it to `PLACES` in crates/house/src/floors.rs, and to \
         ARCHITECTURE.md"
    )]
    Homeless {
        /// The package.
        package: String,
    },
    /// The dependency goes up, or sideways.
    #[error(
        "{package} ({standing:?}) depends on {dependency} ({dependency_standing:?}): dependencies only go down"
    )]
    NotDown {
        /// Who depends.
        package: String,
        /// Where it stands.
        standing: Standing,
        /// On whom.
        dependency: String,
        /// Where that stands.
        dependency_standing: Standing,
    },
    /// The dependency crosses from one wing into the other.
    #[error("{package} ({wing:?} wing) depends on {dependency}, which is in the other wing")]
    AcrossWings {
        /// Who depends.
        package: String,
        /// Its wing.
        wing: Wing,
        /// On whom.
        dependency: String,
    },
}

/// Finds a package's place. An exact name outranks a pattern.
pub fn place_of(package: &str) -> Option<&'static Place> {
    let exact = PLACES.iter().find(|place| place.pattern == package);
    exact.or_else(|| {
        PLACES.iter().find(|place| {
            place
                .pattern
                .strip_suffix('*')
                .is_some_and(|stem| package.len() > stem.len() && package.starts_with(stem))
        })
    })
}

/// Every breach of the rule among these packages, of which `Package::uses` names only each other.
pub fn breaches(packages: &[Package]) -> Vec<Breach> {
    packages.iter().flat_map(breaches_of).collect()
}

fn breaches_of(package: &Package) -> Vec<Breach> {
    let Some(place) = place_of(&package.name) else {
        return vec![Breach::Homeless { package: package.name.clone() }];
    };
    // A dependency without a place is reported once, where it is itself a package.
    let known = package.uses.iter().filter_map(|name| place_of(name).map(|below| (name, below)));
    known.filter_map(|(name, below)| breach(&package.name, place, name, below)).collect()
}

fn breach(package: &str, place: &Place, dependency: &str, below: &Place) -> Option<Breach> {
    if !may_use(place.standing, below.standing) {
        return Some(Breach::NotDown {
            package: package.to_owned(),
            standing: place.standing,
            dependency: dependency.to_owned(),
            dependency_standing: below.standing,
        });
    }
    match (place.wing, below.wing) {
        (Some(wing), Some(other)) if wing != other => {
            Some(Breach::AcrossWings { package: package.to_owned(), wing, dependency: dependency.to_owned() })
        }
        _ => None,
    }
}

fn may_use(above: Standing, below: Standing) -> bool {
    match (above, below) {
        (Floor(above), Floor(below)) => below < above,
        (Outside, Floor(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, uses: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            root: std::path::PathBuf::new(),
            entry: std::path::PathBuf::new(),
            uses: uses.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    fn one_breach(name: &str, uses: &[&str]) -> Option<String> {
        let found = breaches(&[package(name, uses)]);
        assert!(found.len() <= 1, "{found:?}");
        found.first().map(ToString::to_string)
    }

    #[test]
    fn down_is_allowed() {
        assert_eq!(one_breach("lifeboat-store-sqlite", &["lifeboat-store", "lifeboat-wire-sqlite"]), None);
        assert_eq!(one_breach("lifeboat-bench", &["lifeboat-repository"]), None);
        assert_eq!(one_breach("lifeboat", &["lifeboat-recovery", "lifeboat-runbook"]), None);
    }

    #[test]
    fn up_and_sideways_are_not() {
        for (name, uses) in [
            ("lifeboat-base", "lifeboat-objects"),
            ("lifeboat-repository", "lifeboat-plan"),
            ("lifeboat-store-files", "lifeboat-store-sqlite"),
            ("lifeboat-store", "lifeboat-store-sqlite"),
            ("lifeboat-wire-redis", "lifeboat-wire-sqlite"),
            ("lifeboat-protocol-model", "lifeboat-base"),
            ("lifeboat", "lifeboat-house"),
            ("lifeboat", "lifeboat-bench"),
        ] {
            let breach = one_breach(name, &[uses]).unwrap();
            assert!(breach.starts_with(name) && breach.ends_with("dependencies only go down"), "{breach}");
        }
    }

    #[test]
    fn the_wings_do_not_know_each_other() {
        for (name, uses) in [
            ("lifeboat-runbook", "lifeboat-repository"),
            ("lifeboat-recovery", "lifeboat-evidence"),
            ("lifeboat-incident", "lifeboat-recovery"),
        ] {
            let breach = one_breach(name, &[uses]).unwrap();
            assert!(breach.ends_with("which is in the other wing"), "{breach}");
        }
        assert_eq!(one_breach("lifeboat-drill", &["lifeboat-recovery", "lifeboat-incident"]), None);
    }

    #[test]
    fn a_package_that_nobody_placed_is_told_where_to_go() {
        let breach = one_breach("lifeboat-cellar", &[]).unwrap();
        assert!(breach.contains("crates/house/src/floors.rs"), "{breach}");
        assert_eq!(place_of("lifeboat-store-"), None);
    }

    #[test]
    fn each_pattern_is_there_once() {
        for (index, place) in PLACES.iter().enumerate() {
            assert!(PLACES[..index].iter().all(|other| other.pattern != place.pattern), "{}", place.pattern);
        }
    }
}
