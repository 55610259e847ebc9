//! `lifeboat init`: whole outputs, what it refuses, and that what it writes can be used.

use crate::place::{Place, Ran};
use crate::transcript::Transcript;
use serde_json::Value;

const COMPOSE: &str = "\
services:
  app:
    image: registry.example/app:1
    ports: [\"8080:8080\"]
    depends_on: [redis]
    volumes: [\"./uploads:/app/uploads\"]
    healthcheck: {test: [\"CMD\", \"curl\", \"-f\", \"http://localhost:8080/readyz\"], interval: 30s}
  redis: {image: \"redis:7\"}
";

fn system() -> Place {
    let place = Place::empty();
    place.write("shop/compose.yml", COMPOSE);
    place.write("shop/uploads/a.txt", "a");
    place.write("shop/.env", "API_TOKEN=hunter2\n");
    make_database(&place, "shop/.nomic/users.db");
    place
}

fn make_database(place: &Place, path: &str) {
    let path = place.path(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let database = rusqlite::Connection::open(path).unwrap();
    database.execute_batch("create table users (name text); insert into users values ('a');").unwrap();
}

/// Runs it as on a machine where nothing is set but what is given.
fn run(place: &Place, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let shop = place.path("shop");
    let folder = if shop.is_dir() { &shop } else { place.root() };
    let mut command = place.command(arguments);
    command.env_remove("LIFEBOAT_REPOSITORY").env_remove("LIFEBOAT_KEY").env("LIFEBOAT_HOST", "host-1");
    Ran::of(command.envs(variables.iter().copied()).current_dir(folder))
}

#[test]
fn it_looks_around_and_writes_a_plan() {
    let place = system();
    let variables = [("DATABASE_URL", "postgres://app:hunter2@db-1/app")];
    let mut seen = Transcript::new(&place);
    for arguments in
        [&["init"][..], &["init"], &["init", "--force"], &["init", "--json", "--force"], &["init", "--print"]]
    {
        seen.add(&arguments.join(" "), &run(&place, arguments, &variables));
    }
    seen.compare("init.txt");
    let text = std::fs::read_to_string(place.path("shop/lifeboat.toml")).unwrap();
    assert!(!text.contains("hunter2"));
}

#[test]
fn what_is_written_is_what_the_other_commands_read() {
    let place = system();
    run(&place, &["init"], &[]).expect(0);
    run(&place, &["repo", "init"], &[]).expect(0);
    let ran = run(&place, &["backup", "--json"], &[]).expect(0);
    let backups: Value = serde_json::from_str(&ran.stdout).unwrap();
    let backups: Vec<&str> =
        backups["backups"].as_array().unwrap().iter().map(|each| each["dataset"].as_str().unwrap()).collect();
    assert_eq!(backups, ["uploads", "users"]);
    run(&place, &["prove"], &[]).expect(0);
}

#[test]
fn nothing_is_overwritten_and_what_is_missed_is_said() {
    let place = Place::empty();
    place.write("lifeboat.toml", "no plan at all");
    run(&place, &["init"], &[]).refused(2, "lifeboat.toml exists", "--force");
    assert_eq!(std::fs::read_to_string(place.path("lifeboat.toml")).unwrap(), "no plan at all");
    place.write("compose.yml", "services: [");
    let ran = run(&place, &["init", "--out", "other.toml"], &[]).expect(5);
    assert!(ran.stderr.contains("not looked at: compose.yml"), "{}", ran.stderr);
    run(&place, &["init", "--plan", "other.toml"], &[]).refused(2, "other.toml exists", "--force");
    run(&place, &["init", "nowhere"], &[]).refused(2, "look at nowhere", "folder");
    run(&place, &["init", "--out", "nowhere/x.toml"], &[]).refused(1, "nowhere", "folder");
    run(&place, &["init", "--print", "--force"], &[]).expect(2);
}

#[test]
fn the_repository_is_the_one_that_is_named() {
    let place = Place::empty();
    let printed = |arguments: &[&str]| run(&place, arguments, &[]);
    let ran = printed(&["init", "--print", "-r", "s3://bucket/x?region=a", "-k", "file:/k"]).expect(0);
    assert!(ran.stdout.contains("url = \"s3://bucket/x?region=a\"\nkey = \"file:/k\""), "{}", ran.stdout);
    let ran = printed(&["init", "--print", "-r", "repo"]).expect(0);
    assert!(
        ran.stdout.contains(&format!("url = \"file:{}\"", place.path("repo").display())),
        "{}",
        ran.stdout
    );
    let refused = printed(&["init", "--print", "-k", "hunter2"]);
    assert!(!refused.stderr.contains("hunter2") && refused.code == Some(2), "{}", refused.stderr);
}

#[test]
fn another_folder_can_be_looked_at() {
    let place = Place::empty();
    make_database(&place, "app/x.db");
    let ran = run(&place, &["init", "app"], &[]).expect(0);
    assert!(ran.stdout.contains("cd app") && place.path("app/lifeboat.toml").exists(), "{}", ran.stdout);
}

#[test]
fn a_long_list_of_what_was_passed_over_is_cut() {
    let place = Place::empty();
    for number in 0..30 {
        place.write(&format!("k8s/{number:02}.yaml"), "kind: {{ .Kind }}\n");
        place.write(&format!("service-{number:02}/tests/a.txt"), "x");
    }
    let ran = run(&place, &["init"], &[]).expect(5);
    assert_eq!(ran.stderr.matches("it is a template").count(), 20, "{}", ran.stderr);
    assert!(ran.stderr.contains("10 more"), "{}", ran.stderr);
    assert_eq!(ran.stdout.matches("by its name it is for tests").count(), 20, "{}", ran.stdout);
    let json: Value =
        serde_json::from_str(&run(&place, &["init", "--force", "--json"], &[]).expect(5).stdout).unwrap();
    assert_eq!(json["not_looked_at"].as_array().unwrap().len(), 60);
}
