//! Proving a dump: really restored into a server of its own, new and empty, and questioned.
//!
//! What a dump takes for granted (roles, tablespaces) is made first; what only its old server had (an extension, a
//! library) makes the proof inconclusive and not failed. Restoring a dump runs what is in it: SQL as the superuser
//! of the scratch server, but no commands of psql, which is told to refuse them.

use super::dump::{Dump, TOC};
use super::names::Needed;
use super::tools::{Line, fed, for_each_line, installation_for, said, with_dump};
use crate::error::{RecoveryError, Result};
use crate::postgres::ask_all;
use crate::prove::{Proof, damaged_or, read_back};
use crate::queries::{Answered, ProofQuery};
use crate::restore::{RestoreOptions, restore};
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::{hex, random};
use lifeboat_postgres_server::{Identity, Installation, Server, ServerOptions, ServerPlace, StopMode};
use lifeboat_repository::{Published, Reader};
use lifeboat_store::progress::Progress;
use lifeboat_store_postgres::{Answers, question};
use lifeboat_wire_postgres::{ConnectOptions, Connection, PostgresError, Purpose};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Who owns the scratch server. A dump of a whole cluster makes the role `postgres` itself.
const SUPERUSER: &str = "lifeboat_proof";
/// The database that is restored into.
const DATABASE: &str = "restored";
/// An empty server is ready at once, unless the machine is busy.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// How often it is tried again with the roles that were missed.
const MAX_ATTEMPTS: u32 = 20;
/// The encodings that a database can have; text in others is converted.
const NOT_FOR_SERVERS: [&str; 7] = ["BIG5", "GB18030", "GBK", "JOHAB", "SJIS", "SHIFT_JIS_2004", "UHC"];
/// What only the old server had: nothing is wrong with the dump.
const NOT_THE_DUMPS_FAULT: [&str; 11] = [
    "is not available",
    "could not open extension control file",
    "could not access file",
    "could not load library",
    "can only be loaded via shared_preload_libraries",
    "must be loaded via shared_preload_libraries",
    "collation \"",
    "could not create locale",
    "invalid command \\restrict",
    "backslash commands are restricted",
    "unsupported version",
];

/// What is asked of a restored dump beside what is always asked.
#[derive(Clone, Debug, Default)]
pub struct DumpQuestions {
    /// The plan's own questions.
    pub queries: Vec<ProofQuery>,
    /// Whose programs restore and ask; `None`: the oldest found here that are new enough.
    pub installation: Option<Installation>,
}

/// What the server said that the dump was restored into.
#[derive(Clone, Debug, Default)]
pub struct DumpProof {
    /// Its version; `None` where none could be started.
    pub server: Option<String>,
    /// How long the dump took to be restored into it.
    pub restoring: Duration,
    /// The roles that the dump needed and that were made.
    pub roles: Vec<String>,
    /// What it answered.
    pub answers: Answers,
    /// The plan's own questions, until the proof has them.
    answered: Vec<Answered>,
}

/// Proves a snapshot of a dump in a scratch place.
///
/// # Errors
/// Where the proof could not be carried out; damage is an answer, not an error. Without a server that is new
/// enough the verdict is `inconclusive`.
pub fn prove_dump(
    reader: &Reader,
    published: &Published,
    scratch: &Path,
    questions: &DumpQuestions,
    progress: &Progress,
) -> Result<Proof> {
    let identity = Identity::suitable()?;
    let room = ServerPlace::new(scratch, &identity)?;
    let place = room.path().join("dump");
    let restored = match restore(reader, published, &place, &RestoreOptions::default(), progress) {
        Ok(restored) => restored,
        Err(error) => return damaged_or(error),
    };
    let watch = Stopwatch::start();
    let mut proof = Proof::new();
    proof.restoring = restored.took;
    read_back(reader, published, &place, &mut proof)?;
    for problem in &restored.report.left_out.first {
        proof.fail(lifeboat_base::report(problem));
    }
    identity.own(room.path()).map_err(RecoveryError::io("give to the server's user", room.path()))?;
    let mut found = DumpProof::default();
    match dump_in(&place) {
        Ok(Some(dump)) => examine(&dump, &identity, &room, questions, &mut found, progress)?,
        Ok(None) => found.answers.faults.push("the snapshot holds no dump".to_owned()),
        Err(error) => found.answers.faults.push(lifeboat_base::report(&error)),
    }
    for answered in std::mem::take(&mut found.answered) {
        proof.add(answered);
    }
    for fault in found.answers.faults.clone() {
        proof.fail(fault);
    }
    for doubt in found.answers.doubts.clone() {
        proof.doubt_if(true, || doubt);
    }
    proof.questioning = watch.elapsed().saturating_sub(found.restoring);
    proof.restoring += found.restoring;
    proof.dump = Some(found);
    Ok(proof)
}

