//! A server by itself: whom it runs as, what it keeps from its directory's settings, and what is said when it does
//! not start.

use lifeboat_base::Hint;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installation, test_installations};
use lifeboat_postgres_server::{
    ControlDataError, Identity, Installation, Server, ServerError, ServerOptions, ServerState, StopMode,
    control_data,
};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(300);

fn made(installation: &Installation) -> TestCluster {
    TestCluster::make(ClusterOptions::new(installation.clone()))
}

/// Starts a server on the cluster's directory, and waits for what comes of it.
fn start(
    cluster: &TestCluster,
    installation: &Installation,
    change: impl FnOnce(&mut ServerOptions),
) -> Result<Server, ServerError> {
    let mut options = ServerOptions::new(cluster.data(), cluster.socket_dir());
    change(&mut options);
    let mut server = Server::start(installation, cluster.identity(), options)?;
    server.wait_ready(LONG, &mut || {}).map(|()| server)
}

/// Why a server did not start: its reason, after a look at what every such error must have.
fn why(result: Result<Server, ServerError>) -> (String, String) {
    let error = result.map(drop).unwrap_err();
    let (text, hint) = (error.to_string(), error.hint().unwrap());
    assert!(matches!(error, ServerError::Ended { .. }), "{error:?}");
    assert!(!error.log().unwrap().is_empty(), "the end of the log is in the error");
    (text, hint)
}

#[test]
fn a_server_never_runs_as_root() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        let status = fs::read_to_string(format!("/proc/{}/status", cluster.server().unwrap().pid())).unwrap();
        let ids =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        for name in ["Uid:", "Gid:"] {
            assert!(ids(name).split_whitespace().all(|id| id != "0"), "{name} {}", ids(name));
        }
        if Identity::suitable().unwrap().is_other() {
            assert_eq!(ids("Groups:"), "", "our groups are not its");
        }
        assert!(rustix::process::geteuid().is_root() == cluster.identity().is_other());
    }
}

#[test]
fn a_server_that_ready_says_so_and_can_be_reached() {
    for installation in test_installations() {
        let cluster = made(&installation);
        let mut waits = 0;
        let options = ServerOptions::new(cluster.data(), cluster.socket_dir());
        let mut server = Server::start(&installation, cluster.identity(), options).unwrap();
        server.wait_ready(LONG, &mut || waits += 1).unwrap();
        assert!(waits > 0, "it was waited for");
        assert_eq!(server.state().unwrap(), ServerState::Ready);
        let url = format!("{}&user=postgres", server.url("postgres"));
        let mut psql = installation.command("psql", cluster.identity());
        let answer =
            psql.args(["-X", "-A", "-t", "-c", "show listen_addresses", "-d", &url]).output().unwrap();
        assert!(answer.status.success() && answer.stdout == b"\n", "on no address: {answer:?}");
        assert!(server.log_tail().contains("ready to accept connections"));
        let log = server.log();
        server.stop(StopMode::Fast).unwrap();
        assert!(log.tail().contains("database system is shut down"), "the log outlives its server");
        assert!(!cluster.data().join("postmaster.pid").exists());
    }
}

#[test]
fn a_port_that_is_taken_is_said() {
    for installation in test_installations() {
        let cluster = made(&installation);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let on_port = |options: &mut ServerOptions| (options.port, options.listen_tcp) = (port, true);
        let (text, hint) = why(start(&cluster, &installation, on_port));
        assert!(text.contains("Address already in use"), "{text}");
        assert!(hint.contains("another port"), "{hint}");
        let on_socket = |options: &mut ServerOptions| options.port = port;
        let server = start(&cluster, &installation, on_socket).unwrap();
        let other = made(&installation);
        let same_socket = |options: &mut ServerOptions| {
            (options.port, options.socket_dir) = (port, cluster.socket_dir().to_owned());
        };
        let (text, hint) = why(start(&other, &installation, same_socket));
        assert!(text.contains(&format!(".s.PGSQL.{port}")), "{text}");
        assert!(hint.contains("stop it"), "{hint}");
        server.stop(StopMode::Fast).unwrap();
    }
}

