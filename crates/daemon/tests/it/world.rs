//! A service at work in a folder: two datasets, a repository and a copy, each of which can be taken away.

use crate::web::{Answer, PATIENCE, request};
use lifeboat_base::Secret;
use lifeboat_base::clock::Clock;
use lifeboat_daemon::state::State;
use lifeboat_daemon::{House, Means, Outside, Service, Trouble};
use lifeboat_objects::directory::DirectoryStore;
use lifeboat_plan::{CopyPlan, Plan, SecretRef};
use lifeboat_repository::{Environment, InitOptions, Lock, Repository, Unlock};
use serde_json::Value;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) const TOKEN: &str = "a-token-of-a-test";
pub(crate) const KEY: &[u8] = b"thirty-two bytes of a test's key";

/// What the service is given.
struct TestMeans {
    root: PathBuf,
}

fn environment(root: &Path) -> Environment {
    Environment {
        state: Some(root.join("state")),
        writer_key: None,
        host: "here".to_owned(),
        clock: Clock::System,
    }
}

fn open(root: &Path, below: &str) -> Result<Arc<Repository>, Trouble> {
    let trouble =
        |error: &dyn std::error::Error| Trouble::new(error.to_string(), "Look at the folder of the test.");
    let store = DirectoryStore::open(root.join(below)).map_err(|error| trouble(&error))?;
    let unlock = Unlock::Command(Secret::new(KEY.to_vec()));
    let opened = Repository::open(Arc::new(store), &unlock, environment(root));
    opened.map(Arc::new).map_err(|error| Trouble::of(&error))
}

impl Means for TestMeans {
    fn repository(&self) -> Result<Arc<Repository>, Trouble> {
        open(&self.root, "repository")
    }

    fn copy(&self, copy: &CopyPlan) -> Result<Arc<Repository>, Trouble> {
        open(&self.root, &copy.url)
    }

    fn store(&self, store: &str) -> Result<OsString, Trouble> {
        let is_server = store.contains("://");
        Ok(if is_server { store.into() } else { self.root.join(store).into_os_string() })
    }

    fn secret(&self, reference: &SecretRef) -> Result<Secret, Trouble> {
        match reference.to_string().as_str() {
            "env:TOKEN" => Ok(Secret::new(TOKEN.as_bytes().to_vec())),
            other => Err(Trouble::new(format!("{other} is not there"), "Set it.")),
        }
    }

    fn watchdog(&self) -> Result<Arc<dyn Fn() -> Command + Send + Sync>, Trouble> {
        Err(Trouble::new("there is no watchdog", "None is needed."))
    }

    fn own_folders(&self) -> Vec<PathBuf> {
        vec![self.root.join("repository"), self.root.join("state")]
    }

    fn state_folder(&self) -> PathBuf {
        self.root.join("state")
    }

    fn host(&self) -> String {
        "here".to_owned()
    }
}

/// A plan of two datasets; `rest` is added.
pub(crate) fn plan(rest: &str) -> String {
    format!(
        r#"
        [system]
        name = "test"
        region = "east"
        [repository]
        url = "file:repository"
        region = "east"
        [[copies]]
        name = "away"
        url = "copy"
        region = "west"
        schedule = {{ every = "1s" }}
        [tiers.critical]
        rto = "1h"
        [services.site]
        tier = "critical"
        needs = ["tree", "app"]
        detect = "1m"
        decide = "1m"
        [datasets.tree]
        store = "tree"
        host = "here"
        rpo = {{ host = "1h", region = "1h" }}
        protect = {{ every = "1s" }}
        prove = {{ every = "1h", max_age = "1d" }}
        [datasets.app]
        store = "app.db"
        host = "here"
        rpo = "1h"
        protect = {{ mode = "on-change", look_every = "1s" }}
        {rest}
        "#
    )
}

/// The rest of a plan that names a token, and looks every second.
pub(crate) const SERVE: &str = "[serve]\ntoken = \"env:TOKEN\"\ncheck_every = \"1s\"\n";

