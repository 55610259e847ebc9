//! SQL against real databases.

use crate::orders::{captured, order, output, plain, secret};
use lifeboat_carriers::Sql;
use lifeboat_postgres_server::testing::{TestCluster, test_installations};
use lifeboat_run::event::Ended;
use lifeboat_run::{Carried, Carry, Order, Stop};
use lifeboat_runbook::Action;
use std::path::Path;
use std::time::Duration;

fn sql(folder: &Path, on: &str, script: &str) -> Order {
    order(folder, Action::Sql { on: on.to_owned(), script: script.to_owned() })
}

fn carry(order: &Order) -> Carried {
    Sql::default().carry(order, &Stop::default())
}

/// Runs a test against every database at hand: what is said of one must hold for all.
fn each(test: impl Fn(&Path, &str, &dyn Fn(&str) -> String)) {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.execute_batch("create table made (x)").unwrap();
    let ask = |sql: &str| {
        let found = connection.query_row(sql, [], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
        match found {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => panic!("{other:?}"),
        }
    };
    test(folder.path(), database.to_str().unwrap(), &ask);
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        test(folder.path(), &cluster.url("postgres"), &|sql| cluster.psql(sql).trim().to_owned());
    }
}

#[test]
fn values_are_literals_and_identifiers_and_the_last_row_is_the_output() {
    each(|folder, on, ask| {
        let script = r#"create table :"table" (name text, many int);
            insert into :"table" values (:'name', 1), ('second; ''drop', 2);
            select name as "the_name", many from :"table" order by many"#;
        let mut order = sql(folder, "${on}", script);
        order.values = plain(&[("on", on), ("table", "odd \"name"), ("name", r"O'Neill \ x")]);
        order.outputs = vec![output("the-name", None), output("many", None)];
        let carried = carry(&order);
        assert_eq!(carried.ended, Ended::Done, "{on}");
        assert_eq!(carried.answer.as_deref(), Some("second; 'drop"));
        assert_eq!((&*carried.outputs["the-name"], &*carried.outputs["many"]), ("second; 'drop", "2"));
        assert_eq!(ask(r#"select name from "odd ""name" where many = 1"#), r"O'Neill \ x");
        assert_eq!(captured(&order), "the_name\tmany\nO'Neill \\ x\t1\nsecond; 'drop\t2\n(2 rows)\n");
    });
}

#[test]
fn a_question_is_answered_with_yes_no_or_nobody_can_tell() {
    each(|folder, on, _| {
        let asked = |script: &str, expects: bool| {
            let mut order = sql(folder, on, script);
            (order.asks, order.expects) = (true, expects);
            carry(&order)
        };
        assert_eq!(asked("select count(*) = 1 from (select 1) as t", false).ended, Ended::Done);
        for no in ["select 1 = 2", "select 0", "select null", "select 1 where 1 = 2"] {
            assert!(matches!(asked(no, false).ended, Ended::Failed { .. }), "{on}: {no}");
        }
        // Who compares the answer gets it, whatever it is.
        let zero = asked("select 0", true);
        assert_eq!((zero.ended, zero.answer.as_deref()), (Ended::Done, Some("0")));
        assert!(matches!(asked("select nothing from nowhere", false).ended, Ended::Unknown { .. }));
    });
}

#[test]
fn what_is_refused_has_failed_and_what_was_stopped_nobody_knows() {
    each(|folder, on, _| {
        let refused = carry(&sql(folder, on, "select nothing from nowhere"));
        assert!(matches!(&refused.ended, Ended::Failed { why } if why.contains("nowhere")), "{refused:?}");
        let endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select max(x) from n";
        let mut slow = sql(folder, on, endless);
        slow.timeout = Duration::from_millis(300);
        assert!(matches!(carry(&slow).ended, Ended::Unknown { .. }), "{on}");
        let stop = Stop::default();
        stop.stop();
        assert!(matches!(
            Sql::default().carry(&sql(folder, on, endless), &stop).ended,
            Ended::Unknown { .. }
        ));
        let mut absent = sql(folder, on, "select 1 as one");
        absent.outputs = vec![output("two", None)];
        assert!(matches!(carry(&absent).ended, Ended::Failed { why } if why.contains("no column two")));
    });
}

#[test]
fn what_is_not_there_is_not_begun_and_no_secret_shows() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().join("nobody").display().to_string();
    for on in [nobody.as_str(), "postgres:///x?host=/nowhere", "env:LIFEBOAT_TEST_NOT_SET"] {
        let carried = carry(&sql(folder.path(), on, "select 1"));
        assert!(matches!(carried.ended, Ended::NotBegun { .. }), "{on}: {carried:?}");
    }
    assert!(!folder.path().join("nobody").exists(), "no database is made");
    let other = folder.path().join("address");
    lifeboat_base::crashsafe::create(&other, b"mysql://me:hunter2@db/app\n").unwrap();
    let carried = carry(&sql(folder.path(), &format!("file:{}", other.display()), "select 1"));
    assert!(matches!(&carried.ended, Ended::NotBegun { why } if !why.contains("hunter2")), "{carried:?}");
    each(|folder, on, _| {
        let mut order = sql(folder, on, "select :'password' as told");
        order.values.insert("password".to_owned(), secret("env:PASSWORD", "hunter2"));
        order.secrets = vec![lifeboat_base::Secret::new(b"hunter2".to_vec())];
        order.outputs = vec![output("told", None)];
        let carried = carry(&order);
        assert_eq!((carried.ended, &*carried.outputs["told"]), (Ended::Done, "***"));
        assert!(!captured(&order).contains("hunter2"));
    });
}

#[test]
fn a_transaction_that_is_not_committed_did_not_happen_and_failed() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("app.db");
    rusqlite::Connection::open(&database).unwrap().execute_batch("create table t (x)").unwrap();
    let carried = carry(&sql(folder.path(), database.to_str().unwrap(), "begin; insert into t values (1)"));
    assert!(matches!(carried.ended, Ended::Failed { .. }), "{carried:?}");
    let left = carry(&sql(folder.path(), database.to_str().unwrap(), "select count(*) from t"));
    assert_eq!(left.answer.as_deref(), Some("0"));
}
