//! The API: every path with and without the token, held against the document; paging; events as they happen.

use crate::web::{PATIENCE, exchange, request};
use crate::world::{SERVE, TOKEN, World, plan};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

/// Every path of the document, with parameters that there are.
fn paths(document: &Value) -> Vec<(String, String)> {
    let fill = |path: &str| path.replace("{name}", "tree").replace("{id}", "1");
    document["paths"].as_object().unwrap().keys().map(|path| (path.clone(), fill(path))).collect()
}

#[test]
fn every_path_answers_as_the_document_says_and_nothing_without_its_token() {
    let world = World::serving(SERVE);
    world.until("a proof", |world| {
        world.get("/api/v1/jobs?kind=proof&outcome=done").json()["jobs"][0].is_object()
    });
    let job = world.get("/api/v1/jobs?kind=proof").json()["jobs"][0]["job"].clone();
    let document = world.get("/api/v1/openapi.json").json();
    for (path, filled) in paths(&document) {
        let filled = filled.replace("/jobs/1", &format!("/jobs/{job}"));
        let operation = &document["paths"][&path]["get"];
        let answer = world.get(&filled);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(
            operation["responses"]["200"]["content"][&answer.headers["content-type"]].is_object(),
            "{path}"
        );
        assert_eq!(answer.headers["cache-control"], "no-store");
        let needs_token = operation["security"] != json!([]);
        for token in [None, Some("another"), Some("")] {
            let without = request(world.address, "GET", &filled, token);
            assert_eq!(without.status, if needs_token { 401 } else { 200 }, "{path} with {token:?}");
            if needs_token {
                assert_eq!(without.code(), "no-token");
                assert!(without.headers["www-authenticate"].starts_with("Bearer"), "{without:?}");
            }
        }
        let unknown = world.get(&format!("{filled}?no-such-parameter=1"));
        assert_eq!((unknown.status, unknown.code().as_str()), (400, "bad-parameter"), "{path}");
        for method in ["POST", "DELETE", "PUT", "OPTIONS"] {
            let refused = request(world.address, method, &filled, Some(TOKEN));
            assert_eq!((refused.status, refused.code().as_str()), (405, "only-reading"), "{method} {path}");
            assert_eq!(refused.headers["allow"], "GET, HEAD");
        }
        let head = request(world.address, "HEAD", &filled, Some(TOKEN));
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
    for path in ["/", "/api", "/api/v1", "/api/v1/datasets/", "/metrics/x", "/../etc/passwd", "/%2e%2e"] {
        let answer = world.get(path);
        assert_eq!((answer.status, answer.code().as_str()), (404, "no-such-path"), "{path}");
    }
}

#[test]
fn without_a_token_in_the_plan_nobody_is_let_in() {
    for (serve, why) in
        [("", "names no token"), ("[serve]\ntoken = \"env:NOBODY\"\n", "env:NOBODY is not there")]
    {
        let world = World::listening(&plan(serve));
        for path in ["/health", "/api/v1/status", "/api/v1/openapi.json"] {
            for token in [None, Some(""), Some(TOKEN)] {
                let answer = request(world.address, "GET", path, token);
                assert_eq!((answer.status, answer.code().as_str()), (503, "token-unset"), "{path}");
                assert!(answer.body.contains(why), "{answer:?}");
            }
        }
        assert_eq!(request(world.address, "GET", "/healthz", None).json(), json!({ "status": "ok" }));
    }
}

#[test]
fn what_is_not_there_is_said_to_be_so_and_what_is_out_of_bounds_too() {
    let world = World::serving(SERVE);
    for (path, status, code) in [
        ("/api/v1/datasets/nobody", 404, "no-such-thing"),
        ("/api/v1/datasets/nobody/points", 404, "no-such-thing"),
        ("/api/v1/datasets/No%20Name", 400, "bad-parameter"),
        ("/api/v1/datasets/%ff", 400, "bad-parameter"),
        ("/api/v1/jobs/9007199254740991", 404, "no-such-thing"),
        ("/api/v1/jobs/0", 400, "bad-parameter"),
        ("/api/v1/jobs?limit=0", 400, "bad-parameter"),
        ("/api/v1/jobs?limit=1&limit=1", 400, "bad-parameter"),
        ("/api/v1/jobs?outcome=great", 400, "bad-parameter"),
        ("/api/v1/events?since=-1", 400, "bad-parameter"),
    ] {
        let answer = world.get(path);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}");
    }
}

#[test]
fn readiness_has_its_reason_until_the_start_is_complete_and_again_at_the_end() {
    let mut world = World::listening(&plan(SERVE));
    let waiting = world.get("/readyz");
    assert_eq!((waiting.status, waiting.json()["status"].clone()), (503, json!("not_ready")));
    assert!(waiting.json()["reason"].as_str().unwrap().starts_with("startup in progress"), "{waiting:?}");
    world.run();
    world.until("it is ready", |world| world.get("/readyz").status == 200);
    assert_eq!(world.get("/readyz").json(), json!({ "status": "ready", "reason": null }));
    world.end();
    let ending = world.get("/readyz");
    assert_eq!((ending.status, ending.json()["reason"].clone()), (503, json!("the service is about to end")));
}

