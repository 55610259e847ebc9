//! TLS in every mode of libpq, with certificates made here, and the sessions of a backup and a stream through it.

use crate::options;
use lifeboat_base::Hint;
use lifeboat_postgres_server::Installation;
use lifeboat_postgres_server::testing::{ClusterOptions, TestCluster, test_installations};
use lifeboat_postgres_wal::{Lsn, SegmentSize};
use lifeboat_wire_postgres::{
    BaseBackupOptions, ConnectOptions, Connection, PostgresError, Purpose, StreamEvent,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Certificates in a folder: an authority, another one, and what they signed.
struct Certificates(PathBuf);

impl Certificates {
    fn make(folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        let made = Self(folder);
        made.authority("ca");
        made.authority("other");
        made.signed("server", "localhost", "DNS:localhost", &["-newkey", "rsa:2048"]);
        made.signed("client", "certified", "DNS:client", &["-newkey", "rsa:2048"]);
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1", "-sha384"];
        made.openssl(
            "own",
            "localhost",
            &[&curve[..], &["-addext", "subjectAltName=DNS:localhost"]].concat(),
        );
        made
    }

    fn openssl(&self, name: &str, subject: &str, more: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-nodes", "-days", "2", "-subj", &format!("/CN={subject}")]);
        command.arg("-keyout").arg(self.key(name)).arg("-out").arg(self.certificate(name)).args(more);
        let output = command.output().expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn authority(&self, name: &str) {
        self.openssl(name, name, &["-newkey", "rsa:2048"]);
    }

    fn signed(&self, name: &str, subject: &str, names: &str, key: &[&str]) {
        let (ca, ca_key) = (self.certificate("ca"), self.key("ca"));
        let signer = ["-CA", ca.to_str().unwrap(), "-CAkey", ca_key.to_str().unwrap()];
        let names = format!("subjectAltName={names}");
        let extensions = ["-addext", &names, "-addext", "basicConstraints=critical,CA:FALSE"];
        self.openssl(name, subject, &[key, &signer, &extensions].concat());
    }

    fn certificate(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.crt"))
    }

    fn key(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.key"))
    }
}

const RULES: &str = "local all all trust\nhostssl all certified all cert\nhostnossl all open all scram-sha-256\n\
    hostssl all sealed all scram-sha-256\nhostssl replication sealed all scram-sha-256\n\
    hostssl all clear all password";

/// A cluster that encrypts; `None` where its programs were built without TLS, as those of the package index are.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen in the test's output")]
fn secured(installation: &Installation, name: &str) -> Option<(TestCluster, Certificates)> {
    let mut options = ClusterOptions::new(installation.clone());
    options.tcp = true;
    let mut cluster = TestCluster::make(options);
    let certificates = Certificates::make(cluster.place().join("certificates"));
    for part in [certificates.key(name), certificates.certificate(name), certificates.certificate("ca")] {
        fs::set_permissions(&part, Permissions::from_mode(0o600)).unwrap();
    }
    cluster.identity().own(&certificates.0).unwrap();
    cluster.set("ssl", "on");
    cluster.set("ssl_cert_file", certificates.certificate(name).to_str().unwrap());
    cluster.set("ssl_key_file", certificates.key(name).to_str().unwrap());
    cluster.set("ssl_ca_file", certificates.certificate("ca").to_str().unwrap());
    match cluster.try_start() {
        Err(error) if error.to_string().contains("not supported by this build") => {
            eprintln!("SKIPPED: PostgreSQL {} here has no TLS", installation.version);
            return None;
        }
        started => started.unwrap(),
    }
    cluster.psql(
        "create role open login password 'p'; create role sealed login replication password 'p'; \
         create role certified login; create role clear login password 'p';",
    );
    cluster.set_hba(RULES);
    Some((cluster, certificates))
}

fn to(cluster: &TestCluster, role: &str, rest: &str) -> ConnectOptions {
    let port = cluster.port();
    options(&format!(
        "host=localhost hostaddr=127.0.0.1 port={port} dbname=postgres user={role} password=p {rest}"
    ))
}

fn encrypted(options: &ConnectOptions) -> Result<bool, PostgresError> {
    let mut connection = Connection::open(options, Purpose::Sql)?;
    let asked = connection.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()")?;
    assert_eq!(asked.single()? == "t", connection.session().encrypted);
    Ok(connection.session().encrypted)
}

fn root(path: &Path) -> String {
    format!("sslrootcert='{}'", path.display())
}

#[test]
fn each_mode_means_what_libpq_means() {
    for installation in test_installations() {
        let Some((cluster, certificates)) = secured(&installation, "server") else { continue };
        let mode = |role: &str, mode: &str| encrypted(&to(&cluster, role, &format!("sslmode={mode}")));
        for (name, open, sealed) in [
            ("disable", Some(false), None),
            ("allow", Some(false), Some(true)),
            ("prefer", Some(false), Some(true)),
            ("require", None, Some(true)),
        ] {
            assert_eq!(mode("open", name).ok(), open, "{name}");
            assert_eq!(mode("sealed", name).ok(), sealed, "{name}");
        }
        let refused = mode("sealed", "disable").unwrap_err();
        assert_eq!(refused.sqlstate(), Some("28000"), "{refused:?}");
        let ca = root(&certificates.certificate("ca"));
        let with = |rest: &str| encrypted(&to(&cluster, "sealed", rest));
        assert!(with(&format!("sslmode=verify-full {ca}")).unwrap());
        assert!(with(&format!("sslmode=verify-ca {ca} host=example.org")).unwrap());
        let named = with(&format!("sslmode=verify-full {ca} host=example.org")).unwrap_err();
        assert!(matches!(named, PostgresError::Tls { .. }), "{named:?}");
        assert!(named.hint().unwrap().contains("subjectAltName"), "{named:?}");
        let other = root(&certificates.certificate("other"));
        for name in ["require", "verify-ca", "verify-full"] {
            let unknown = with(&format!("sslmode={name} {other}")).unwrap_err();
            assert!(matches!(unknown, PostgresError::Tls { .. }), "{name}: {unknown:?}");
            assert!(unknown.hint().unwrap().contains("sslrootcert"), "{unknown:?}");
        }
        let unknown = with("sslrootcert=system").unwrap_err();
        assert!(
            matches!(unknown, PostgresError::Tls { .. } | PostgresError::Certificates { .. }),
            "{unknown:?}"
        );
        let missing = with("sslmode=verify-ca sslrootcert=/nonexistent").unwrap_err();
        assert!(matches!(missing, PostgresError::Certificates { .. }), "{missing:?}");
        // A password in the clear is told on an encrypted channel.
        assert!(encrypted(&to(&cluster, "clear", "sslmode=require")).unwrap());
    }
}

#[test]
fn a_password_exchange_is_tied_to_the_channel() {
    for installation in test_installations() {
        for name in ["server", "own"] {
            let Some((cluster, certificates)) = secured(&installation, name) else { continue };
            let rest = "sslmode=require channel_binding=require";
            assert!(encrypted(&to(&cluster, "sealed", rest)).unwrap(), "{name}");
            assert!(encrypted(&to(&cluster, "sealed", "sslmode=require channel_binding=disable")).unwrap());
            let clear = encrypted(&to(&cluster, "clear", rest)).unwrap_err();
            assert!(matches!(clear, PostgresError::NoChannelBinding { .. }), "{clear:?}");
            // One that signed itself is its own root; its name counts nevertheless.
            if name == "own" {
                let own = root(&certificates.certificate("own"));
                let with = |host: &str| {
                    encrypted(&to(&cluster, "sealed", &format!("sslmode=verify-full {own} host={host}")))
                };
                assert!(with("localhost").unwrap());
                assert!(matches!(with("example.org"), Err(PostgresError::Tls { .. })));
            }
        }
    }
}

#[test]
fn we_show_a_certificate_of_our_own() {
    for installation in test_installations() {
        let Some((cluster, certificates)) = secured(&installation, "server") else { continue };
        let shown = format!(
            "sslmode=require sslcert='{}' sslkey='{}'",
            certificates.certificate("client").display(),
            certificates.key("client").display()
        );
        assert!(encrypted(&to(&cluster, "certified", &shown)).unwrap());
        let hidden = encrypted(&to(&cluster, "certified", "sslmode=require")).unwrap_err();
        assert_eq!(hidden.sqlstate(), Some("28000"), "{hidden:?}");
        let missing = to(&cluster, "certified", "sslmode=require sslcert=/nonexistent sslkey=/nonexistent");
        assert!(matches!(encrypted(&missing), Err(PostgresError::Certificates { .. })));
    }
}

/// A server of PostgreSQL 17 or newer, as far as it goes here: TLS with the first byte, then a welcome in pieces.
fn direct_server(
    certificates: &Certificates,
    protocols: &[&[u8]],
    listener: &TcpListener,
) -> Option<Vec<u8>> {
    let chain = CertificateDer::pem_file_iter(certificates.certificate("server")).unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.key("server")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = chain.collect::<Result<_, _>>().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let (socket, _) = listener.accept().unwrap();
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket);
    let mut first = vec![0; 8];
    stream.read_exact(&mut first).ok()?;
    for piece in crate::hostile::welcome().chunks(3) {
        stream.write_all(piece).ok()?;
    }
    stream.flush().ok()?;
    // Until the client leaves.
    let _ = stream.read_to_end(&mut Vec::new());
    Some(first)
}

#[test]
fn encryption_may_begin_with_the_first_byte() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path().join("certificates"));
    let ca = root(&certificates.certificate("ca"));
    let open = |protocols: &[&[u8]]| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let options = options(&format!(
            "host=localhost hostaddr=127.0.0.1 port={} user=u sslmode=verify-full {ca} sslnegotiation=direct",
            listener.local_addr().unwrap().port()
        ));
        thread::scope(|scope| {
            let server = scope.spawn(|| direct_server(&certificates, protocols, &listener));
            let opened = Connection::open(&options, Purpose::Sql).map(drop);
            (opened, server.join().unwrap())
        })
    };
    let (opened, first) = open(&[b"postgresql"]);
    opened.unwrap();
    assert_eq!(&first.unwrap()[4..], [0, 3, 0, 0], "the version of the protocol");
    // Who does not name the protocol may be anybody who speaks TLS.
    let (refused, _) = open(&[]);
    assert!(matches!(refused, Err(PostgresError::Tls { .. })), "{refused:?}");
}