/// The dump that was restored: a folder with a table of contents, or the one file.
fn dump_in(place: &Path) -> Result<Option<Dump>> {
    if place.join(TOC).is_file() {
        return Dump::recognise(place);
    }
    let mut listing = std::fs::read_dir(place).map_err(RecoveryError::io("list", place))?;
    match listing.next() {
        Some(entry) => Dump::recognise(&entry.map_err(RecoveryError::io("list", place))?.path()),
        None => Ok(None),
    }
}

fn examine(
    dump: &Dump,
    identity: &Identity,
    room: &ServerPlace,
    questions: &DumpQuestions,
    found: &mut DumpProof,
    progress: &Progress,
) -> Result<()> {
    let needed = dump.needs_major();
    let Some(installation) = installation_for(needed, questions.installation.as_ref()) else {
        found
            .answers
            .doubts
            .push(format!("no PostgreSQL of version {needed} or newer is here to restore it"));
        return Ok(());
    };
    if dump.format.is_plain() && !can_restrict(&installation) {
        found.answers.doubts.push(format!(
            "psql {} cannot be told to refuse commands that a dump may hold; a newer minor release can",
            installation.version
        ));
        return Ok(());
    }
    let bench = Bench { dump, installation, identity, data: room.path().join("data") };
    bench.run(questions, found, progress)
}

/// Whether psql knows `\restrict`, which keeps a dump from running commands of its own here.
fn can_restrict(installation: &Installation) -> bool {
    let minor = installation.version.split('.').nth(1).unwrap_or_default();
    let end = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    let minor: u32 = minor[..end].parse().unwrap_or(0);
    let since = match installation.major {
        ..=12 => return false,
        13 => 22,
        14 => 19,
        15 => 14,
        16 => 10,
        17 => 6,
        _ => 0,
    };
    minor >= since
}

struct Bench<'b> {
    dump: &'b Dump,
    installation: Installation,
    identity: &'b Identity,
    data: PathBuf,
}