#[test]
fn jobs_and_datasets_come_in_pages() {
    let world = World::serving(SERVE);
    world.until("some jobs", |world| {
        world.get("/api/v1/jobs?limit=7").json()["jobs"].as_array().unwrap().len() == 7
    });
    let numbers = |page: &Value| -> Vec<u64> {
        page["jobs"].as_array().unwrap().iter().map(|job| job["job"].as_u64().unwrap()).collect()
    };
    // New ones come meanwhile: everything is asked for before the same number.
    let newest = numbers(&world.get("/api/v1/jobs?limit=1").json())[0] + 1;
    let all = numbers(&world.get(&format!("/api/v1/jobs?limit=6&before={newest}")).json());
    assert!(all.is_sorted_by(|one, other| one > other), "{all:?}");
    let first = world.get(&format!("/api/v1/jobs?limit=3&before={newest}")).json();
    let second = world.get(&format!("/api/v1/jobs?limit=3&before={}", first["next"])).json();
    assert_eq!([numbers(&first), numbers(&second)].concat(), all);
    let proofs = world.get("/api/v1/jobs?kind=proof&subject=tree").json();
    assert!(
        proofs["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .all(|job| job["kind"] == "proof" && job["subject"] == "tree")
    );
    assert!(numbers(&world.get("/api/v1/jobs?kind=proof&subject=app").json()).is_empty());
    let names = |page: &Value| -> Vec<String> {
        page["datasets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = world.get("/api/v1/datasets?limit=1").json();
    assert_eq!((names(&first), first["next"].clone()), (vec!["app".to_owned()], json!("app")));
    let second = world.get("/api/v1/datasets?limit=1&after=app").json();
    assert_eq!((names(&second), second["next"].clone()), (vec!["tree".to_owned()], Value::Null));
}

#[test]
fn events_go_on_as_they_happen_and_from_where_a_reader_was() {
    let world = World::serving(SERVE);
    let page = world.get("/api/v1/events?limit=5").json();
    let numbers: Vec<u64> =
        page["events"].as_array().unwrap().iter().map(|e| e["sequence"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted() && numbers[0] == 1, "{page}");
    let from = page["next"].as_u64().unwrap();
    let mut stream = TcpStream::connect(world.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = format!(
        "GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nLast-Event-ID: {from}\r\n\
         Authorization: Bearer {TOKEN}\r\n\r\n"
    );
    stream.write_all(asked.as_bytes()).unwrap();
    let mut ids = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if let Some(id) = line.strip_prefix("id: ") {
            ids.push(id.parse::<u64>().unwrap());
        }
        if let Some(data) = line.strip_prefix("data: ") {
            let event: Value = serde_json::from_str(data).unwrap();
            assert_eq!(event["sequence"].as_u64(), ids.last().copied());
        }
        if ids.len() >= 12 {
            break;
        }
    }
    assert!(ids[0] > from && ids.is_sorted_by(|one, other| one < other), "behind {from}: {ids:?}");
}

#[test]
fn schemathesis_finds_no_mismatch() {
    let Some(program) = schemathesis() else { return };
    let world = World::serving(SERVE);
    let document = world.path("openapi.json");
    lifeboat_base::crashsafe::create(&document, world.get("/api/v1/openapi.json").body.as_bytes()).unwrap();
    let output = std::process::Command::new(program)
        .arg("run")
        .arg(&document)
        .args([
            "--url",
            &format!("http://{}", world.address),
            "-H",
            &format!("Authorization: Bearer {TOKEN}"),
        ])
        .args(["--checks", "all", "--max-examples", "25", "--max-time", "60", "--no-color"])
        .current_dir(world.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("No issues found"), "{said}");
}

/// Beside the Python of the second reader.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen in the test's output")]
fn schemathesis() -> Option<std::path::PathBuf> {
    if std::env::var("LIFEBOAT_SKIP_OUTSIDE").is_ok_and(|value| value == "1") {
        eprintln!("SKIPPED: LIFEBOAT_SKIP_OUTSIDE=1, schemathesis was not run");
        return None;
    }
    let python = std::env::var("LIFEBOAT_TEST_PYTHON").map(std::path::PathBuf::from);
    let beside = python.ok().map(|python| python.with_file_name("schemathesis")).filter(|path| path.exists());
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/test-tools/venv/bin/schemathesis");
    Some(beside.unwrap_or_else(|| {
        assert!(
            own.exists(),
            "there is no schemathesis: ./test installs it; LIFEBOAT_SKIP_OUTSIDE=1 goes without"
        );
        own
    }))
}

#[test]
fn nothing_of_the_inside_is_told() {
    let world = World::serving(SERVE);
    let root = world.folder.path().display().to_string();
    world.take_away("repository");
    for path in ["/api/v1/datasets/tree/points", "/api/v1/nothing", "/api/v1/jobs/abc"] {
        let answer = world.get(path);
        assert!(answer.status >= 400 && !answer.body.contains(&root), "{path}: {answer:?}");
    }
    world.put_back("repository");
    let odd =
        exchange(world.address, b"GET /healthz HTTP/1.1\r\nHost: x\r\nBroken\r\nConnection: close\r\n\r\n");
    assert_eq!(odd.status, 400, "{odd:?}");
}