#[test]
fn direct_encryption_is_not_for_servers_that_want_to_be_asked() {
    for installation in test_installations() {
        let Some((cluster, _)) = secured(&installation, "server") else { continue };
        let direct = encrypted(&to(&cluster, "sealed", "sslmode=require sslnegotiation=direct"));
        assert_eq!(direct.is_ok(), installation.major >= 17, "{direct:?}");
    }
}

#[test]
fn a_server_without_tls_is_refused_where_it_has_to_have_it() {
    for installation in test_installations() {
        let mut plain = ClusterOptions::new(installation.clone());
        plain.tcp = true;
        let cluster = TestCluster::start_with(plain);
        let refused = encrypted(&to(&cluster, "postgres", "sslmode=require")).unwrap_err();
        assert!(matches!(refused, PostgresError::TlsRefused { .. }), "{refused:?}");
        assert!(refused.hint().unwrap().contains("postgresql.conf"));
        assert!(!encrypted(&to(&cluster, "postgres", "")).unwrap());
    }
}

#[test]
fn a_backup_a_stream_and_a_cancel_go_through_it() {
    for installation in test_installations() {
        let Some((cluster, _)) = secured(&installation, "server") else { continue };
        cluster.pgbench_init(2);
        let options = to(&cluster, "sealed", "sslmode=require");
        let session = Connection::open(&options, Purpose::Replication).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut backup = session.base_backup(&BaseBackupOptions::default()).unwrap();
        let _ = crate::backup::receive(&mut backup, folder.path());
        let (_, mut session) = backup.finish().unwrap();
        let list = Command::new("tar").arg("-tf").arg(folder.path().join("base.tar")).output().unwrap();
        assert!(list.status.success() && String::from_utf8_lossy(&list.stdout).contains("global/pg_control"));

        let identity = session.identify_system().unwrap();
        let start = SegmentSize::DEFAULT.start_of(identity.flushed);
        let mut stream = session.start_replication(None, start, identity.timeline).unwrap();
        let status = stream.split_status();
        thread::scope(|scope| {
            let teller = scope.spawn(move || {
                for _ in 0..200 {
                    assert!(status.send(start, start, Lsn::ZERO, true).unwrap());
                }
            });
            let mut signs = 0;
            while signs < 200 {
                let event = stream.next(Duration::from_secs(60)).unwrap();
                signs += usize::from(matches!(event, StreamEvent::Keepalive { reply_requested: false, .. }));
            }
            teller.join().unwrap();
        });
        drop(stream.stop().unwrap());

        let mut session = Connection::open(&options, Purpose::Sql).unwrap();
        let handle = session.cancel_handle();
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| session.query("select pg_sleep(3600)"));
            cluster.wait_for("select count(*) from pg_stat_activity where wait_event = 'PgSleep'", "1");
            handle.cancel().unwrap();
            assert_eq!(sleeper.join().unwrap().unwrap_err().sqlstate(), Some("57014"));
        });
    }
}
