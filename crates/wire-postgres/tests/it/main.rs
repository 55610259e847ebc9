//! Sessions with real servers of every version that tests run against, and with servers that lie.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod admission;
mod backup;
mod fuzzing;
mod hostile;
mod requests;
mod stream;
mod tls;

use lifeboat_base::Hint;
use lifeboat_postgres_server::testing::TestCluster;
use lifeboat_wire_postgres::{ConnectOptions, Connection, PostgresError, Purpose};

/// Options in which nothing comes from the environment of the test.
fn options(text: &str) -> ConnectOptions {
    ConnectOptions::parse(text, &|name| (name == "HOME").then(|| "/nonexistent".to_owned())).unwrap()
}

fn sql(cluster: &TestCluster) -> Connection {
    Connection::open(&options(&cluster.url("postgres")), Purpose::Sql).unwrap()
}

fn replication(cluster: &TestCluster) -> Connection {
    let mut options = options(&cluster.url("postgres"));
    options.set_application_name("lifeboat-test");
    Connection::open(&options, Purpose::Replication).unwrap()
}

/// The command that a hint names: what stands in its first backticks.
#[track_caller]
fn advice(error: &PostgresError) -> String {
    let hint = error.hint().unwrap_or_else(|| panic!("{error:?} has a hint"));
    hint.split('`').nth(1).unwrap_or_else(|| panic!("{hint} names a command")).to_owned()
}
