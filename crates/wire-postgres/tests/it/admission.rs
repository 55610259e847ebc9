//! Being let in: passwords of every kind and from everywhere, and what is said where one is not let in. A hint
//! that names a command or a line is followed to the letter, and has to help.

use crate::{advice, options, replication, sql};
use lifeboat_base::Hint;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installations};
use lifeboat_wire_postgres::{ConnectOptions, Connection, PasswordSource, PostgresError, Purpose};
use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const ROLES: &str = "set password_encryption = 'md5'; create role old login password 'pä:ss\\w';
    set password_encryption = 'scram-sha-256'; create role new login password 'sécret wörd';
    create role clear login password 'plain'; create role rep login replication password 'r';";

const RULES: &str = "local all postgres trust\nlocal all clear password\nhost all old 127.0.0.1/32 md5\n\
    host all new 127.0.0.1/32 scram-sha-256\nhost all clear 127.0.0.1/32 password\n\
    host replication rep 127.0.0.1/32 scram-sha-256";

fn cluster(installation: &lifeboat_postgres_server::Installation) -> TestCluster {
    let mut options = ClusterOptions::new(installation.clone());
    options.tcp = true;
    let cluster = TestCluster::start_with(options);
    cluster.psql(ROLES);
    cluster.set_hba(RULES);
    cluster
}

fn as_role(cluster: &TestCluster, role: &str, rest: &str) -> ConnectOptions {
    options(&format!("host=127.0.0.1 port={} dbname=postgres user={role} {rest}", cluster.port()))
}

fn who(connection: Result<Connection, PostgresError>) -> String {
    connection.unwrap().query("select current_user").unwrap().single().unwrap().to_owned()
}

#[track_caller]
fn refused(options: &ConnectOptions, purpose: Purpose) -> PostgresError {
    Connection::open(options, purpose).expect_err("not let in")
}

#[test]
fn passwords_are_proved_in_every_way() {
    for installation in test_installations() {
        let cluster = cluster(&installation);
        for (role, password) in [("old", r"'pä:ss\\w'"), ("new", "'sécret wörd'")] {
            let options = as_role(&cluster, role, &format!("password={password}"));
            assert_eq!(who(Connection::open(&options, Purpose::Sql)), role);
            let wrong = refused(&as_role(&cluster, role, "password=wrong"), Purpose::Sql);
            assert_eq!(wrong.sqlstate(), Some("28P01"), "{wrong:?}");
            assert!(wrong.hint().unwrap().contains("in the connection string"), "{:?}", wrong.hint());
            assert!(!wrong.is_transient());
            let none = refused(&as_role(&cluster, role, ""), Purpose::Sql);
            assert!(matches!(none, PostgresError::NoPassword { .. }), "{none:?}");
            assert!(none.hint().unwrap().contains("PGPASSWORD"));
        }
        let clear = refused(&as_role(&cluster, "clear", "password=plain"), Purpose::Sql);
        assert!(matches!(clear, PostgresError::PasswordInTheClear { .. }), "{clear:?}");
        let socket = cluster.url("postgres").replace("user=postgres", "user=clear&password=plain");
        assert_eq!(who(Connection::open(&options(&socket), Purpose::Sql)), "clear");
        let unbound = as_role(&cluster, "new", "password='sécret wörd' channel_binding=require");
        assert!(matches!(refused(&unbound, Purpose::Sql), PostgresError::NoChannelBinding { .. }));
        let unbound = as_role(&cluster, "old", r"password='pä:ss\\w' channel_binding=require");
        assert!(matches!(refused(&unbound, Purpose::Sql), PostgresError::NoChannelBinding { .. }));
    }
}

fn password_file(path: &Path, mode: u32, text: &str) {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_permissions(Permissions::from_mode(mode)).unwrap();
}

#[test]
fn passwords_come_from_the_environment_and_from_a_file() {
    for installation in test_installations() {
        let cluster = cluster(&installation);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pass word");
        let port = cluster.port();
        let lines = format!(
            "# a remark\n*:*:postgres:somebody:x\n127.0.0.1:{port}:postgres:new:sécret wörd\n\
             127.0.0.1:{port}:postgres:old:pä\\:ss\\\\w\n*:*:replication:rep:r\n*:*:*:new:wrong\n"
        );
        password_file(&file, 0o600, &lines);
        let passfile = format!("passfile='{}'", file.display());
        for role in ["new", "old"] {
            assert_eq!(who(Connection::open(&as_role(&cluster, role, &passfile), Purpose::Sql)), role);
        }
        // A line for `replication` is for sessions that replicate, and for no others.
        let options = as_role(&cluster, "rep", &passfile);
        let mut session = Connection::open(&options, Purpose::Replication).unwrap();
        assert_eq!(session.session().password, PasswordSource::File(file.clone()));
        assert_eq!(session.identify_system().unwrap().timeline.0, 1);

        let other = as_role(&cluster, "new", &format!("{passfile} dbname=template1"));
        let wrong = refused(&other, Purpose::Sql);
        assert_eq!(wrong.sqlstate(), Some("28P01"), "{wrong:?}");
        assert!(wrong.hint().unwrap().contains(&file.display().to_string()), "{:?}", wrong.hint());
        password_file(&file, 0o640, &lines);
        let distrusted = refused(&as_role(&cluster, "new", &passfile), Purpose::Sql);
        assert!(matches!(distrusted, PostgresError::NoPassword { .. }), "{distrusted:?}");
        assert!(distrusted.hint().unwrap().contains("chmod 0600"), "{:?}", distrusted.hint());

        let url = format!("postgres://new@127.0.0.1:{port}/postgres");
        let environment = |name: &str| (name == "PGPASSWORD").then(|| "sécret wörd".to_owned());
        let options = ConnectOptions::parse(&url, &environment).unwrap();
        assert_eq!(who(Connection::open(&options, Purpose::Sql)), "new");
        let environment = |name: &str| (name == "PGPASSWORD").then(|| "wrong".to_owned());
        let wrong = refused(&ConnectOptions::parse(&url, &environment).unwrap(), Purpose::Sql);
        assert!(wrong.hint().unwrap().contains("PGPASSWORD"), "{:?}", wrong.hint());
    }
}

