//! Who may agree to what, as the plan says it: names, roles and public keys.

use lifeboat_evidence::PublicKey;
use std::collections::{BTreeMap, BTreeSet};

/// A person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// What they are.
    pub roles: BTreeSet<String>,
    /// What they sign with.
    pub keys: Vec<PublicKey>,
}

/// The people of a plan, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People(BTreeMap<String, Person>);

impl People {
    /// A person by name.
    pub fn get(&self, name: &str) -> Option<&Person> {
        self.0.get(name)
    }

    /// Adds somebody.
    pub fn add(&mut self, name: &str, person: Person) {
        self.0.insert(name.to_owned(), person);
    }

    /// Those of a role who can sign, in the order of their names.
    pub fn who_can_sign(&self, role: &str) -> Vec<&str> {
        let able = self.0.iter().filter(|(_, person)| person.roles.contains(role) && !person.keys.is_empty());
        able.map(|(name, _)| name.as_str()).collect()
    }

    /// Whether anybody has a role.
    pub(crate) fn has_role(&self, role: &str) -> bool {
        self.0.values().any(|person| person.roles.contains(role))
    }

    /// Whether somebody may do what a role does. Where the plan names nobody of that role, anybody may who says so.
    pub(crate) fn may(&self, name: &str, role: &str) -> bool {
        self.get(name).is_some_and(|person| person.roles.contains(role)) || !self.has_role(role)
    }
}