/// A service, and where it works.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    service: Arc<Service>,
    outside: Option<Outside>,
    stop: Arc<AtomicBool>,
    running: Option<JoinHandle<()>>,
}

impl World {
    /// A service that has not begun: it listens already.
    pub(crate) fn listening(plan: &str) -> Self {
        Self::with_past(plan, |_| ())
    }

    /// The same, where earlier runs left records.
    #[expect(clippy::print_stdout, reason = "what the service says is shown where a test fails")]
    pub(crate) fn with_past(plan: &str, past: impl FnOnce(&State)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        make_repositories(&root);
        std::fs::create_dir(root.join("tree")).unwrap();
        lifeboat_base::crashsafe::create(&root.join("tree/file"), b"something to keep").unwrap();
        let database = rusqlite::Connection::open(root.join("app.db")).unwrap();
        database.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        drop(database);
        let state = State::open(&root.join("state/controller")).unwrap();
        past(&state);
        let parsed = Plan::parse(plan, "plan.toml").unwrap();
        let means = Box::new(TestMeans { root });
        // Shown where a test fails.
        let tell =
            Box::new(|subject: &str, event: &str, detail: &Value| println!("{subject}: {event} {detail}"));
        let house = House::new(parsed, plan.to_owned(), means, state, tell);
        let service = Arc::new(Service::new(Arc::new(house)).unwrap());
        let outside = Outside::start(&service, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = outside.address();
        Self { folder, address, service, outside: Some(outside), stop: Arc::default(), running: None }
    }

    /// A service at work.
    pub(crate) fn serving(rest: &str) -> Self {
        Self::listening(&plan(rest)).ready()
    }

    /// At work.
    pub(crate) fn ready(mut self) -> Self {
        self.run();
        self.until("it is ready", |world| world.get("/readyz").status == 200);
        self
    }

    pub(crate) fn run(&mut self) {
        let (service, stop) = (self.service.clone(), self.stop.clone());
        self.running = Some(std::thread::spawn(move || service.run(&stop).unwrap()));
    }

    /// Nothing of it is seen from outside any more.
    pub(crate) fn vanish(&mut self) {
        drop(self.outside.take());
    }

    /// Tells the service to end; what is seen from outside stays.
    pub(crate) fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(running) = self.running.take() {
            running.join().unwrap();
        }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Where it is kept how long restores of a dataset took.
    pub(crate) fn samples(&self, dataset: &str) -> PathBuf {
        let repository = self.service.house().open_repository().unwrap().id();
        self.path("state/samples").join(repository.to_string()).join(format!("{dataset}.jsonl"))
    }

    /// Takes something away, as a disk does that is pulled out.
    pub(crate) fn take_away(&self, below: &str) {
        #[expect(clippy::disallowed_methods, reason = "what is pulled out is not made durable")]
        std::fs::rename(self.path(below), self.path(&format!("{below}.gone"))).unwrap();
    }

    /// Puts back what was taken away.
    pub(crate) fn put_back(&self, below: &str) {
        #[expect(clippy::disallowed_methods, reason = "what is put back is not made durable")]
        std::fs::rename(self.path(&format!("{below}.gone")), self.path(below)).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, Some(TOKEN))
    }

    pub(crate) fn status(&self) -> Value {
        self.get("/api/v1/status").json()
    }

    /// Waits until something holds.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(
                begun.elapsed() < PATIENCE,
                "{what}: waited for in vain: {:#}",
                self.get("/api/v1/status").body
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
        drop(self.outside.take());
    }
}

fn make_repositories(root: &Path) {
    let lock = [(Lock::Command(Secret::new(KEY.to_vec())), "test".to_owned())];
    let store = |below: &str| Arc::new(DirectoryStore::create(root.join(below)).unwrap());
    let options = InitOptions::default();
    let origin = Repository::init(store("repository"), &lock, &options, environment(root)).unwrap();
    Repository::init_copy(store("copy"), &origin, &lock, &options, environment(root)).unwrap();
}
