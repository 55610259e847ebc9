//! `lifeboat lint`: whole outputs, exit codes, and that what this machine measured counts.

use crate::place::Place;
use crate::transcript::Transcript;

const CONTRADICTING: &str = r#"[tiers.critical]
rto = "1h"

[services.web]
tier = "critical"
needs = ["users", "user"]
probe = "http://localhost:8080/healthz"
decide = "5m"

[datasets.users]
store = "/srv/users.db"
rpo = "1h"
protect = { every = "24h", takes = "15m", ships = "5m" }
retain = { daily = 7 }
prove = { every = "1d" }

[repository]
url = "s3://bucket/repo"
"#;

const HAZARDOUS: &str = r#"[datasets.users]
store = "/srv/users.db"
rpo = "1h"
protect = { every = "30m", takes = "1m" }
retain = { daily = 7 }

[repository]
url = "s3://bucket/repo"
"#;

#[test]
fn a_plan_is_linted() {
    let place = Place::empty();
    place.write("lifeboat.toml", CONTRADICTING);
    place.write("hazardous.toml", HAZARDOUS);
    place.write("sound.toml", format!("{HAZARDOUS}\n[datasets.users.prove]\nevery = \"1d\"\n"));
    place.write("broken.toml", "[datasets.users]\nstor = \"a\"\n");
    let mut seen = Transcript::new(&place);
    seen.both(&["lint"]).both(&["lint", "hazardous.toml"]).run(&["lint", "--strict", "hazardous.toml"]);
    seen.run(&["lint", "sound.toml", "hazardous.toml"]).both(&["lint", "sound.toml", "--strict"]);
    seen.run(&["lint", "--plan", "sound.toml"]).run(&["lint", "gone.toml"]).both(&["lint", "broken.toml"]);
    seen.compare("lint.txt");
}

/// A service that must be back sooner than its data were restored: known once that was measured, and the repository
/// is not needed for it.
#[test]
fn what_was_measured_here_counts() {
    let place = Place::with_snapshot();
    let plan = "[services.web]\nrto = \"900ms\"\nneeds = [\"tree\"]\ndetect = \"0s\"\ndecide = \"0s\"\n[datasets.tree]\nstore = \"tree\"\n";
    place.write("plan.toml", plan);
    let rto = |place: &Place| {
        let findings = place.run(&["lint", "plan.toml", "--json"]);
        let document: serde_json::Value = serde_json::from_str(&findings.stdout).unwrap();
        let all = document["plans"][0]["findings"].as_array().unwrap().clone();
        all.into_iter().find(|finding| finding["rule"] == "rto-sum").unwrap()
    };
    assert_eq!(rto(&place)["weight"], "unknown");
    place.ok(&["prove", "tree"]);
    std::fs::remove_dir_all(place.path("repo")).unwrap();
    let found = rto(&place);
    assert_eq!(found["weight"], "contradiction", "{found:#}");
    let restoring =
        found["sum"].as_array().unwrap().iter().find(|term| term["what"] == "restoring tree").unwrap();
    assert_eq!(restoring["source"], serde_json::json!({ "from": "measured", "count": 1 }));
    assert!(restoring["seconds"].as_f64().unwrap() >= 1.0);
}

#[test]
fn runbooks_are_linted_beside_plans() {
    let place = Place::empty();
    place.write("lifeboat.toml", "[system]\nname = \"test\"\n");
    place.write(
        "switch.md",
        "# Switch\n\n```bash {step=drop timeout=1m}\npsql -c 'drop table users'\n```\n\n\
         ```check {step=whole timeout=1m}\ngunzip -t backup.gz\n```\n",
    );
    place.write("broken.md", "# Broken\n\n```bash {step=one nedds=two}\ntrue\n```\n");
    let mut seen = Transcript::new(&place);
    seen.run(&["lint", "switch.md"]).run(&["lint", "lifeboat.toml", "switch.md", "--strict", "--json"]);
    seen.run(&["lint", "broken.md"]).run(&["lint", "absent.md"]);
    seen.compare("lint-runbooks.txt");
}