impl Bench<'_> {
    fn run(&self, questions: &DumpQuestions, found: &mut DumpProof, progress: &Progress) -> Result<()> {
        let mut needed = match self.needed() {
            Ok(needed) => needed,
            Err(said) => {
                found.answers.faults.push(said);
                return Ok(());
            }
        };
        if needed.connects {
            found.answers.doubts.push(
                "the dump makes its databases itself (pg_dumpall, or pg_dump --create), which cannot be done in one transaction: restore it by hand"
                    .to_owned(),
            );
            return Ok(());
        }
        self.make_cluster(&needed)?;
        found.server = Some(self.installation.version.clone());
        let sockets = ServerPlace::for_sockets(self.identity)?;
        let mut server = Server::start(&self.installation, self.identity, self.server_options(&sockets))?;
        server.wait_ready(READY_WITHIN, &mut || progress.count_bytes(0))?;
        let watch = Stopwatch::start();
        let restored = self.restore(&server, &mut needed, found)?;
        found.restoring = watch.elapsed();
        if restored {
            self.ask(&server, questions, found);
        }
        if let Err(error) = server.stop(StopMode::Immediate) {
            found.answers.doubts.push(format!("the server did not stop: {}", lifeboat_base::report(&error)));
        }
        Ok(())
    }

    /// What the dump takes for granted; or what keeps it from being read.
    fn needed(&self) -> Result<Needed, String> {
        let mut needed = Needed::default();
        let mut visit = |line: Line<'_>| {
            needed.see(line);
            Ok(())
        };
        if self.dump.format.is_plain() {
            let read = self.dump.unpacked().map_err(|error| lifeboat_base::report(&error))?;
            let mut read = read;
            for_each_line(&mut read, &mut visit)
                .map_err(|error| format!("the dump cannot be read: {error}"))?;
            return Ok(needed);
        }
        let mut command = self.installation.command("pg_restore", self.identity);
        command.args(["--schema-only", "--file=-"]);
        let listed = with_dump(command, self.dump, Stdio::piped());
        let listed = listed.map_err(|error| lifeboat_base::report(&error))?;
        if !listed.status.success() {
            return Err(format!("pg_restore cannot read it: {}", said(&listed)));
        }
        for_each_line(&mut listed.stdout.as_slice(), &mut visit).map_err(|error| error.to_string())?;
        Ok(needed)
    }

    fn make_cluster(&self, needed: &Needed) -> Result<()> {
        let encoding = needed.encoding.as_deref().unwrap_or("UTF8");
        let encoding = if NOT_FOR_SERVERS.contains(&encoding) { "UTF8" } else { encoding };
        let mut command = self.installation.command("initdb", self.identity);
        command
            .arg("--pgdata")
            .arg(&self.data)
            .args(["--auth=trust", "--no-sync", "--no-locale", "--encoding", encoding])
            .args(["--username", SUPERUSER]);
        let made = command.output().map_err(RecoveryError::io("make a cluster in", &self.data))?;
        if !made.status.success() {
            let error = io::Error::other(said(&made));
            return Err(RecoveryError::io("make a cluster in", &self.data)(error));
        }
        Ok(())
    }

    /// A server that has nothing to lose.
    fn server_options(&self, sockets: &ServerPlace) -> ServerOptions {
        let mut options = ServerOptions::new(&self.data, sockets.path());
        for (name, value) in [
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("wal_level", "minimal"),
            ("max_wal_senders", "0"),
            ("max_wal_size", "2GB"),
            ("shared_buffers", "128MB"),
            ("huge_pages", "off"),
            ("max_connections", "20"),
            // One transaction locks every table and large object that it makes.
            ("max_locks_per_transaction", "4096"),
            ("autovacuum", "off"),
            ("allow_in_place_tablespaces", "on"),
            // As a proof of a cluster.
            ("jit", "off"),
        ] {
            options.settings.push((name.to_owned(), value.to_owned()));
        }
        options
    }

    /// Restores the dump, whole or not at all. False where that failed, and `found` says why.
    fn restore(&self, server: &Server, needed: &mut Needed, found: &mut DumpProof) -> Result<bool> {
        let mut made = Made::default();
        for _ in 0..MAX_ATTEMPTS {
            made.prepare(&connect_options(server, "postgres")?, needed)?;
            found.roles = made.roles.iter().cloned().collect();
            let output = self.load(server, needed)?;
            if output.status.success() {
                return Ok(true);
            }
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            if needed.see_complaint(&complaint) {
                continue;
            }
            let said = format!("it cannot be restored: {}", said(&output));
            match NOT_THE_DUMPS_FAULT.iter().any(|words| complaint.contains(words)) {
                true => found.answers.doubts.push(said),
                false => found.answers.faults.push(said),
            }
            return Ok(false);
        }
        found.answers.doubts.push("it needs more roles than could be found out".to_owned());
        Ok(false)
    }

    fn load(&self, server: &Server, needed: &Needed) -> Result<Output> {
        match self.dump.format.is_plain() {
            true => self.load_sql(server, needed),
            false => {
                let mut command = self.client("pg_restore", server);
                command.arg("--exit-on-error");
                with_dump(command, self.dump, Stdio::null())
            }
        }
    }

    fn load_sql(&self, server: &Server, needed: &Needed) -> Result<Output> {
        let mut command = self.client("psql", server);
        command.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"]).stdout(Stdio::null());
        let mut sql = self.dump.unpacked()?;
        let own = hex::encode(&random::bytes::<16>());
        fed(command, &mut |stdin| {
            writeln!(stdin, "\\restrict {own}")?;
            for_each_line(&mut sql, &mut |line| match needed.is_guard(line) {
                // Ours guards all of it; psql takes no second one.
                true => Ok(()),
                false => stdin.write_all(line.bytes),
            })
        })
        .map_err(RecoveryError::io("restore", &self.dump.path))
    }

    fn client(&self, program: &str, server: &Server) -> Command {
        let mut command = self.installation.command(program, self.identity);
        command
            .args(["--single-transaction", "--no-password", "--username", SUPERUSER, "--dbname", DATABASE])
            .arg("--host")
            .arg(server.socket_dir())
            .args(["--port", &server.port().to_string()]);
        command
    }

    fn ask(&self, server: &Server, questions: &DumpQuestions, found: &mut DumpProof) {
        let asked = connect_options(server, DATABASE)
            .map_err(|error| lifeboat_base::report(&error))
            .and_then(|options| {
                let asked = question(&options, &self.installation, self.identity, server);
                asked.map(|answers| (options, answers)).map_err(|error| lifeboat_base::report(&error))
            });
        match asked {
            Ok((options, mut answers)) => {
                found.answered = ask_all(&options, DATABASE, &questions.queries);
                answers.tables.retain(|table| table.database == DATABASE);
                found.answers = answers;
            }
            Err(error) => {
                found.answers.faults.push(format!("the restored database cannot be asked: {error}"));
            }
        }
    }
}