#[test]
fn a_directory_is_served_once() {
    for installation in test_installations() {
        let cluster = TestCluster::start(&installation);
        let (text, hint) = why(start(&cluster, &installation, |options| options.port = 1));
        assert!(text.contains("lock file \"postmaster.pid\" already exists"), "{text}");
        assert!(hint.contains("Another server"), "{hint}");
        assert_eq!(cluster.psql("select 1"), "1", "the first is not disturbed");
    }
}

#[test]
fn a_broken_directory_is_said_in_the_servers_words() {
    for installation in test_installations() {
        let cluster = made(&installation);
        fs::remove_dir_all(cluster.data().join("pg_wal")).unwrap();
        let (text, _) = why(start(&cluster, &installation, |_| {}));
        assert!(text.contains("\"pg_wal\""), "{text}");
        fs::remove_file(cluster.data().join("global/pg_control")).unwrap();
        let (text, _) = why(start(&cluster, &installation, |_| {}));
        assert!(text.contains("could not find the database system"), "{text}");
        fs::remove_file(cluster.data().join("PG_VERSION")).unwrap();
        let (text, _) = why(start(&cluster, &installation, |_| {}));
        assert!(text.contains("PG_VERSION"), "{text}");
        let nowhere = cluster.place().join("nowhere");
        let (text, _) = why(start(&cluster, &installation, |options| options.data = nowhere));
        assert!(text.contains("nowhere"), "{text}");
    }
}

#[test]
fn another_versions_directory_is_refused() {
    let (Some(old), Some(new)) = (test_installation(15), test_installation(18)) else { return };
    let cluster = made(&old);
    let (text, hint) = why(start(&cluster, &new, |options| options.data = cluster.data().to_owned()));
    assert!(text.contains("incompatible with server"), "{text}");
    assert!(hint.contains("major version"), "{hint}");
    let error = control_data(&new, cluster.data()).unwrap_err();
    assert!(matches!(error, ControlDataError::Damaged { .. }), "{error}");
}

#[test]
fn a_directory_that_the_servers_user_cannot_reach_names_the_folder() {
    for installation in test_installations() {
        let cluster = made(&installation);
        if !cluster.identity().is_other() {
            return; // Only root can give a directory to somebody and keep him out.
        }
        let closed = tempfile::tempdir().unwrap();
        fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
        let data = closed.path().join("data");
        fs::create_dir(&data).unwrap();
        cluster.identity().own(&data).unwrap();
        let (_, hint) = why(start(&cluster, &installation, |options| options.data = data));
        assert!(hint.contains(closed.path().to_str().unwrap()) && hint.contains("chmod o+x"), "{hint}");
    }
}

/// A restored server has the settings of a dead one, which wrote and listened elsewhere.
#[test]
fn settings_from_elsewhere_do_no_harm() {
    for installation in test_installations() {
        let cluster = made(&installation);
        let file = cluster.place().join("old.conf");
        let old = "listen_addresses = '*'\nport = 1\nlogging_collector = on\nlog_directory = '/nonexistent'\n\
                   external_pid_file = '/nonexistent/pid'\nssl_cert_file = '/nonexistent/cert'\n\
                   unix_socket_directories = '/nonexistent'\nwork_mem = '9MB'\n";
        File::create(&file).unwrap().write_all(old.as_bytes()).unwrap();
        cluster.identity().own(&file).unwrap();
        let hba = cluster.data().join("pg_hba.conf").display().to_string();
        let server = start(&cluster, &installation, |options| {
            options.config_file = Some(file);
            options.settings = vec![
                ("hba_file".to_owned(), hba),
                ("data_directory".to_owned(), cluster.data().display().to_string()),
            ];
        });
        let server = server.unwrap();
        let mut psql = installation.command("psql", cluster.identity());
        let url = format!("{}&user=postgres", server.url("postgres"));
        let answer = psql.args(["-X", "-A", "-t", "-d", &url, "-c", "show work_mem"]).output().unwrap();
        assert_eq!(answer.stdout, b"9MB\n", "{answer:?}");
        assert!(!server.log_tail().contains("/nonexistent"), "{}", server.log_tail());
        server.stop(StopMode::Fast).unwrap();
    }
}