#[test]
fn a_line_that_is_missing_in_pg_hba_is_named_and_helps() {
    for installation in test_installations() {
        let cluster = cluster(&installation);
        cluster.psql("alter role new replication");
        let options = as_role(&cluster, "new", "password='sécret wörd'");
        let refusal = refused(&options, Purpose::Replication);
        assert_eq!(refusal.sqlstate(), Some("28000"), "{refusal:?}");
        let line = advice(&refusal);
        assert_eq!(line, "host replication new 127.0.0.1/32 scram-sha-256");
        cluster.set_hba(&format!("{RULES}\n{line}"));
        assert!(Connection::open(&options, Purpose::Replication).is_ok());
    }
}

#[test]
fn a_missing_privilege_is_named_and_helps() {
    for installation in test_installations() {
        let cluster = cluster(&installation);
        let options = as_role(&cluster, "new", "password='sécret wörd'");
        let mut session = Connection::open(&options, Purpose::Sql).unwrap();
        let wants = [
            "select pg_create_restore_point('here')",
            "alter system set synchronous_standby_names = ''",
            "select count(*) from secrets",
        ];
        cluster.psql("create table secrets (n int)");
        for want in wants {
            let refusal = session.query(want).unwrap_err();
            assert_eq!(refusal.sqlstate(), Some("42501"), "{refusal:?}");
            cluster.psql(&advice(&refusal));
            assert!(session.query(want).is_ok(), "{want} after {}", advice(&refusal));
        }
        cluster.set_hba(&format!("{RULES}\nhost replication new 127.0.0.1/32 scram-sha-256"));
        let refusal = refused(&options, Purpose::Replication);
        assert_eq!(refusal.sqlstate(), Some("42501"), "{refusal:?}");
        cluster.psql(&advice(&refusal));
        assert!(Connection::open(&options, Purpose::Replication).is_ok());
    }
}

#[test]
fn a_server_that_is_full_or_not_there_says_what_to_raise() {
    for installation in test_installations() {
        let options_of = ClusterOptions::new(installation.clone()).with("max_wal_senders", "1");
        let mut cluster = TestCluster::start_with(options_of);
        let first = replication(&cluster);
        let options = options(&cluster.url("postgres"));
        let full = refused(&options, Purpose::Replication);
        assert_eq!(full.sqlstate(), Some("53300"), "{full:?}");
        assert!(full.hint().unwrap().contains("max_wal_senders") && full.is_transient());
        drop(first);

        let mut nowhere = options.clone();
        nowhere.set_database("nowhere");
        assert_eq!(refused(&nowhere, Purpose::Sql).sqlstate(), Some("3D000"));

        cluster.set("wal_level", "minimal");
        cluster.set("max_wal_senders", "0");
        cluster.restart();
        let minimal = refused(&options, Purpose::Replication);
        assert!(minimal.hint().unwrap().contains("wal_level = replica"), "{minimal:?}");

        cluster.stop(lifeboat_postgres_server::StopMode::Fast);
        let gone = refused(&options, Purpose::Sql);
        assert!(matches!(gone, PostgresError::Unreachable { .. }) && gone.is_transient(), "{gone:?}");
        assert!(gone.hint().unwrap().contains("unix_socket_directories"));
    }
}

#[test]
fn the_first_of_several_servers_that_will_do_is_taken() {
    for installation in test_installations() {
        let primary = TestCluster::start(&installation);
        let standby = primary.standby();
        let hosts = [&standby, &primary];
        let list = |names: &dyn Fn(&TestCluster) -> String| hosts.map(names).join(",");
        let text = format!(
            "user=postgres dbname=postgres host=/nonexistent,{} port=1,{}",
            list(&|cluster| cluster.socket_dir().display().to_string()),
            list(&|cluster| cluster.port().to_string()),
        );
        let recovers = |target: &str| {
            let options = options(&format!("{text} target_session_attrs={target}"));
            let connection = Connection::open(&options, Purpose::Replication)?;
            Ok::<_, PostgresError>(connection.session().target.contains(&standby.port().to_string()))
        };
        for (target, expected) in [
            ("any", true),
            ("standby", true),
            ("read-only", true),
            ("prefer-standby", true),
            ("primary", false),
            ("read-write", false),
        ] {
            assert_eq!(recovers(target).unwrap(), expected, "{target}");
        }
        standby.promote();
        let none = recovers("standby").unwrap_err();
        assert!(matches!(none, PostgresError::NoneOfSeveral { count: 3, .. }), "{none:?}");
        assert!(recovers("prefer-standby").is_ok());
        assert_eq!(sql(&standby).parameter("in_hot_standby"), Some("off"));
    }
}
