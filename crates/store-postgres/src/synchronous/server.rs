//! What the watchdog asks of the server, and does there: one SQL session.
//!
//! It knows the server's views and `ALTER SYSTEM`. It deliberately does not know when anything is to be done.
//!
//! Failpoints: `synchronous::altered-not-reloaded` (the new list is in the server's file, not in its mind),
//! `synchronous::reloaded`.

use super::exposure::{Listed, Placement, Records};
use super::names::SynchronousNames;
use super::waits::Waiter;
use super::{Result, SynchronousError};
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::failpoint;
use lifeboat_postgres_wal::Lsn;
use lifeboat_wire_postgres::{ConnectOptions, Connection, PostgresError, Purpose, Rows};
use std::thread;
use std::time::Duration;

/// What the session of a watchdog calls itself: not what the follower does, whose name is in the list.
const APPLICATION: &str = "lifeboat watchdog";
/// No commit of ours may wait for us, and no answer may take for ever.
const SETTINGS: &str = "set synchronous_commit = local; set statement_timeout = '10s'; \
     set standard_conforming_strings = on";
/// The server reads its settings at once; a machine under load takes its time.
const READS_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// The file that `ALTER SYSTEM` writes.
const AUTOMATIC: &str = "postgresql.auto.conf";

/// A session with the server that waits for us.
#[derive(Debug)]
pub(crate) struct Server {
    connection: Connection,
    name: String,
}

/// What the server shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The list as it is.
    pub(crate) list: Listed,
    /// Whether `ALTER SYSTEM` can change it at all.
    pub(crate) changeable: bool,
    /// Up to where its log is durable there.
    pub(crate) written: Lsn,
    /// Up to where we have acknowledged; `None` where we are not streaming.
    pub(crate) acknowledged: Option<Lsn>,
    /// Whether it counts us among those it waits for.
    pub(crate) counted: bool,
    /// Which sessions wait for a standby.
    pub(crate) waiters: Vec<Waiter>,
}

impl Server {
    /// Opens the session.
    pub(crate) fn open(options: &ConnectOptions, name: &str) -> Result<Self> {
        let mut options = options.clone();
        options.set_application_name(APPLICATION);
        let mut connection = Connection::open(&options, Purpose::Sql)?;
        connection.execute(SETTINGS)?;
        if connection.query("select pg_catalog.pg_is_in_recovery()")?.single()? == "t" {
            return Err(SynchronousError::Standby);
        }
        Ok(Self { connection, name: name.to_owned() })
    }

    /// Looks at everything at once.
    pub(crate) fn look(&mut self) -> Result<Shown> {
        let name = literal(&self.name);
        // The log's end is asked last: whoever waits has written before it.
        let answers = self.connection.query_all(&format!(
            "select pg_catalog.current_setting('synchronous_standby_names'), source, sourcefile \
               from pg_catalog.pg_settings where name = 'synchronous_standby_names';
             select min(flush_lsn), coalesce(pg_catalog.bool_or(sync_state in ('sync', 'quorum')), false) \
               from pg_catalog.pg_stat_replication \
               where pg_catalog.lower(application_name) = pg_catalog.lower({name}) \
                 and state in ('streaming', 'stopping');
             select pg_catalog.concat_ws('/', pid, xact_start, query_start, backend_xid) \
               from pg_catalog.pg_stat_activity where wait_event_type = 'IPC' and wait_event = 'SyncRep';
             select pg_catalog.pg_current_wal_flush_lsn()"
        ))?;
        let [setting, standby, waiting, written] = answers.as_slice() else {
            return Err(unexpected("another number of results than questions"));
        };
        let by_reset = !setting.text(0, 2)?.is_some_and(|file| file.ends_with(AUTOMATIC));
        let names = setting.text(0, 0)?.unwrap_or_default().to_owned();
        Ok(Shown {
            list: Listed { names, by_reset },
            changeable: !matches!(setting.text(0, 1)?, Some("command line" | "environment variable")),
            written: position(written, 0)?.ok_or_else(|| unexpected("no end of the log"))?,
            acknowledged: position(standby, 0)?,
            counted: standby.text(0, 1)? == Some("t"),
            waiters: waiters(waiting)?,
        })
    }

    /// Sees that the list has our name.
    pub(crate) fn place(&mut self, records: &mut Records) -> Result<()> {
        let current = self.look()?.list;
        let names = SynchronousNames::parse(&current.names)?;
        if names.lists(&self.name) {
            return Ok(());
        }
        let placement = match known(records).filter(|known| known.without.names == current.names) {
            Some(known) => known,
            None => Placement { with: set(names.with(&self.name)?.to_string()), without: current },
        };
        records.keep_placement(&placement)?;
        self.change_to(&placement.with)
    }