fn connect_options(server: &Server, database: &str) -> Result<ConnectOptions> {
    let user = |name: &str| (name == "PGUSER").then(|| SUPERUSER.to_owned());
    Ok(ConnectOptions::parse(&server.url(database), &user).map_err(PostgresError::from)?)
}

impl Needed {
    /// Whether a line turns psql's own guard on or off.
    fn is_guard(&self, line: Line<'_>) -> bool {
        let Some(guard) = self.guard.as_deref().filter(|_| line.begins && !line.is_data) else {
            return false;
        };
        let text = line.bytes.trim_ascii_end();
        let named = text.strip_prefix(b"\\restrict ").or_else(|| text.strip_prefix(b"\\unrestrict "));
        named == Some(guard)
    }
}

/// What was made in the scratch server.
#[derive(Default)]
struct Made {
    roles: std::collections::BTreeSet<String>,
    tablespaces: bool,
}

impl Made {
    /// Makes the roles and tablespaces that are still missing, and the database anew.
    fn prepare(&mut self, options: &ConnectOptions, needed: &Needed) -> Result<(), PostgresError> {
        let mut connection = Connection::open(options, Purpose::Sql)?;
        for role in needed.roles.difference(&self.roles) {
            connection.execute(&format!("create role {}", quoted(role)))?;
        }
        self.roles = needed.roles.clone();
        if !std::mem::replace(&mut self.tablespaces, true) {
            for tablespace in &needed.tablespaces {
                connection.execute(&format!("create tablespace {} location ''", quoted(tablespace)))?;
            }
        }
        connection.execute(&format!("drop database if exists {DATABASE}"))?;
        connection.execute(&format!("create database {DATABASE} template template0"))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::super::dump::{DumpFormat, Packing};
    use super::*;

    #[test]
    fn only_the_dumps_own_guard_is_left_out() {
        let needed = Needed { guard: Some(b"abc".to_vec()), ..Needed::default() };
        let line = |bytes: &'static [u8], is_data| Line { bytes, begins: true, is_data };
        assert!(needed.is_guard(line(b"\\restrict abc\n", false)));
        assert!(needed.is_guard(line(b"\\unrestrict abc\r\n", false)));
        assert!(!needed.is_guard(line(b"\\unrestrict xyz\n", false)));
        assert!(!needed.is_guard(line(b"\\restrict abc\n", true)));
        assert!(!Needed::default().is_guard(line(b"\\restrict abc\n", false)));
    }

    #[test]
    fn formats_and_packings_have_words_of_their_own() {
        let formats = [DumpFormat::Custom, DumpFormat::Directory, DumpFormat::Tar, DumpFormat::Plain];
        let words: std::collections::BTreeSet<_> = formats.map(DumpFormat::word).into();
        assert_eq!(words.len(), formats.len());
        assert_ne!(Packing::Gzip.word(), Packing::Zstd.word());
    }
}
