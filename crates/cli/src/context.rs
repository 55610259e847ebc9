//! What every command needs: the plan, where the repository is, the secret that opens it, this machine's
//! state. Secrets come from the environment, a file or a command, never from the command line.

use crate::args::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::recording::Noted;
use crate::secret::read_secret;
use lifeboat_base::clock::Clock;
use lifeboat_base::{Hint, Secret, hex};
use lifeboat_evidence::{Event, Who};
use lifeboat_objects::location::{self, Location};
use lifeboat_plan::{FILE_NAME, Plan};
use lifeboat_receipts::Recorder;
use lifeboat_recovery::samples::{Forecast, Measured, Occasion, Sample, Samples};
use lifeboat_repository::ids::{DatasetName, WriterId};
use lifeboat_repository::{Environment, EpochPrivateKey, Published, Reader, ReaderPin, Repository, Unlock};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How the private half of a public-key slot is written in a file.
pub(crate) const PRIVATE_PREFIX: &str = "LIFEBOAT-PRIVATE-";

/// What a command runs in.
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) plan: Plan,
    /// The plan as it was read; empty where there is none.
    pub(crate) plan_text: String,
    global: Global,
    noted: Mutex<Noted>,
}

impl Context {
    pub(crate) fn new(global: Global) -> Result<Self, Failure> {
        let output = Output { json: global.json, quiet: global.quiet };
        let (plan, plan_text) = read_plan(global.plan.as_deref())?;
        Ok(Self { output, plan, plan_text, global, noted: Mutex::default() })
    }

    /// Where the repository is.
    pub(crate) fn location(&self) -> Result<Location, Failure> {
        let planned = self.plan.repository.as_ref().map(|repository| repository.url.clone());
        let text = self.global.repository.clone().or(planned).ok_or_else(|| {
            Failure::usage(
                "no repository is named",
                "Give --repository LOCATION, set LIFEBOAT_REPOSITORY, or write a lifeboat.toml.",
            )
        })?;
        Ok(Location::parse(&text)?)
    }

    /// Whether a repository is named at all.
    pub(crate) fn names_repository(&self) -> bool {
        self.global.repository.is_some() || self.plan.repository.is_some()
    }

    /// The secret that opens the repository.
    pub(crate) fn secret(&self) -> Result<Secret, Failure> {
        let planned = self.plan.repository.as_ref().and_then(|repository| repository.key.clone());
        let source = self.global.key.clone().or(planned);
        read_secret(source.as_deref().unwrap_or("env:LIFEBOAT_PASSPHRASE"))
    }

    /// The repository, open.
    pub(crate) fn open(&self) -> Result<Arc<Repository>, Failure> {
        let repository = self.opener()?()?;
        self.opened(&repository);
        Ok(repository)
    }

    /// The repository that receipts go to.
    pub(crate) fn opened(&self, repository: &Arc<Repository>) {
        self.noted().repository = Some(repository.clone());
    }

    /// The repository does not answer just now: the receipt waits on this host instead of asking it again.
    pub(crate) fn repository_is_silent(&self) {
        self.noted().repository = None;
    }

    /// Notes what was done, for the receipts.
    pub(crate) fn did(&self, event: Event) {
        self.noted().events.push(event);
    }

    /// What was noted so far.
    pub(crate) fn take_noted(&self) -> Noted {
        std::mem::take(&mut *self.noted())
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What leaves receipts; nothing where no repository is named, or this machine can keep no state.
    pub(crate) fn recorder(&self) -> Option<Recorder> {
        let location = match self.location().ok()? {
            Location::Directory(path) => std::path::absolute(&path).unwrap_or(path).display().to_string(),
            other => other.to_string(),
        };
        let state = self.state_dir().ok()?;
        Some(Recorder::new(&state, &location, &self.host(), Who::Operator, Clock::System))
    }

    /// What another process needs to be told to open the same repository, wherever it works. No secret is in it.
    pub(crate) fn global_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut give = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        if let Ok(location) = self.location() {
            let absolute = match location {
                Location::Directory(path) => std::path::absolute(&path).unwrap_or(path).into_os_string(),
                other => other.to_string().into(),
            };
            give("--repository", absolute);
        }
        let planned = self.plan.repository.as_ref().and_then(|repository| repository.key.clone());
        if let Some(key) = self.global.key.clone().or(planned) {
            let absolute = key.strip_prefix("file:").and_then(|path| std::path::absolute(path).ok());
            give("--key", absolute.map_or(key.into(), |path| format!("file:{}", path.display()).into()));
        }
        if let Some(root) = &self.global.root {
            give("--root", root.to_string().into());
        }
        arguments
    }

