//! The socket under a session: TCP or unix, with deadlines.
//!
//! Knows no byte of the protocol.

use crate::options::KeepAlive;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a write may wait for the server to take what we say. What we say is short, so that a server that
/// does not take it for so long is stuck.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a socket leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A connected socket. Reads and writes may happen in two threads.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(crate) fn connect(
        address: &Address,
        keep_alive: &KeepAlive,
        deadline: Option<Instant>,
    ) -> io::Result<Self> {
        match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
                Ok(Self::Unix(stream))
            }
            Address::Tcp(address) => {
                let stream = match deadline {
                    Some(deadline) => TcpStream::connect_timeout(address, remaining(deadline)?)?,
                    None => TcpStream::connect(address)?,
                };
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
                watch_over(&stream, keep_alive)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Tcp(stream) => (&*stream).read(into),
                Self::Unix(stream) => (&*stream).read(into),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Reads what comes before a deadline; `TimedOut` where nothing does.
    pub(crate) fn read_before(&self, into: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        if let Some(deadline) = deadline {
            self.wait_until_readable(deadline)?;
        }
        self.read(into)
    }

    fn wait_until_readable(&self, deadline: Instant) -> io::Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut polled = [PollFd::new(self, PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&timeout)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => (&*stream).write_all(bytes),
            Self::Unix(stream) => (&*stream).write_all(bytes),
        }
    }

    /// Ends the connection for everybody who reads or writes it, in whatever thread.
    pub(crate) fn shutdown(&self) {
        let result = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
        // A socket that is not connected any more is what was asked for.
        drop(result);
    }

    /// The address that the other side sees, unless something between us changes it.
    pub(crate) fn local_address(&self) -> Option<String> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok().map(|address| address.ip().to_string()),
            Self::Unix(_) => None,
        }
    }

    /// The address of the other side.
    pub(crate) fn peer_address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok().map(|address| address.ip()),
            Self::Unix(_) => None,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// A socket with a deadline, for who knows only reading and writing.
#[derive(Debug)]
pub(crate) struct Until<'s> {
    pub(crate) socket: &'s Socket,
    pub(crate) deadline: Option<Instant>,
}

impl Read for Until<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.read_before(into, self.deadline)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is left until a deadline; an error where nothing is.
fn remaining(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A server that vanished without a word is noticed by silence, or by what we sent not being acknowledged:
/// keepalive probes wait while something is unacknowledged, hence both.
fn watch_over(stream: &TcpStream, keep_alive: &KeepAlive) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, keep_alive.enabled)?;
    if keep_alive.enabled {
        let second = Duration::from_secs(1);
        sockopt::set_tcp_keepidle(stream, keep_alive.idle.max(second))?;
        sockopt::set_tcp_keepintvl(stream, keep_alive.interval.max(second))?;
        sockopt::set_tcp_keepcnt(stream, keep_alive.count.max(1))?;
    }
    let unacknowledged = u32::try_from(keep_alive.unacknowledged.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(stream, unacknowledged)?)
}
