//! `lifeboat status`: by a running service, and by the repository alone where none answers.

use crate::place::{Place, Ran};
use crate::serve::Serving;
use serde_json::Value;

const TOKEN: &str = "a-token-of-a-test";

/// A plan of the tree; `serve` is what it says of the service.
fn plan(place: &Place, serve: &str) {
    let tree = place.path("tree").display().to_string();
    place.write(
        "lifeboat.toml",
        format!(
            "[system]\nname = \"test\"\n{serve}\n[datasets.tree]\nstore = \"{tree}\"\nhost = \"here\"\nrpo = \"1h\"\n\
             protect = {{ every = \"30m\" }}\n"
        ),
    );
}

fn status(place: &Place, arguments: &[&str]) -> Ran {
    let all = [&["status", "--this-host", "here"], arguments].concat();
    Ran::of(place.command(&all).env("TOKEN", TOKEN))
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"))
}

#[test]
fn without_a_service_the_repository_says_what_it_can() {
    let place = Place::with_snapshot();
    plan(&place, "");
    let seen = json(&status(&place, &["--json"]).expect(4));
    assert!(seen["source"]["repository"]["why"].as_str().unwrap().contains("serve.token"), "{seen}");
    assert!(seen["datasets"][0]["exposures"][0]["exposure_seconds"].as_f64().unwrap() < 3600.0, "{seen}");
    // What only a service knows is unknown, and nothing is made up.
    assert_eq!(seen["components"][0]["status"], "unknown");
    assert_eq!((&seen["datasets"][0]["proof"], seen["jobs"].as_array().unwrap().len()), (&Value::Null, 0));
    let text = status(&place, &[]).expect(4).stdout;
    assert!(
        text.contains("DATASET") && text.lines().last().unwrap().starts_with("as the repository shows it"),
        "{text}"
    );
}

#[test]
fn a_repository_that_is_gone_is_a_failure() {
    let place = Place::with_snapshot();
    plan(&place, "");
    std::fs::remove_dir_all(place.path("repo")).unwrap();
    let seen = json(&status(&place, &["--json"]).expect(1));
    assert_eq!(seen["places"][0]["reachable"], false, "{seen}");
}

#[test]
fn without_a_snapshot_the_objective_is_missed_though_much_is_unknown() {
    let place = Place::new();
    place.write("tree/a.txt", "first\n");
    plan(&place, "");
    let seen = json(&status(&place, &["--json"]).expect(4));
    assert_eq!(
        (seen["datasets"][0]["state"].as_str(), seen["state"].as_str()),
        (Some("breach"), Some("breach"))
    );
}

#[test]
fn a_running_service_is_asked() {
    let place = Place::with_snapshot();
    plan(&place, "[serve]\nlisten = \"127.0.0.1:0\"\ntoken = \"env:TOKEN\"\ncheck_every = \"1s\"\n");
    let mut serve = place.command(&["serve", "--json", "--this-host", "here"]);
    serve.env("TOKEN", TOKEN);
    let mut serving = Serving::start(serve);
    let listening = serving.until(|event| event["event"] == "listening");
    let url = format!("http://{}", listening["detail"]["address"].as_str().unwrap());
    serving.until_ended("snapshot tree", "done");
    // Until everything was checked twice something is unknown.
    let begun = std::time::Instant::now();
    let seen = loop {
        let ran = status(&place, &["--json", "--url", &url]);
        if ran.code == Some(0) {
            break json(&ran);
        }
        assert!(begun.elapsed().as_secs() < 60, "{ran}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    assert_eq!(
        (&seen["source"]["service"]["url"], &seen["state"]),
        (&Value::from(url.as_str()), &Value::from("ok"))
    );
    let text = status(&place, &["--url", &url]).expect(0).stdout;
    assert!(
        text.contains("tree     ok") && text.ends_with(&format!("as the service at {url} sees it\n")),
        "{text}"
    );
    let other = Ran::of(place.command(&["status", "--url", &url]).env("TOKEN", "another"));
    other.refused(1, "a token must be shown, and this is none that opens", "serve.token");
    serving.stop();
    status(&place, &["--url", &url]).refused(1, "Connection refused", "lifeboat serve");
}

#[test]
fn a_plan_without_datasets_is_refused() {
    let place = Place::new();
    place.run(&["status"]).refused(
        2,
        "there is nothing to show: the plan declares no dataset",
        "lifeboat init",
    );
}
