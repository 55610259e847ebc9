//! `synchronous_standby_names`: our reading of it against the server's.

use crate::support::{Scene, on_each_version};
use lifeboat_store_postgres::synchronous::SynchronousNames;
use lifeboat_wire_postgres::{Connection, Purpose};

const ROUNDS: u32 = 600;
const PIECES: [&str; 24] = [
    "a", "lifeboat", "ANY", "first", "FIRST", "1", "2", "0", "07", "(", ")", "(", ")", ",", ",", ",", " ",
    "\t", "*", "\"", "\"a b\"", "\"\"", "-", "x$1",
];

/// A random value, from a state that the seed begins.
fn random_value(state: &mut u64) -> String {
    let mut below = |bound: u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state % bound
    };
    let length = below(9);
    let shape = below(4);
    let middle: String = (0..length).map(|_| PIECES[below(PIECES.len() as u64) as usize]).collect();
    match shape {
        0 => format!("FIRST {} ({middle})", below(4)),
        1 => format!("any {}({middle})", below(4)),
        2 => format!("a,{middle}"),
        _ => middle,
    }
}

fn accepts(session: &mut Connection, value: &str) -> bool {
    let command = format!("alter system set synchronous_standby_names = '{}'", value.replace('\'', "''"));
    match session.execute(&command) {
        Ok(()) => true,
        Err(error) if matches!(error.sqlstate(), Some("22023" | "42601")) => false,
        Err(error) => panic!("{value}: {}", lifeboat_base::report(&error)),
    }
}

#[test]
fn the_server_takes_what_we_read_and_what_we_write() {
    let seed = std::env::var("LIFEBOAT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from_le_bytes(lifeboat_base::random::bytes()) | 1);
    println!("LIFEBOAT_TEST_SEED={seed}");
    on_each_version(|installation| {
        let scene = Scene::new(installation);
        let mut session = Connection::open(&scene.options(), Purpose::Sql).unwrap();
        let (mut state, mut taken) = (seed, 0);
        for _ in 0..ROUNDS {
            let value = random_value(&mut state);
            let ours = SynchronousNames::parse(&value);
            assert_eq!(ours.is_ok(), accepts(&mut session, &value), "{value:?}: {ours:?}");
            let Ok(ours) = ours else { continue };
            taken += 1;
            for edited in [Ok(ours.clone()), ours.without("a"), ours.with("life boat")].into_iter().flatten()
            {
                assert!(accepts(&mut session, &edited.to_string()), "{value:?} became {edited}");
            }
        }
        assert!(taken > ROUNDS / 20, "enough of them make sense: {taken}");
    });
}

#[test]
fn the_server_waits_for_whom_we_say() {
    on_each_version(|installation| {
        let scene = Scene::new(installation);
        let _standbys = ["a", "Lifeboat"].map(|name| scene.other_standby(name));
        for (list, state) in [
            ("FIRST 2 (a, lifeboat)", "sync"),
            ("lifeboat, a", "sync"),
            ("\"LIFEBOAT\"", "sync"),
            ("a, lifeboat", "potential"),
            ("ANY 1 (a, lifeboat)", "quorum"),
            ("a", "async"),
        ] {
            scene.set_names(list);
            scene.cluster.wait_for(
                "select sync_state from pg_stat_replication where application_name = 'Lifeboat'",
                state,
            );
            let names = SynchronousNames::parse(list).unwrap();
            assert_eq!(names.lists("lifeboat"), state != "async", "{list}");
            if state != "quorum" {
                assert_eq!(names.always_awaits("lifeboat"), state == "sync", "{list}");
            }
        }
        scene.set_names("*");
        scene.cluster.wait_for(
            "select count(*) from pg_stat_replication where sync_state in ('sync', 'potential')",
            "2",
        );
        assert!(SynchronousNames::parse("*").unwrap().has_wildcard());
    });
}
