//! What `deploy/` starts exists: the unit's and the container's programs, arguments, variables and folders are those of
//! the program, and the service runs and ends as the unit says.

use crate::place::{PROGRAM, Place, Ran};
use crate::serve::Serving;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `NAME=VALUE` lines of a unit; what is there several times is one line.
fn unit() -> BTreeMap<String, String> {
    let text = read("deploy/systemd/lifeboat.service");
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='))
    {
        all.entry(name.to_owned())
            .and_modify(|known| known.push_str(&format!(" {value}")))
            .or_insert(value.to_owned());
    }
    all
}

/// The variables that are set, by name.
fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.split_whitespace().filter_map(|one| one.split_once('=')).collect()
}

/// The value of the last instruction of that name.
fn instruction<'t>(container: &'t str, name: &str) -> &'t str {
    let mut all = container.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    all.next_back().unwrap_or_else(|| panic!("there is no {name}"))
}

fn words(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// The arguments are understood, and the variables are ones that the program reads.
#[track_caller]
fn understands(arguments: &[&str], variables: &BTreeMap<&str, &str>) {
    let place = Place::empty();
    let help = place.run(&[arguments, &["--help"]].concat()).expect(0).stdout;
    // Wherever its lines are broken.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for name in variables.keys().filter(|name| name.starts_with("LIFEBOAT_")) {
        assert!(help.contains(&format!("[env: {name}")), "{name} is not read:\n{help}");
    }
    // That it needs more than to be asked for help: an argument that is not there is refused.
    assert_eq!(place.run(&[arguments, &["--no-such-argument"]].concat()).code, Some(2));
}

#[test]
fn the_unit_starts_what_there_is() {
    let unit = unit();
    let mut started = unit["ExecStart"].split_whitespace();
    assert_eq!(started.next(), Some("/usr/bin/lifeboat"));
    let variables = variables(&unit["Environment"]);
    understands(&started.collect::<Vec<_>>(), &variables);
    assert_eq!(variables["LIFEBOAT_STATE"], format!("/var/lib/{}", unit["StateDirectory"]));
    assert_eq!(variables["TMPDIR"], format!("/var/cache/{}", unit["CacheDirectory"]));
    assert_eq!(unit["WorkingDirectory"], variables["LIFEBOAT_STATE"]);
    // Jobs are waited for up to a minute.
    assert!(unit["TimeoutStopSec"].parse::<u32>().unwrap() > 60);
}

#[test]
fn the_service_runs_and_ends_as_the_unit_says() {
    let (unit, place) = (unit(), Place::new());
    place.write("tree/a.txt", "first\n");
    let tree = place.path("tree").display().to_string();
    place.write(
        "etc/lifeboat/lifeboat.toml",
        format!("[serve]\nlisten = \"127.0.0.1:0\"\n[datasets.tree]\nstore = \"{tree}\"\nprotect = {{ every = \"1h\" }}\n"),
    );
    let started = unit["ExecStart"].split_whitespace().skip(1).collect::<Vec<_>>();
    let mut command = place.command(&[started.as_slice(), &["--json"]].concat());
    for (name, value) in variables(&unit["Environment"]) {
        let here = place.path(value.trim_start_matches('/'));
        if name != "LIFEBOAT_PLAN" {
            std::fs::create_dir_all(&here).unwrap();
        }
        command.env(name, here);
    }
    let mut serving = Serving::start(command);
    serving.until(|event| event["event"] == "listening");
    serving.until_ended("snapshot tree", "done");
    assert_eq!(unit["KillSignal"], "SIGTERM");
    serving.stop();
    let state = place.path("var/lib/lifeboat/controller");
    assert!(state.is_dir(), "{}", state.display());
}

/// Exposure is in tenths: 1.7, as systemd 252 has it, is 17 there. Whoever weakens the unit has to say so here.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen in the test's output")]
#[test]
fn systemd_understands_the_unit_and_finds_it_hardened() {
    const EXPOSURE_MAX: &str = "20";
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no systemd-analyze, the unit was not looked at by it");
        return;
    }
    let place = Place::empty();
    // Where the program is installed on this machine: here.
    let unit = read("deploy/systemd/lifeboat.service").replace("/usr/bin/lifeboat", PROGRAM);
    place.write("lifeboat.service", unit);
    let verified =
        Ran::of(&mut place.wrapped("systemd-analyze".as_ref(), &["verify", "lifeboat.service"])).expect(0);
    assert_eq!(format!("{}{}", verified.stdout, verified.stderr), "");
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let security = ["security", "--offline=yes", "--no-pager", &threshold, "lifeboat.service"];
    Ran::of(&mut place.wrapped("systemd-analyze".as_ref(), &security)).expect(0);
}

#[test]
fn the_container_starts_what_there_is() {
    let container = read("deploy/container/Containerfile");
    let (entry, arguments) =
        (words(instruction(&container, "ENTRYPOINT")), words(instruction(&container, "CMD")));
    let copied: Vec<&str> = instruction(&container, "COPY --from=build").split_whitespace().collect();
    assert_eq!(copied, ["/src/target/release/lifeboat", entry[0].as_str()]);
    let variables = variables(instruction(&container, "ENV"));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    understands(&arguments, &variables);
    assert_eq!(instruction(&container, "VOLUME"), variables["LIFEBOAT_STATE"]);
    let port = instruction(&container, "EXPOSE");
    assert!(arguments.iter().any(|argument| argument.ends_with(&format!(":{port}"))), "{arguments:?}");
    // The compiler is one that the workspace asks for, and who runs it is not root.
    let wanted =
        read("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ").map(str::to_owned));
    let wanted = wanted.unwrap().trim_matches('"').to_owned();
    assert!(container.contains(&format!("/rust:{wanted}-")), "the workspace asks for {wanted}");
    assert_ne!(instruction(&container, "USER").split(':').next(), Some("0"));
    for ours in ["LIFEBOAT_COMMIT", "LIFEBOAT_BUILT"] {
        assert!(
            read("crates/daemon/src/http/probes.rs").contains(ours) && container.contains(ours),
            "{ours}"
        );
    }
}
