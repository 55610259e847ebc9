//! What a folder and an environment say about a system: its datasets, its services, and the plan that they suggest.
//!
//! [`look_around`] reads variables, `.env` files, compose files, Kubernetes manifests and the beginnings of files
//! below one folder, within bounds, and writes nothing. Everything that it finds carries where it was seen.
//! [`plan_text`] makes a plan of it. A value that may hold a secret is read for its scheme and its host and then
//! let go of: nothing of it but these is in what is found.
//!
//! It opens no connection, and deliberately knows no repository and no driver: whether a server answers, and
//! whether what it finds can be restored, a rehearsal shows.

use lifeboat_base::Hint;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

mod address;
mod compose;
mod files;
mod found;
mod gather;
mod images;
mod kubernetes;
mod naming;
mod probe;
mod read;
mod sighting;
mod variables;
mod walk;
mod write;
mod yaml;

pub use found::{Engine, Found, FoundDataset, FoundProbe, FoundService, PassedOver, Sight, Undone};
pub use write::{Kept, plan_text};

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The folder.
    pub root: PathBuf,
    /// The environment.
    pub variables: BTreeMap<String, String>,
    /// This host's name.
    pub host: String,
}

/// A folder that cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error("look at {}", path.display())]
pub struct DiscoverError {
    /// The folder.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl Hint for DiscoverError {
    fn hint(&self) -> Option<String> {
        Some("Name a folder that exists and that you may read.".to_owned())
    }
}

/// Looks around.
///
/// # Errors
/// Where the folder itself cannot be read; what cannot be read below it is among [`Found::passed_over`].
pub fn look_around(surroundings: &Surroundings) -> Result<Found, DiscoverError> {
    let root = surroundings.root.as_path();
    let tree = walk::walk(root).map_err(|source| DiscoverError { path: root.to_owned(), source })?;
    let mut seen = sighting::Sightings::default();
    seen.passed_over.extend(tree.passed_over.iter().cloned());
    let known = variables::look(surroundings, &tree, &mut seen);
    let documents = yaml::look(root, &tree, &mut seen);
    compose::look(root, &tree, &documents, &known, &mut seen);
    kubernetes::look(&documents, &known, &mut seen);
    files::look(root, &tree, &mut seen);
    Ok(gather::gather(seen, system_name(root), surroundings.host.clone()))
}

/// The name of the folder, as a name in a plan.
fn system_name(root: &Path) -> String {
    let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let name = absolute.file_name().map(|name| name.to_string_lossy().into_owned());
    naming::slug(name.as_deref().unwrap_or("system"))
}