    /// What this very program needs to be told to see everything as this command does: the repository, and the plan, the
    /// state and the host that were named. No secret is in it.
    pub(crate) fn same_arguments(&self) -> Vec<OsString> {
        let mut arguments = self.global_arguments();
        let absolute =
            |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone()).into_os_string();
        let named = [
            ("--plan", self.global.plan.as_ref().map(absolute)),
            ("--state-dir", self.global.state_dir.as_ref().map(absolute)),
            ("--writer-key", self.global.writer_key.as_ref().map(absolute)),
            ("--this-host", self.global.host.clone().map(OsString::from)),
        ];
        for (name, value) in named {
            arguments.extend(value.into_iter().flat_map(|value| [OsString::from(name), value]));
        }
        arguments
    }

    /// Any repository, open. What --root says is said of the one that --repository names.
    pub(crate) fn open_at(&self, location: &Location, secret: &Secret) -> Result<Arc<Repository>, Failure> {
        open_rooted(location, secret, self.environment()?, None)
    }

    /// What opens the repository whenever it is asked to, from any thread. The secret is read now.
    pub(crate) fn opener(
        &self,
    ) -> Result<impl Fn() -> Result<Arc<Repository>, Failure> + Send + Sync + 'static, Failure> {
        let (location, secret, root) = (self.location()?, self.secret()?, self.global.root);
        let environment = self.environment()?;
        Ok(move || open_rooted(&location, &secret, environment.clone(), root))
    }

    /// This machine.
    pub(crate) fn environment(&self) -> Result<Environment, Failure> {
        Ok(Environment {
            state: Some(self.state_dir()?),
            writer_key: self.global.writer_key.clone(),
            host: self.host(),
            clock: Clock::System,
        })
    }

    /// What the plan calls this machine.
    pub(crate) fn host(&self) -> String {
        self.global.host.clone().unwrap_or_else(host_name)
    }

    /// Where this machine keeps its state.
    pub(crate) fn state_dir(&self) -> Result<PathBuf, Failure> {
        state_dir(&self.global)
    }

    /// Where the watchdog of a dataset's synchronous mode keeps its records.
    pub(crate) fn watchdog_dir(&self, dataset: &DatasetName) -> Result<PathBuf, Failure> {
        Ok(self.state_dir()?.join("synchronous").join(dataset.as_str()))
    }

    /// Folders that a backup never takes along: the repository's own, and the state.
    pub(crate) fn own_folders(&self) -> Vec<PathBuf> {
        let mut own: Vec<PathBuf> = self.state_dir().ok().into_iter().collect();
        if let Ok(Location::Directory(path)) = self.location() {
            own.push(path);
        }
        own
    }

    /// Pins snapshots while they are read, where this machine may write; else says that it could not.
    pub(crate) fn pin(
        &self,
        repository: &Arc<Repository>,
        snapshots: &[&Published],
        purpose: &str,
    ) -> Option<ReaderPin> {
        let positions: Vec<_> = snapshots.iter().map(|published| published.slot.clone()).collect();
        let pinned =
            repository.writer().and_then(|signer| ReaderPin::take(repository, &signer, &positions, purpose));
        pinned
            .inspect_err(|_| {
                self.output.note("reading without a pin: this machine may not write to the repository");
            })
            .ok()
    }

    /// A snapshot by `latest`, time or identity, with the means to read it.
    pub(crate) fn find(
        &self,
        repository: &Arc<Repository>,
        dataset: &str,
        which: &str,
    ) -> Result<(Reader, Published), Failure> {
        let published = crate::time::find_point(repository, &dataset_name(dataset)?, which, self.output)?;
        let reader = Reader::new(repository)?;
        for line in reader.left_out() {
            self.output.note(&format!("{line}; what only it describes cannot be read, run `lifeboat check`"));
        }
        Ok((reader, published))
    }
}

impl Context {
    fn samples(&self, repository: &Repository) -> Result<Samples, Failure> {
        Ok(Samples::new(&self.state_dir()?, &repository.id()))
    }

