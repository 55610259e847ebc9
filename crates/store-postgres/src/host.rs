//! Whether a server is on the host that we are on.
//!
//! What is kept beside a primary is lost with it, so that a spool counts only on another host. That is not believed:
//! each connection is looked at, since behind the same name there may be another server after a failover. Where nothing
//! speaks for the same host it is another one; a container or a virtual machine on this one can be told from another
//! host only where the server's role may read its files.

use crate::error::{PostgresStoreError, Result};
use lifeboat_wire_postgres::{ConnectOptions, Connection, Purpose, Rows};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Any port: nothing is sent.
const DISCARD_PORT: u16 = 9;
/// A number that Linux draws at each start of a machine; containers see their machine's.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const MAY_READ_FILES: &str = "select pg_catalog.pg_has_role('pg_read_server_files', 'usage') \
     and pg_catalog.has_function_privilege('pg_catalog.pg_read_file(text)', 'execute')";

/// Who says that a server is on another host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Elsewhere {
    /// Each connection is looked at.
    #[default]
    Checked,
    /// The caller, who knows better: a test whose server is on the same host.
    Assumed,
}

/// Why a server is taken to be on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SameHost {
    /// It is reached without a network.
    Socket,
    /// It is reached at an address of this host.
    Address(IpAddr),
    /// It says that it is at an address of this host.
    AddressThere(IpAddr),
    /// It runs on the same start of the same kernel.
    Kernel,
}

impl fmt::Display for SameHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket => f.write_str("it is reached through a unix socket"),
            Self::Address(address) => write!(f, "{address} is an address of this host"),
            Self::AddressThere(address) => {
                write!(f, "the server says that it is at {address}, an address of this host")
            }
            Self::Kernel => f.write_str("it runs on the same kernel, in a container perhaps"),
        }
    }
}

/// What can be seen of where a server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The address that it is reached at; `None` for a socket.
    peer: Option<IpAddr>,
    /// The address that it says it was reached at.
    there: Option<IpAddr>,
    /// What its kernel calls this start, and ours.
    boots: Option<(String, String)>,
}

impl Seen {
    /// What speaks for the same host, where anything does.
    fn same_host(&self, is_ours: &dyn Fn(IpAddr) -> bool) -> Option<SameHost> {
        let Some(peer) = self.peer else { return Some(SameHost::Socket) };
        if peer.is_loopback() || is_ours(peer) {
            return Some(SameHost::Address(peer));
        }
        if self.boots.as_ref().is_some_and(|(theirs, ours)| theirs == ours) {
            return Some(SameHost::Kernel);
        }
        // Every host has a loopback: a proxy beside the server says nothing of us.
        let there = self.there.filter(|there| !there.is_loopback() && is_ours(*there));
        there.map(SameHost::AddressThere)
    }
}

/// Refuses a server that is on this host, where a spool would be lost with it.
///
/// # Errors
/// [`PostgresStoreError::SpoolBesideServer`], or where the server cannot be reached.
pub fn check_elsewhere(server: &ConnectOptions) -> Result<()> {
    refuse_this_host(&Connection::open(server, Purpose::Replication)?, server)
}

/// Refuses to go on where the server is on this host.
pub(crate) fn refuse_this_host(connection: &Connection, options: &ConnectOptions) -> Result<()> {
    let session = connection.session();
    let mut seen = Seen { peer: session.peer_address.map(canonical), ..Seen::default() };
    if seen.peer.is_some() {
        // A role that may only replicate cannot be asked: then the address is all there is.
        let _ = ask(options, &mut seen);
    }
    match seen.same_host(&is_ours) {
        Some(why) => Err(PostgresStoreError::SpoolBesideServer { why }),
        None => Ok(()),
    }
}

fn ask(options: &ConnectOptions, seen: &mut Seen) -> Result<()> {
    let mut connection = Connection::open(options, Purpose::Sql)?;
    let address = connection.query("select pg_catalog.host(pg_catalog.inet_server_addr())")?;
    seen.there = text(&address).and_then(|text| text.parse().ok()).map(canonical);
    if connection.query(MAY_READ_FILES)?.single()? == "t" {
        let theirs = connection.query(&format!("select pg_catalog.pg_read_file('{BOOT_ID}')"))?;
        let ours = std::fs::read_to_string(BOOT_ID).ok();
        seen.boots = text(&theirs).zip(ours).map(|(theirs, ours)| (theirs, ours.trim().to_owned()));
    }
    Ok(())
}

fn text(rows: &Rows) -> Option<String> {
    rows.text(0, 0).ok().flatten().map(|text| text.trim().to_owned())
}

/// An IPv4 address that came as an IPv6 one is the former.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Whether an address is one of this host's: the kernel reaches its own addresses from those addresses.
fn is_ours(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let from = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, DISCARD_PORT))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| canonical(from.ip()) == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
    const THEIRS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 8));

    fn judged(seen: &Seen) -> Option<SameHost> {
        seen.same_host(&|address| address == OURS)
    }

    #[test]
    fn only_what_nothing_speaks_against_is_elsewhere() {
        let at = |peer: IpAddr| Seen { peer: Some(peer), ..Seen::default() };
        let loopback: IpAddr = Ipv4Addr::LOCALHOST.into();
        assert_eq!(judged(&Seen::default()), Some(SameHost::Socket));
        assert_eq!(judged(&at(loopback)), Some(SameHost::Address(loopback)));
        assert_eq!(judged(&at(OURS)), Some(SameHost::Address(OURS)));
        assert_eq!(judged(&at(THEIRS)), None);
        let behind = |there| Seen { there: Some(there), ..at(THEIRS) };
        assert_eq!(judged(&behind(OURS)), Some(SameHost::AddressThere(OURS)), "an address that leads back");
        assert_eq!(judged(&behind(loopback)), None, "a proxy beside the server");
        let boots = |theirs: &str| {
            let boots = Some((theirs.to_owned(), "this-start".to_owned()));
            Seen { boots, ..at(THEIRS) }
        };
        assert_eq!(judged(&boots("this-start")), Some(SameHost::Kernel));
        assert_eq!(judged(&boots("another")), None);
    }

    #[test]
    fn the_kernel_knows_its_own_addresses() {
        assert!(is_ours(Ipv4Addr::LOCALHOST.into()));
        // Addresses for documents: nobody's.
        assert!(!is_ours(Ipv4Addr::new(192, 0, 2, 77).into()));
        assert!(!is_ours("2001:db8::77".parse().unwrap()));
        let own = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            socket.connect("192.0.2.77:9")?;
            socket.local_addr()
        });
        if let Ok(own) = own {
            assert!(is_ours(own.ip()), "{own} is what others see");
        }
    }

    #[test]
    fn addresses_in_other_clothes_are_known() {
        assert_eq!(canonical("::ffff:10.0.0.7".parse().unwrap()), OURS);
    }
}
