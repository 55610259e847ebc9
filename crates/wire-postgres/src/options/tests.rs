//! Connection strings as libpq reads them.

use super::*;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

fn nothing(_: &str) -> Option<String> {
    None
}

#[track_caller]
fn parsed(text: &str) -> ConnectOptions {
    ConnectOptions::parse(text, &nothing).unwrap()
}

fn hosts(options: &ConnectOptions) -> Vec<(String, u16)> {
    options.hosts.iter().map(|spec| (spec.host.to_string(), spec.port)).collect()
}

#[test]
fn urls_are_read() {
    let options =
        parsed("postgresql://us%40er:p%3Ass@db-1:5433,[::1],db-3/my%20db?connect_timeout=7&ssl=true");
    assert_eq!(hosts(&options), [("db-1".into(), 5433), ("::1".into(), 5432), ("db-3".into(), 5432)]);
    assert_eq!((options.user(), options.database()), ("us@er", "my db"));
    assert_eq!(options.password.as_ref().unwrap().0.expose(), b"p:ss");
    assert_eq!(options.connect_timeout, Some(Duration::from_secs(7)));
    assert_eq!(options.ssl.mode, SslMode::Require);
    let socket = parsed("postgres://%2Fvar%2Frun/db?user=u&port=7");
    assert_eq!(socket.hosts[0].socket_path(), Some("/var/run/.s.PGSQL.7".into()));
    let odd = parsed("postgres://u:p?w@h/d");
    assert_eq!((odd.password.as_ref().unwrap().0.expose(), odd.database()), (&b"p?w"[..], "d"));
    assert_eq!(parsed("postgres://u@h").database(), "u");
    assert_eq!(hosts(&parsed("postgres:///db?host=a,b&port=1,2&user=u")), [("a".into(), 1), ("b".into(), 2)]);
}

#[test]
fn keys_and_values_are_read() {
    let options = parsed(r"host = 'a b' user=it\'s password='a\'b\\c' dbname='' port=99 application_name=x");
    assert_eq!(hosts(&options), [("a b".into(), 99)]);
    assert_eq!((options.user(), options.database(), options.application_name()), ("it's", "it's", "x"));
    assert_eq!(options.password.as_ref().unwrap().0.expose(), br"a'b\c");
    assert_eq!(parsed("user=a user=b").user(), "b");
    assert_eq!(parsed("user=u connect_timeout=0").connect_timeout, None);
    assert_eq!(parsed("user=u").connect_timeout, Some(CONNECT_TIMEOUT));
}

#[test]
fn what_is_not_said_comes_from_the_environment() {
    let environment = |name: &str| {
        let value = match name {
            "PGHOST" => "env-host",
            "PGPORT" => "6000",
            "PGUSER" => "env-user",
            "PGPASSWORD" => "env-password",
            "PGDATABASE" => "env-db",
            "PGSSLMODE" => "verify-full",
            "PGSSLROOTCERT" => "/root.crt",
            "PGAPPNAME" => "env-app",
            "PGCONNECT_TIMEOUT" => "5",
            "PGPASSFILE" => "/pass",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let options = ConnectOptions::parse("", &environment).unwrap();
    assert_eq!(options.display_target(), "postgres://env-user@env-host:6000/env-db");
    assert_eq!(options.password.as_ref().unwrap().1, PasswordSource::Environment);
    assert_eq!(options.ssl.mode, SslMode::VerifyFull);
    assert_eq!(options.ssl.roots, RootCertificates::File("/root.crt".into()));
    assert_eq!(
        (options.application_name(), options.connect_timeout),
        ("env-app", Some(Duration::from_secs(5)))
    );
    assert_eq!(options.passfile, Some("/pass".into()));
    let options = ConnectOptions::parse("postgres://me:mine@here/db?sslmode=disable", &environment).unwrap();
    assert_eq!(options.display_target(), "postgres://me@here:6000/db");
    assert_eq!(options.password.as_ref().unwrap().1, PasswordSource::Given);
    let unserved = |name: &str| (name == "PGREQUIREAUTH").then(|| "md5".to_owned());
    assert!(matches!(ConnectOptions::parse("user=u", &unserved), Err(OptionsError::Unserved { .. })));
}

#[test]
fn a_service_stands_between_the_text_and_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("services");
    let mut file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, b"[main]\nhost=from-service\nuser=from-service\nport=7000\n")
        .unwrap();
    let environment = |name: &str| match name {
        "PGSERVICEFILE" => Some(path.display().to_string()),
        "PGSERVICE" => Some("main".to_owned()),
        "PGPORT" => Some("1".to_owned()),
        _ => None,
    };
    let options = ConnectOptions::parse("user=me", &environment).unwrap();
    assert_eq!(options.display_target(), "postgres://me@from-service:7000/me");
    let absent = ConnectOptions::parse("service=absent", &environment);
    assert!(matches!(absent, Err(OptionsError::NoService { .. })), "{absent:?}");
}