    /// Sees that the list does not have our name, in the server's file as well: what was put in may not have been
    /// read yet.
    pub(crate) fn remove(&mut self, records: &mut Records) -> Result<()> {
        let current = self.look()?.list;
        let names = SynchronousNames::parse(&current.names)?;
        let known = known(records);
        let placement = match known {
            Some(known) if known.with.names == current.names => known,
            // Others may have changed the list meanwhile, and the server's file may have yet another one.
            _ if names.lists(&self.name) => {
                Placement { without: set(names.without(&self.name)?.to_string()), with: current }
            }
            Some(known) if known.without.names == current.names => known,
            _ => return Ok(()),
        };
        // A disk that is full must not keep commits waiting: the list can still be made up again from itself.
        let kept = records.keep_placement(&placement);
        self.change_to(&placement.without)?;
        Ok(kept?)
    }

    /// Changes the list, and waits until the server goes by it.
    fn change_to(&mut self, wanted: &Listed) -> Result<()> {
        let command = match wanted.by_reset {
            true => "alter system reset synchronous_standby_names".to_owned(),
            false => format!("alter system set synchronous_standby_names = {}", literal(&wanted.names)),
        };
        self.connection.execute(&command)?;
        failpoint::reach("synchronous::altered-not-reloaded").map_err(SynchronousError::Failpoint)?;
        self.connection.execute("select pg_catalog.pg_reload_conf()")?;
        failpoint::reach("synchronous::reloaded").map_err(SynchronousError::Failpoint)?;
        self.wait_for(&wanted.names)
    }

    fn wait_for(&mut self, names: &str) -> Result<()> {
        let waited = Stopwatch::start();
        loop {
            let now =
                self.connection.query("select pg_catalog.current_setting('synchronous_standby_names')")?;
            if now.single()? == names {
                return Ok(());
            }
            if waited.elapsed() > READS_WITHIN {
                let now = now.single()?.to_owned();
                return Err(SynchronousError::NotTaken { wanted: names.to_owned(), now });
            }
            thread::sleep(POLL);
        }
    }

    /// What the role may do, and what would be in the way.
    pub(crate) fn facts(&mut self) -> Result<RoleFacts> {
        let rows = self.connection.query(
            "select current_user, \
               pg_catalog.has_parameter_privilege('synchronous_standby_names', 'ALTER SYSTEM'), \
               pg_catalog.has_function_privilege('pg_catalog.pg_reload_conf()', 'EXECUTE'), \
               pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'), \
               pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE'), \
               pg_catalog.quote_ident(current_user), \
               coalesce(pg_catalog.current_setting('allow_alter_system', true), 'on')",
        )?;
        let may = |column| Ok::<_, PostgresError>(rows.text(0, column)? == Some("t"));
        let text = |column| Ok::<_, PostgresError>(rows.text(0, column)?.unwrap_or_default().to_owned());
        Ok(RoleFacts {
            role: text(0)?,
            quoted_role: text(5)?,
            may_alter: may(1)?,
            may_reload: may(2)?,
            may_see: may(3)? && may(4)?,
            allow_alter_system: text(6)? == "on",
        })
    }

    /// What `synchronous_commit` is for sessions that say nothing: ours says something.
    pub(crate) fn synchronous_commit(&mut self) -> Result<String> {
        let rows = self
            .connection
            .query("select reset_val from pg_catalog.pg_settings where name = 'synchronous_commit'")?;
        Ok(rows.single()?.to_owned())
    }
}

/// What a role may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoleFacts {
    pub(crate) role: String,
    pub(crate) quoted_role: String,
    pub(crate) may_alter: bool,
    pub(crate) may_reload: bool,
    pub(crate) may_see: bool,
    pub(crate) allow_alter_system: bool,
}

/// What is on record, if it can be read: what cannot is made up again.
fn known(records: &Records) -> Option<Placement> {
    records.placement().ok().flatten()
}

fn set(names: String) -> Listed {
    Listed { names, by_reset: false }
}

fn waiters(rows: &Rows) -> Result<Vec<Waiter>> {
    (0..rows.len()).map(|row| Ok(Waiter(rows.text(row, 0)?.unwrap_or_default().to_owned()))).collect()
}

fn position(rows: &Rows, column: usize) -> Result<Option<Lsn>> {
    let Some(text) = rows.text(0, column)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| unexpected("a position that is none"))
}

fn unexpected(what: &str) -> SynchronousError {
    PostgresError::Result { doing: "look at the synchronous standbys", what: what.to_owned() }.into()
}

/// Text as SQL has it, with `standard_conforming_strings`.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
