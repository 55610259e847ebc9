//! What can befall a service, brought about with real stores: each scene is a service of its own, watched until exactly
//! the alerts fire that it is for, and its metrics as they were scraped then. All of it once in a run of the tests.

use crate::alarms::{free_port, tool};
use crate::scrape::{Alert, Scrape, critical, until_fires, warning, watchdog};
use crate::web::Sink;
use crate::world::{SERVE, World, plan};
use lifeboat_base::clock::Clock;
use lifeboat_daemon::record::{JobOutcome, What};
use lifeboat_daemon::state::State;
use lifeboat_daemon::task::TaskKey;
use lifeboat_postgres_server::testing::{TestCluster, test_installation};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// A service to which something has happened.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) scrape: Scrape,
    /// What fires, and nothing else.
    pub(crate) alerts: Vec<Alert>,
}

/// All of them, and promtool; `None` where it is known that there is no promtool.
pub(crate) fn scenes() -> Option<(&'static [Scene], &'static Path)> {
    static ALL: OnceLock<Option<(Option<Vec<Scene>>, PathBuf)>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let promtool = tool("promtool")?;
        Some((play(&promtool), promtool))
    });
    let (scenes, promtool) = all.as_ref()?;
    let scenes = scenes.as_ref().expect("a scene did not come about, and said so");
    Some((scenes.as_slice(), promtool.as_path()))
}