/// A build without TLS does not even read a file that asks for it, whatever outranks the file.
#[test]
fn tls_that_is_not_served_needs_no_certificate() {
    for installation in test_installations() {
        let cluster = made(&installation);
        cluster.set("ssl", "on");
        match start(&cluster, &installation, |_| {}) {
            Ok(server) => server.stop(StopMode::Fast).unwrap(),
            Err(error) => {
                let (text, hint) = why(Err(error));
                assert!(text.contains("SSL is not supported by this build"), "{text}");
                assert!(hint.contains("file of settings"), "{hint}");
            }
        }
    }
}

#[test]
fn a_server_that_only_recovers_is_not_ready_and_says_how_far_it_is() {
    for installation in test_installations() {
        let mut cluster = TestCluster::start(&installation);
        cluster.psql("create table t (n int); insert into t select generate_series(1, 10000)");
        cluster.kill9();
        cluster.set("hot_standby", "off");
        let signal = cluster.data().join("standby.signal");
        File::create(&signal).unwrap();
        cluster.identity().own(&signal).unwrap();
        let options = ServerOptions::new(cluster.data(), cluster.socket_dir());
        let mut server = Server::start(&installation, cluster.identity(), options).unwrap();
        while server.state().unwrap() != ServerState::Recovering || server.log().replayed().is_none() {
            std::thread::yield_now();
        }
        let error = server.wait_ready(Duration::ZERO, &mut || {}).unwrap_err();
        assert!(matches!(error, ServerError::NotReady { state: ServerState::Recovering, .. }), "{error}");
        assert!(server.log().replayed() >= Some(cluster.control().redo), "{:?}", server.log().replayed());
        server.kill();
    }
}

#[test]
fn a_control_file_that_is_damaged_or_missing_is_said() {
    for installation in test_installations() {
        let cluster = made(&installation);
        let control = control_data(&installation, cluster.data()).unwrap();
        assert_eq!((control.timeline, control.checksum_version, control.wal_segment_bytes), (1, 1, 16 << 20));
        assert!(
            control.is_shut_down() && control.redo > 0 && control.redo <= control.checkpoint,
            "{control:?}"
        );
        let file = cluster.data().join("global/pg_control");
        OpenOptions::new().write(true).open(&file).unwrap().write_all_at(b"x", 40).unwrap();
        let error = control_data(&installation, cluster.data()).unwrap_err();
        assert!(matches!(error, ControlDataError::Damaged { .. }), "{error}");
        assert!(error.to_string().to_lowercase().contains("crc"), "{error}");
        fs::remove_file(&file).unwrap();
        let error = control_data(&installation, cluster.data()).unwrap_err();
        assert!(
            matches!(error, ControlDataError::Refused { .. }) && error.to_string().contains("pg_control"),
            "{error}"
        );
        assert!(error.hint().is_some());
    }
}

#[test]
fn an_end_that_put_nothing_away_is_an_error_and_an_immediate_one_is_not() {
    for installation in test_installations() {
        let cluster = made(&installation);
        let server = start(&cluster, &installation, |_| {}).unwrap();
        // A background process that is killed takes the server through a crash; one that stops then is in order.
        server.stop(StopMode::Immediate).unwrap();
        assert!(!cluster.control().is_shut_down());
        let server = start(&cluster, &installation, |_| {}).unwrap();
        let pid = server.pid().to_string();
        assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        let error = server.stop(StopMode::Fast).unwrap_err();
        assert!(matches!(error, ServerError::StoppedBadly { .. }), "{error}");
        assert!(error.to_string().contains("signal: 9"), "{error}");
    }
}
