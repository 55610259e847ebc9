//! Stopping from another thread what a session waits for.
//!
//! Knows the one message that asks a server to stop, and the socket; no conversation.

use crate::error::PostgresError;
use crate::message;
use crate::options::KeepAlive;
use crate::socket::{Address, Socket};
use crate::startup;
use crate::tls::TlsSetup;
use crate::transport::Transport;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a request to cancel begins with in place of a version.
const CANCEL_CODE: u32 = 80_877_102;

/// How long the way to a server that already let us in may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a session's server is reached once more.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) target: String,
    pub(crate) address: Address,
    pub(crate) keep_alive: KeepAlive,
    /// Set where the session is encrypted: then so is the request to cancel it, with whom to speak, and
    /// whether the server is asked before.
    pub(crate) tls: Option<(TlsSetup, bool)>,
}

/// What a server gave us to prove that a session is ours.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct CancelKey(pub(crate) Vec<u8>);

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey({} bytes)", self.0.len())
    }
}

/// Cancels what a session does, or ends it, from another thread.
#[derive(Clone, Debug)]
pub struct CancelHandle {
    route: Arc<Route>,
    key: CancelKey,
    socket: Arc<Socket>,
}

impl CancelHandle {
    pub(crate) const fn new(route: Arc<Route>, key: CancelKey, socket: Arc<Socket>) -> Self {
        Self { route, key, socket }
    }

    /// Asks the server to stop what the session does. The session gets an error of the server (57014) if the
    /// request came in time, and can be used on.
    ///
    /// # Errors
    /// Where the server cannot be reached or gave no key.
    pub fn cancel(&self) -> Result<(), PostgresError> {
        let target = || self.route.target.clone();
        let io = |source| PostgresError::Io { doing: "cancel", target: target(), source };
        if self.key.0.is_empty() {
            return Err(io(std::io::Error::other("the server gave the session no key to cancel it with")));
        }
        let deadline = Some(Instant::now() + PATIENCE);
        let socket = Socket::connect(&self.route.address, &self.route.keep_alive, deadline).map_err(io)?;
        let tls = match &self.route.tls {
            Some((setup, asks)) => startup::encrypt(&socket, &target(), setup, *asks, deadline)?,
            None => None,
        };
        if self.route.tls.is_some() && tls.is_none() {
            return Err(PostgresError::TlsRefused { target: target() });
        }
        let mut transport = Transport::new(Arc::new(socket), tls);
        let mut body = CANCEL_CODE.to_be_bytes().to_vec();
        body.extend(&self.key.0);
        transport.sender().send(&message::untagged(&body)).map_err(io)?;
        // The server hangs up when it has passed the request on. There is nothing else to be learnt.
        drop(transport.receive(&mut [0], deadline));
        Ok(())
    }

    /// Ends the session's connection at once: whoever waits for the server gets an error.
    pub fn shutdown(&self) {
        self.socket.shutdown();
    }
}
