//! Alarms: the rules by promtool, and a real Prometheus that asks a real service, whose Alertmanager delivers.

use crate::web::Sink;
use crate::world::{SERVE, World};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program of Prometheus; `None` where it is known that there is none.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen in the test's output")]
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    if std::env::var("LIFEBOAT_SKIP_OUTSIDE").is_ok_and(|value| value == "1") {
        eprintln!("SKIPPED: LIFEBOAT_SKIP_OUTSIDE=1, {name} was not run");
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    let hint = "./test installs it; LIFEBOAT_SKIP_OUTSIDE=1 goes without what is not ours";
    Some(found.unwrap_or_else(|| panic!("there is no {name}: {hint}")))
}

pub(crate) fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prometheus")
}

fn passes(program: &Path, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).current_dir(deploy()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

#[test]
fn each_rule_fires_for_what_it_is_for_and_not_before() {
    let Some(promtool) = tool("promtool") else { return };
    passes(&promtool, &["check", "rules", "lifeboat.rules.yml"]);
    passes(&promtool, &["check", "config", "prometheus.example.yml"]);
    passes(&promtool, &["test", "rules", "lifeboat.rules.test.yml"]);
    let (rules, tests) = (read("lifeboat.rules.yml"), read("lifeboat.rules.test.yml"));
    let alerts = alerts_of(&rules);
    assert!(alerts.len() >= 15);
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} is not tested");
    }
}

/// The names of the alerts of a file of rules.
pub(crate) fn alerts_of(rules: &str) -> BTreeSet<String> {
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(deploy().join(name)).unwrap()
}

/// Ended when it is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &Path, log: &Path, arguments: &[String]) -> Ended {
    let log = std::fs::File::create(log).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Ended(command.spawn().unwrap())
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_real_prometheus_and_alertmanager_deliver_the_alarm() {
    let (Some(prometheus), Some(alertmanager)) = (tool("prometheus"), tool("prometheus-alertmanager")) else {
        return;
    };
    let world = World::serving(SERVE);
    let sink = Sink::start();
    let (asking, alarming) = (free_port(), free_port());
    let write = |name: &str, text: String| {
        lifeboat_base::crashsafe::create(&world.path(name), text.as_bytes()).unwrap();
        world.path(name).display().to_string()
    };
    let rules = deploy().join("lifeboat.rules.yml").canonicalize().unwrap();
    // The rules are those that ship; only how often is asked, and where, is the test's.
    let config = write(
        "prometheus.yml",
        format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\n\
             alerting: {{ alertmanagers: [ {{ static_configs: [ {{ targets: ['127.0.0.1:{alarming}'] }} ] }} ] }}\n\
             scrape_configs: [ {{ job_name: lifeboat, static_configs: [ {{ targets: ['{}'] }} ] }} ]\n",
            rules.display(),
            world.address
        ),
    );
    let routes = write(
        "alertmanager.yml",
        format!(
            "route: {{ receiver: sink, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h }}\n\
             receivers: [ {{ name: sink, webhook_configs: [ {{ url: 'http://{}/' }} ] }} ]\n",
            sink.address
        ),
    );
    let folder = |name: &str| world.path(name).display().to_string();
    let _alertmanager = start(
        &alertmanager,
        &world.path("alertmanager.log"),
        &[
            format!("--config.file={routes}"),
            format!("--storage.path={}", folder("alertmanager")),
            format!("--web.listen-address=127.0.0.1:{alarming}"),
            "--cluster.listen-address=".to_owned(),
        ],
    );
    let _prometheus = start(
        &prometheus,
        &world.path("prometheus.log"),
        &[
            format!("--config.file={config}"),
            format!("--storage.tsdb.path={}", folder("prometheus")),
            format!("--web.listen-address=127.0.0.1:{asking}"),
        ],
    );
    let is = |alert: &'static str, status: &'static str| {
        move |_: &str, body: &serde_json::Value| {
            let alerts = body["alerts"].as_array().cloned().unwrap_or_default();
            alerts.iter().any(|one| one["labels"]["alertname"] == alert && one["status"] == status)
        }
    };
    sink.until(is("LifeboatWatchdog", "firing"));
    world.take_away("copy");
    let fired = sink.until(is("LifeboatPlaceUnreachable", "firing"));
    assert_eq!(fired["alerts"][0]["labels"]["place"], "away", "{fired}");
    world.put_back("copy");
    sink.until(is("LifeboatPlaceUnreachable", "resolved"));
    world.take_away("tree");
    let fired = sink.until(is("LifeboatCheckDown", "firing"));
    assert_eq!(fired["alerts"][0]["labels"]["check"], "store:tree", "{fired}");
}