    /// Remembers how long a way back took, for forecasts. Where that cannot be, it is said and nothing else fails.
    pub(crate) fn keep_sample(
        &self,
        repository: &Repository,
        occasion: Occasion,
        published: &Published,
        measured: Option<Measured>,
    ) -> Result<(), Failure> {
        let Some(measured) = measured else { return Ok(()) };
        let snapshot = &published.snapshot;
        let sample = Sample {
            at: Clock::System.now(),
            occasion,
            host: host_name(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: snapshot.store.clone(),
            snapshot: published.id.to_string(),
            measured,
        };
        if let Err(error) = self.samples(repository)?.keep(&snapshot.position.dataset, &sample) {
            let error = lifeboat_base::report(&error);
            self.output.note(&format!("how long this took is not remembered: {error}"));
        }
        Ok(())
    }

    /// What restoring so much of a dataset would take on this host; `None` where nothing was measured here yet.
    pub(crate) fn forecast(
        &self,
        repository: &Repository,
        dataset: &DatasetName,
        bytes: u64,
        log_bytes: u64,
    ) -> Result<Option<Forecast>, Failure> {
        match self.samples(repository)?.of(dataset) {
            Ok(samples) => Ok(Forecast::of(&samples, &host_name(), bytes, log_bytes)),
            Err(error) => {
                let error = lifeboat_base::report(&error);
                self.output.note(&format!("no forecast, since what was measured cannot be read: {error}"));
                Ok(None)
            }
        }
    }
}

fn open_rooted(
    location: &Location,
    secret: &Secret,
    environment: Environment,
    root: Option<WriterId>,
) -> Result<Arc<Repository>, Failure> {
    let store = match location::open(location) {
        Ok(store) => store,
        Err(error) if error.is_not_found() => {
            return Err(Failure {
                code: 1,
                message: format!("{location} holds no repository"),
                hint: lifeboat_repository::RepositoryError::NotARepository(String::new()).hint(),
            });
        }
        Err(error) => {
            let mut failure = Failure::from(error);
            failure.hint.get_or_insert_with(|| {
                "Check the location: it is a folder, or s3://bucket/prefix.".to_owned()
            });
            return Err(failure);
        }
    };
    Ok(Arc::new(Repository::open_rooted(store, &unlock(secret)?, environment, root)?))
}

/// Where this machine keeps its state.
pub(crate) fn state_dir(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(directory) = &global.state_dir {
        return Ok(directory.clone());
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("lifeboat"))
        .ok_or_else(|| {
            Failure::usage(
                "there is no place for this machine's state",
                "Give --state-dir DIR, or set LIFEBOAT_STATE or HOME.",
            )
        })
}

/// Checks the name of a dataset.
pub(crate) fn dataset_name(text: &str) -> Result<DatasetName, Failure> {
    DatasetName::new(text).map_err(|error| {
        Failure::usage(error.to_string(), "`lifeboat points` lists the datasets that have snapshots.")
    })
}

fn read_plan(named: Option<&Path>) -> Result<(Plan, String), Failure> {
    let text = plan_text(named)?;
    let path = named.unwrap_or(Path::new(FILE_NAME));
    Ok((Plan::parse(&text, &path.display().to_string())?, text))
}

/// The plan as it is written; empty where none is named and none is here.
pub(crate) fn plan_text(named: Option<&Path>) -> Result<String, Failure> {
    let path = named.unwrap_or(Path::new(FILE_NAME));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Failure::usage(
            format!("read the plan {}: {error}", path.display()),
            "Check the path given with --plan or LIFEBOAT_PLAN.",
        )),
    }
}

/// How a secret opens a repository.
pub(crate) fn unlock(secret: &Secret) -> Result<Unlock, Failure> {
    let private =
        std::str::from_utf8(secret.expose()).ok().and_then(|text| text.strip_prefix(PRIVATE_PREFIX));
    match private {
        Some(digits) => match hex::decode::<32>(digits) {
            Some(bytes) => Ok(Unlock::PrivateKey(EpochPrivateKey::from_bytes(&bytes))),
            None => Err(Failure::usage(
                "the private key is malformed",
                "It is what `lifeboat key pair` wrote, on one line.",
            )),
        },
        None => Ok(Unlock::Passphrase(secret.clone())),
    }
}

/// This host's name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