#[test]
fn what_makes_no_sense_is_refused_without_showing_it() {
    for text in [
        "postgres://u:s3cret@h:port/d",
        "postgres://u:s3cret@@h:s3cret/d",
        "postgres://u:s3cret@h/d?sslmode=s3cret",
        "postgres://u:s3cret%zz@h/d",
        "postgres://u:s3cret%00@h/d",
        "postgres://u:s3cret@[::1/d",
        "postgres://u:s3cret@h:0/d",
        "postgres://u:s3cret@h/d?connect_timeout=s3cret",
        "password=s3cret port=70000",
        "password='s3cret",
        "password=s3cret s3cret",
        "password=s3cret client_encoding=LATIN1",
        "password=s3cret gssencmode=require",
        "password=s3cret host=@abstract",
        "password=s3cret host=a,b hostaddr=127.0.0.1",
        "password=s3cret host=a,b port=1,2,3",
        "password=s3cret sslnegotiation=direct",
        "password=s3cret sslmode=require sslrootcert=system",
        "password=s3cret sslcrl=x",
    ] {
        let error = ConnectOptions::parse(text, &nothing).unwrap_err();
        let shown = format!("{error} {error:?} {:?}", error.hint());
        assert!(!shown.contains("s3cret"), "{text}: {shown}");
        assert!(error.hint().is_some(), "{text}");
    }
    let misspelt = ConnectOptions::parse("user=u hots=a", &nothing).unwrap_err();
    assert_eq!(misspelt.hint().as_deref(), Some("Did you mean host?"));
}

#[test]
fn the_password_is_never_shown() {
    let options = parsed("postgres://u:s3cret@h/d");
    assert!(!format!("{options:?} {}", options.display_target()).contains("s3cret"));
    let socket = parsed("host=/run user=u@x password=s3cret port=3");
    assert_eq!(socket.display_target(), "postgres://u%40x@/u%40x?host=/run&port=3");
}

#[test]
fn the_url_that_is_shown_leads_to_the_same_servers() {
    for text in [
        "host='/run/a&b %41' user=u dbname=d port=7",
        "host='h1,[x]:1,/a b' user=u port=1,2,3",
        "postgres://u@[fe80::1%25eth0]/d",
    ] {
        let options = parsed(text);
        let again = parsed(&options.display_target());
        assert_eq!(again.hosts(), options.hosts(), "{}", options.display_target());
    }
    assert_eq!(parsed("postgres://u@[::1]/d").display_target(), "postgres://u@[::1]:5432/d");
}

#[test]
fn a_zero_byte_is_refused_wherever_it_comes_from() {
    let error = ConnectOptions::parse("host=h user=u dbname='a\0b'", &nothing).unwrap_err();
    assert!(matches!(&error, OptionsError::Value { name, .. } if name == "dbname"), "{error:?}");
    let environment = |name: &str| (name == "PGUSER").then(|| "a\0b".to_owned());
    let error = ConnectOptions::parse("host=h", &environment).unwrap_err();
    assert!(matches!(&error, OptionsError::Value { name, .. } if name == "user"), "{error:?}");
}

#[test]
fn a_password_file_is_read_as_libpq_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgpass");
    let text = "# no\r\nh:1:d:u:one\n\\*:1:d:u:never\n*:2:d\\:x:u:t\\:w\\\\o\r\nlocalhost:*:*:*:three:colon\n*:9:*:*:\n*:9:*:*:late\n";
    let mut file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
    let find = |host: Host, port, database: &str, user: &str| match look_up(
        &path,
        &HostSpec { host, address: None, port },
        database,
        user,
    ) {
        Lookup::Found(password) => Some(String::from_utf8(password.expose().to_vec()).unwrap()),
        Lookup::Nothing => None,
        Lookup::Distrusted(why) => panic!("{why}"),
    };
    let name = |name: &str| Host::Name(name.to_owned());
    assert_eq!(find(name("h"), 1, "d", "u").as_deref(), Some("one"));
    assert_eq!(find(name("x"), 1, "d", "u"), None);
    assert_eq!(find(name("x"), 2, "d:x", "u").as_deref(), Some("t:w\\o"));
    assert_eq!(find(Host::Directory("/tmp".into()), 5, "any", "body").as_deref(), Some("three"));
    assert_eq!(find(Host::Directory("/elsewhere".into()), 5, "any", "body"), None);
    assert_eq!(find(name("x"), 9, "d", "u"), None);
}

#[test]
fn what_is_left_of_a_line_that_is_too_long_is_no_line() {
    let wanted = ["h", "1", "d", "u"].map(str::to_owned);
    for (before, found) in [((64 << 10) - 1, None), (64 << 10, None), ((64 << 10) + 3, None), (70_000, None)]
    {
        let mut file = vec![b'x'; before];
        file.extend_from_slice(b"h:1:d:u:no\n");
        assert_eq!(fuzz_passfile(&file, &wanted), found, "{before}");
        file.extend_from_slice(b"h:1:d:u:yes\n");
        assert_eq!(fuzz_passfile(&file, &wanted), Some(b"yes".to_vec()), "{before}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(postgres://)?[a-z0-9:/@?&=%,' \\\\\\[\\]ä]{0,60}") {
        let _ = ConnectOptions::parse(&text, &nothing);
    }

    #[test]
    fn any_value_can_be_written_either_way(value in "[^\0]{1,30}") {
        let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
        let options = parsed(&format!("user=u password='{quoted}'"));
        prop_assert_eq!(options.password.as_ref().unwrap().0.expose(), value.as_bytes());
        let options = parsed(&format!("postgres://u:{}@h/d", escape(&value, b"")));
        prop_assert_eq!(options.password.as_ref().unwrap().0.expose(), value.as_bytes());
    }
}
