//! What single places say, before it is brought together: the same store may be seen in many of them.

use crate::found::{Engine, FoundProbe, PassedOver, Sight, Undone};

/// What all places said, in the order in which they were looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sightings {
    pub(crate) stores: Vec<SeenStore>,
    pub(crate) services: Vec<SeenService>,
    /// Folders that are mounted into a service: data, unless they hold code.
    pub(crate) mounts: Vec<(String, Sight)>,
    /// Folders that the engine of a store writes: never copied as files.
    pub(crate) engine_folders: Vec<(String, Sight)>,
    pub(crate) undone: Vec<Undone>,
    pub(crate) passed_over: Vec<PassedOver>,
}

/// A store as one place says it.
#[derive(Clone, Debug)]
pub(crate) struct SeenStore {
    pub(crate) engine: Engine,
    /// Where it is: what two sightings of one store have in common.
    pub(crate) places: Vec<Place>,
    /// How a plan may write it; the best of all sightings is taken.
    pub(crate) written: Written,
    /// What it may be called.
    pub(crate) hints: Vec<String>,
    /// The variables that hold its address.
    pub(crate) variables: Vec<String>,
    pub(crate) exclude: Vec<String>,
    pub(crate) remarks: Vec<String>,
    pub(crate) seen: Vec<Sight>,
}

/// How a plan may write a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) rank: Rank,
    /// What a person should know of this way of writing it.
    pub(crate) remark: Option<String>,
}

/// How good a way of writing a store is, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// A path: there is no other.
    Path,
    /// A variable of the environment, by the fame of its name.
    Environment(u8),
    /// A variable of an env file.
    EnvFile(u8),
    /// An address of this host.
    Published,
    /// An address that holds within a network of containers.
    Internal,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A server.
    Server {
        /// In lower case; every name of this host is `localhost`.
        host: String,
        port: u16,
    },
    /// A path below the folder.
    Path(String),
    /// A bucket, or something else that has only a name.
    Named(String),
}

/// A service as one place says it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SeenService {
    pub(crate) name: String,
    pub(crate) needs: Vec<Need>,
    pub(crate) probe: Option<FoundProbe>,
    pub(crate) ports: Vec<u16>,
    pub(crate) remarks: Vec<String>,
    pub(crate) seen: Vec<Sight>,
}

/// What a service needs, as it says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A service or a store of that name.
    Named(String),
    /// The store at a place.
    Store(Place),
    /// The store whose address is in a variable.
    Variable(String),
    /// Whatever is kept at a path or below.
    Below(String),
}