/// Nothing where one of them did not come about: it is not tried again for each test.
fn play(promtool: &Path) -> Option<Vec<Scene>> {
    let all: [fn(&Path) -> Vec<Scene>; 10] = [
        well_then_stalled_then_absent,
        stores_gone,
        repository_gone,
        repository_never_there,
        copy_gone,
        copy_never_there,
        proofs,
        services_and_channels,
        hung_job,
        unheard_server_then_hung_disk,
    ];
    std::thread::scope(|scope| {
        let playing = all.map(|play| scope.spawn(move || play(promtool)));
        let played: Vec<_> = playing.into_iter().map(|one| one.join().ok()).collect();
        Some(played.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
    })
}

fn until(promtool: &Path, name: &'static str, world: &World, mut alerts: Vec<Alert>) -> Scene {
    alerts.push(watchdog());
    let scrape = until_fires(name, world, promtool, &alerts);
    Scene { name, scrape, alerts }
}

/// A plan of nothing but these datasets and services.
fn bare(rest: &str) -> String {
    format!("[system]\nname = \"test\"\n[repository]\nurl = \"file:repository\"\n{rest}")
}

const TREE: &str = "[datasets.tree]\nstore = \"tree\"\nhost = \"here\"\nprotect = { every = \"1s\" }\n";
const APP: &str = "[datasets.app]\nstore = \"app.db\"\nhost = \"here\"\nprotect = { mode = \"on-change\", look_every = \"1s\" }\n";

/// A job of an earlier run, that went well.
fn was_done(state: &State, task: &str, hours_ago: u64) {
    let then = Clock::System.now().minus(Duration::from_hours(hours_ago));
    let task = TaskKey::parse(task).unwrap();
    let job = state.keep(then, What::Began { task, generation: None }).unwrap();
    state.keep(then, What::Ended { job, outcome: JobOutcome::Done, detail: serde_json::json!({}) }).unwrap();
}

/// Everything that a plan can have, and nothing wrong with it; then its server is gone, then the service itself.
fn well_then_stalled_then_absent(promtool: &Path) -> Vec<Scene> {
    let (sink, cluster) = (Sink::start(), test_installation(15).map(|found| TestCluster::start(&found)));
    let users = cluster.as_ref().map(|cluster| {
        let store = cluster.url("postgres");
        format!("[datasets.users]\nstore = \"{store}\"\nrpo = \"1h\"\nprotect = \"continuous\"\nprove = {{ every = \"1d\", max_age = \"2d\" }}\n")
    });
    let rest = format!(
        "prove = {{ every = \"1h\", max_age = \"1d\" }}\n{SERVE}{}[notify.ops]\nwebhook = \"http://{address}/\"\nheartbeat = \"1h\"\n\
         [services.front]\ntier = \"critical\"\nneeds = [\"site\"]\ndecide = \"1m\"\n\
         probe = {{ url = \"http://{address}/\", interval = \"200ms\", timeout = \"1s\" }}\n",
        users.unwrap_or_default(),
        address = sink.address,
    );
    // What is done once an hour has been due since.
    let mut world = World::with_past(&plan(&rest), |state| was_done(state, "check", 2)).ready();
    world.until("all is well", |world| world.status()["state"] == "ok");
    let mut scenes = vec![until(promtool, "well", &world, Vec::new())];
    if let Some(mut cluster) = cluster {
        cluster.kill9();
        let stalled = vec![
            critical("StreamStalled", r#"dataset="users""#),
            warning("AtRisk", r#"dataset="users""#),
            warning("CheckDown", r#"check="store:users",instance="HERE",job="lifeboat""#),
        ];
        scenes.push(until(promtool, "stalled", &world, stalled));
    }
    world.end();
    world.vanish();
    let scrape = Scrape::of_nobody(world.address.to_string());
    assert!(std::net::TcpStream::connect(world.address).is_err(), "it is gone");
    let alerts = vec![critical("Absent", ""), watchdog()];
    scrape.fires(promtool, world.folder.path(), &alerts).unwrap();
    scenes.push(Scene { name: "absent", scrape, alerts });
    scenes
}

fn stores_gone(promtool: &Path) -> Vec<Scene> {
    let world = World::listening(&bare(&format!("{SERVE}{TREE}rpo = \"3s\"\n{APP}rpo = \"1h\"\n"))).ready();
    world.until("both are protected", |world| world.status()["state"] == "ok");
    world.take_away("tree");
    world.take_away("app.db");
    let alerts = vec![
        critical("ObjectiveMissed", r#"dataset="tree",domain="host""#),
        warning("AtRisk", r#"dataset="app""#),
        warning("CheckDown", r#"check="store:tree",instance="HERE",job="lifeboat""#),
        warning("CheckDown", r#"check="store:app",instance="HERE",job="lifeboat""#),
        warning("JobFailing", r#"task="snapshot tree""#),
        warning("JobFailing", r#"task="look app""#),
    ];
    vec![until(promtool, "stores gone", &world, alerts)]
}

fn repository_gone(promtool: &Path) -> Vec<Scene> {
    let world = World::listening(&bare(&format!("{SERVE}{TREE}{APP}"))).ready();
    world.until("both are protected", |world| world.status()["state"] == "ok");
    world.take_away("repository");
    let alerts = vec![
        critical("PlaceUnreachable", r#"place="repository",role="repository""#),
        critical("NoLeader", ""),
        warning("AtRisk", r#"dataset="tree""#),
        warning("AtRisk", r#"dataset="app""#),
        warning("CheckDown", r#"check="repository",instance="HERE",job="lifeboat""#),
        warning("JobFailing", r#"task="snapshot tree""#),
    ];
    let scene = until(promtool, "repository gone", &world, alerts);
    world.put_back("repository");
    vec![scene]
}

/// It was not there when the service began: nothing was ever seen, and no key is known to open it.
fn repository_never_there(promtool: &Path) -> Vec<Scene> {
    let mut world = World::listening(&bare(&format!("{SERVE}{TREE}rpo = \"1h\"\n")));
    world.take_away("repository");
    world.run();
    let alerts = vec![
        critical("ObjectiveMissed", r#"dataset="tree",domain="host""#),
        critical("PlaceUnreachable", r#"place="repository",role="repository""#),
        critical("NoLeader", ""),
        warning("CheckDown", r#"check="repository",instance="HERE",job="lifeboat""#),
        warning("CheckDown", r#"check="keys",instance="HERE",job="lifeboat""#),
        warning("JobFailing", r#"task="snapshot tree""#),
    ];
    let has_keys =
        |world: &World| world.get("/metrics").body.contains("lifeboat_component_up{component=\"keys\"} 0");
    world.until("the keys are down", has_keys);
    let scene = until(promtool, "repository never there", &world, alerts);
    world.put_back("repository");
    vec![scene]
}

fn copy_gone(promtool: &Path) -> Vec<Scene> {
    let world = World::serving(SERVE);
    let lags = |world: &World| world.status()["datasets"][1]["copies"][0]["lag_seconds"].is_number();
    world.until("the copy holds it", lags);
    world.take_away("copy");
    let alerts = vec![
        critical("PlaceUnreachable", r#"place="away",role="copy""#),
        warning("CopyBehind", r#"dataset="tree",copy="away""#),
        warning("AtRisk", r#"dataset="tree""#),
        warning("CheckDown", r#"check="copy:away",instance="HERE",job="lifeboat""#),
        warning("JobFailing", r#"task="copy away""#),
    ];
    vec![until(promtool, "copy gone", &world, alerts)]
}

/// What is promised for the loss of the region is missed from the beginning.
fn copy_never_there(promtool: &Path) -> Vec<Scene> {
    let world = World::listening(&plan(SERVE));
    world.take_away("copy");
    let world = world.ready();
    let alerts = vec![
        critical("ObjectiveMissed", r#"dataset="tree",domain="region""#),
        critical("PlaceUnreachable", r#"place="away",role="copy""#),
        warning("CopyEmpty", r#"dataset="tree",copy="away""#),
        warning("CopyEmpty", r#"dataset="app",copy="away""#),
        warning("AtRisk", r#"dataset="app""#),
        warning("CheckDown", r#"check="copy:away",instance="HERE",job="lifeboat""#),
        warning("JobFailing", r#"task="copy away""#),
    ];
    vec![until(promtool, "copy never there", &world, alerts)]
}

/// One that gives a wrong answer, one that does not fit into scratch, one that is too old at once.
fn proofs(promtool: &Path) -> Vec<Scene> {
    let serve = format!("{SERVE}scratch = {{ limit = \"100kB\" }}\n");
    let wrong = "[datasets.app.prove]\nevery = \"1h\"\n\
                 [[datasets.app.prove.queries]]\nname = \"rows\"\nsql = \"SELECT count(*) FROM t\"\nmin = 5\n";
    let big = TREE.replace("tree", "big").replace("1s", "1h");
    let world = World::listening(&bare(&format!(
        "{serve}{TREE}prove = {{ every = \"1h\", max_age = \"1s\" }}\n\
         {big}prove = {{ every = \"1h\", max_age = \"1d\" }}\n{APP}{wrong}"
    )));
    std::fs::create_dir(world.path("big")).unwrap();
    lifeboat_base::crashsafe::create(&world.path("big/file"), &[7; 200_000]).unwrap();
    let world = world.ready();
    let alerts = vec![
        critical("ProofFailed", r#"dataset="app""#),
        warning("ProofInconclusive", r#"dataset="big""#),
        warning("NeverProven", r#"dataset="big""#),
        warning("ProofTooOld", r#"dataset="tree""#),
        warning("AtRisk", r#"dataset="app""#),
        warning("AtRisk", r#"dataset="big""#),
        warning("AtRisk", r#"dataset="tree""#),
        warning("JobFailing", r#"task="proof app""#),
    ];
    vec![until(promtool, "proofs", &world, alerts)]
}

/// A service that does not answer, one that takes too long to bring back, and a channel that takes no message.
fn services_and_channels(promtool: &Path) -> Vec<Scene> {
    let services = format!(
        "[services.gone]\nrto = \"1h\"\ndetect = \"1m\"\ndecide = \"1m\"\n\
         probe = {{ url = \"http://127.0.0.1:{port}/\", interval = \"200ms\", timeout = \"1s\", failures = 2 }}\n\
         [services.slow]\nrto = \"1h\"\nneeds = [\"tree\"]\nsteps = [{{ name = \"index\", takes = \"2h\" }}]\n\
         [notify.ops]\nwebhook = \"http://127.0.0.1:{port}/\"\nheartbeat = \"1h\"\n",
        port = free_port()
    );
    let world = World::listening(&bare(&format!("{SERVE}{TREE}{services}"))).ready();
    let alerts = vec![
        critical("ServiceObjectiveMissed", r#"service="slow""#),
        critical("ServiceDown", r#"service="gone""#),
        warning("NotifierSilent", r#"channel="ops""#),
    ];
    vec![until(promtool, "services and channels", &world, alerts)]
}

/// A server that takes connections and says nothing holds up the one job that may run: everything behind it is late.
fn hung_job(promtool: &Path) -> Vec<Scene> {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let serve = format!("{SERVE}jobs = 1\n");
    let hung = format!(
        "[datasets.hung]\nstore = \"postgres://x@{address}/x\"\nhost = \"here\"\nprotect = {{ every = \"1s\" }}\n"
    );
    let world = World::with_past(&bare(&format!("{serve}{hung}{TREE}{APP}")), |state| {
        was_done(state, "snapshot hung", 3);
        was_done(state, "snapshot tree", 2);
        was_done(state, "look app", 1);
    });
    let world = world.ready();
    let alerts = vec![
        warning("JobLate", r#"task="snapshot tree""#),
        warning("JobLate", r#"task="look app""#),
        warning("AtRisk", r#"dataset="hung""#),
        warning("AtRisk", r#"dataset="tree""#),
        warning("AtRisk", r#"dataset="app""#),
    ];
    let scene = until(promtool, "hung job", &world, alerts);
    drop(silent);
    vec![scene]
}

/// A server of which nothing was ever heard; and something is promised for the loss of a region, but none is named.
/// Then a disk answers nothing, on which the service looks how long restores took: nobody judges any more.
fn unheard_server_then_hung_disk(promtool: &Path) -> Vec<Scene> {
    let users = format!(
        "[datasets.users]\nstore = \"postgres://x@127.0.0.1:{}/x\"\nprotect = \"continuous\"\n",
        free_port()
    );
    let promised = "rpo = { host = \"1h\", region = \"1h\" }\n";
    let world = World::listening(&bare(&format!("{SERVE}{TREE}{promised}{users}"))).ready();
    let mut alerts = vec![
        warning("Unknown", r#"dataset="tree""#),
        critical("StreamStalled", r#"dataset="users""#),
        warning("AtRisk", r#"dataset="users""#),
        warning("CheckDown", r#"check="store:users",instance="HERE",job="lifeboat""#),
    ];
    let unheard = until(promtool, "never heard of", &world, alerts.clone());
    let samples = world.samples("tree");
    lifeboat_base::crashsafe::create_dir_all(samples.parent().unwrap()).unwrap();
    // Whoever opens it waits.
    rustix::fs::mkfifoat(rustix::fs::CWD, &samples, rustix::fs::Mode::RUSR).unwrap();
    alerts.push(critical("NotJudged", r#"instance="HERE""#));
    let hung = until(promtool, "hung disk", &world, alerts);
    let answers = std::fs::OpenOptions::new().write(true).open(&samples).unwrap();
    std::fs::remove_file(&samples).unwrap();
    drop(answers);
    vec![unheard, hung]
}
