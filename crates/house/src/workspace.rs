//! The packages of this workspace as Cargo sees them: names, folders, and who uses whom.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name in Cargo.
    pub name: String,
    /// The folder of its manifest.
    pub root: PathBuf,
    /// The file in which its documentation begins: the library's, or else the first binary's.
    pub entry: PathBuf,
    /// The packages of this workspace that it depends on: normally, to build, or for its tests.
    pub uses: BTreeSet<String>,
}

/// The workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// The folder of the root manifest.
    pub root: PathBuf,
    /// Its packages, in Cargo's order.
    pub packages: Vec<Package>,
}

/// Why the workspace could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// Cargo could not be started.
    #[error("start {cargo}")]
    Start {
        /// The program.
        cargo: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// Cargo refused.
    #[error("cargo metadata failed: {0}")]
    Refused(String),
    /// Cargo's answer was not as documented.
    #[error("read the answer of cargo metadata")]
    Answer(#[from] serde_json::Error),
    /// A package has neither a library nor a binary.
    #[error("package {0} has neither a library nor a binary")]
    NoTarget(String),
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<RawPackage>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct RawPackage {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<RawDependency>,
    targets: Vec<RawTarget>,
}

#[derive(Deserialize)]
struct RawDependency {
    name: String,
}

#[derive(Deserialize)]
struct RawTarget {
    kind: Vec<String>,
    src_path: PathBuf,
}

impl Workspace {
    /// Asks Cargo about the workspace around `manifest_dir`, without touching the network.
    ///
    /// # Errors
    /// Where Cargo cannot be run or answers with something else.
    pub fn around(manifest_dir: &Path) -> Result<Self, WorkspaceError> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = Command::new(&cargo)
            .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
            .current_dir(manifest_dir)
            .output()
            .map_err(|source| WorkspaceError::Start { cargo, source })?;
        if !output.status.success() {
            return Err(WorkspaceError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Self::parse(&output.stdout)
    }

    fn parse(json: &[u8]) -> Result<Self, WorkspaceError> {
        let raw: Metadata = serde_json::from_slice(json)?;
        let members: BTreeSet<String> = raw.packages.iter().map(|package| package.name.clone()).collect();
        let packages =
            raw.packages.into_iter().map(|package| package.judged(&members)).collect::<Result<_, _>>()?;
        Ok(Self { root: raw.workspace_root, packages })
    }
}

impl RawPackage {
    fn judged(self, members: &BTreeSet<String>) -> Result<Package, WorkspaceError> {
        let entry = self.entry().ok_or_else(|| WorkspaceError::NoTarget(self.name.clone()))?;
        let root = self.manifest_path.parent().map(Path::to_owned).unwrap_or_default();
        let names = self.dependencies.into_iter().map(|dependency| dependency.name);
        // A package may name itself for its tests (features on), which says nothing about floors.
        let uses = names.filter(|name| members.contains(name) && *name != self.name).collect();
        Ok(Package { name: self.name, root, entry, uses })
    }

    fn entry(&self) -> Option<PathBuf> {
        let of = |kind: &str| self.targets.iter().find(|target| target.kind.iter().any(|each| each == kind));
        of("lib").or_else(|| of("proc-macro")).or_else(|| of("bin")).map(|target| target.src_path.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_every_kind_count_and_foreign_ones_do_not() {
        let json = br#"{"workspace_root":"/r","packages":[
            {"name":"a","manifest_path":"/r/a/Cargo.toml",
             "targets":[{"kind":["bin"],"src_path":"/r/a/m.rs"},{"kind":["lib"],"src_path":"/r/a/l.rs"}],
             "dependencies":[{"name":"b","kind":null},{"name":"c","kind":"dev"},{"name":"d","kind":"build"},
                             {"name":"serde","kind":null},{"name":"a","kind":"dev"}]},
            {"name":"b","manifest_path":"/r/b/Cargo.toml","dependencies":[],
             "targets":[{"kind":["test"],"src_path":"/r/b/t.rs"},{"kind":["bin"],"src_path":"/r/b/m.rs"}]},
            {"name":"c","manifest_path":"/r/c/Cargo.toml","dependencies":[],
             "targets":[{"kind":["lib"],"src_path":"/r/c/l.rs"}]},
            {"name":"d","manifest_path":"/r/d/Cargo.toml","dependencies":[],
             "targets":[{"kind":["lib"],"src_path":"/r/d/l.rs"}]}]}"#;
        let workspace = Workspace::parse(json).unwrap();
        let a = &workspace.packages[0];
        assert_eq!(a.uses, ["b", "c", "d"].map(str::to_owned).into());
        assert_eq!((a.root.as_path(), a.entry.as_path()), (Path::new("/r/a"), Path::new("/r/a/l.rs")));
        assert_eq!(workspace.packages[1].entry, Path::new("/r/b/m.rs"));
    }

    #[test]
    fn a_package_without_code_is_an_error() {
        let json = br#"{"workspace_root":"/r","packages":[
            {"name":"a","manifest_path":"/r/a/Cargo.toml","targets":[],"dependencies":[]}]}"#;
        assert!(matches!(Workspace::parse(json), Err(WorkspaceError::NoTarget(name)) if name == "a"));
    }
}
