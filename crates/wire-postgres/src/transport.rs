//! A session's bytes, in the clear or through TLS, read by one and written by several.
//!
//! Ciphertext is read from the socket without holding the lock of the TLS state, so that whoever waits for the
//! server does not keep another thread from sending. Knows no message.

use crate::socket::Socket;
use rustls::ClientConnection;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Several TLS records at once.
const CIPHERTEXT_BYTES: usize = 128 << 10;

/// The reading side; there is one.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: Arc<Socket>,
    sender: Arc<Sender>,
    /// What was read and not yet deciphered; only with TLS.
    ciphertext: Option<Ciphertext>,
}

#[derive(Debug)]
struct Ciphertext {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

/// The writing side, which several threads may share.
#[derive(Debug)]
pub(crate) struct Sender {
    socket: Arc<Socket>,
    state: Mutex<SendState>,
}

#[derive(Debug)]
struct SendState {
    tls: Option<ClientConnection>,
    /// Which conversation is under way. What belongs to an earlier one is not sent any more.
    conversation: u64,
}

impl Transport {
    pub(crate) fn new(socket: Arc<Socket>, tls: Option<ClientConnection>) -> Self {
        let ciphertext = tls.is_some().then(|| Ciphertext {
            buffer: vec![0; CIPHERTEXT_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        });
        let state = Mutex::new(SendState { tls, conversation: 0 });
        let sender = Arc::new(Sender { socket: Arc::clone(&socket), state });
        Self { socket, sender, ciphertext }
    }

    pub(crate) const fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    pub(crate) const fn sender(&self) -> &Arc<Sender> {
        &self.sender
    }

    /// Takes in what has arrived: at least a byte, or zero at the end. `TimedOut` where nothing arrives before
    /// the deadline.
    pub(crate) fn receive(&mut self, into: &mut [u8], deadline: Option<Instant>) -> io::Result<usize> {
        let Some(ciphertext) = &mut self.ciphertext else {
            return self.socket.read_before(into, deadline);
        };
        loop {
            let taken = self.sender.decipher(ciphertext, into)?;
            if let Some(taken) = taken {
                return Ok(taken);
            }
            ciphertext.end = self.socket.read_before(&mut ciphertext.buffer, deadline)?;
            ciphertext.start = 0;
            if ciphertext.end == 0 {
                return Ok(0);
            }
        }
    }
}

impl Sender {
    fn lock(&self) -> MutexGuard<'_, SendState> {
        // Nobody panics while holding it; a state of which that is not certain still fails by its own checks.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deciphers until the ciphertext is used up or no room is left. `None`: more ciphertext is needed.
    fn decipher(&self, ciphertext: &mut Ciphertext, into: &mut [u8]) -> io::Result<Option<usize>> {
        let mut state = self.lock();
        let Some(tls) = &mut state.tls else { return Err(io::Error::other("there is no TLS to decipher")) };
        let mut filled = 0;
        loop {
            match tls.reader().read(&mut into[filled..]) {
                Ok(0) => return Ok(Some(filled)),
                Ok(count) => {
                    filled += count;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if ciphertext.start == ciphertext.end {
                return Ok((filled > 0).then_some(filled));
            }
            let mut unread = &ciphertext.buffer[ciphertext.start..ciphertext.end];
            ciphertext.start += tls.read_tls(&mut unread)?;
            let _ = tls.process_new_packets().map_err(io::Error::other)?;
            flush(tls, &self.socket)?;
        }
    }

    /// Sends bytes whole.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.lock().send(bytes, &self.socket)
    }

    /// Sends bytes whole if the conversation that they belong to is still under way; says whether it was.
    pub(crate) fn send_in(&self, conversation: u64, bytes: &[u8]) -> io::Result<bool> {
        let mut state = self.lock();
        if state.conversation != conversation {
            return Ok(false);
        }
        state.send(bytes, &self.socket).map(|()| true)
    }

    /// Begins a conversation, which ends the one before.
    pub(crate) fn begin_conversation(&self) -> u64 {
        let mut state = self.lock();
        state.conversation += 1;
        state.conversation
    }
}

impl SendState {
    fn send(&mut self, mut bytes: &[u8], socket: &Socket) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return socket.write_all(bytes) };
        // The TLS state takes only so much at once.
        while !bytes.is_empty() {
            let taken = tls.writer().write(bytes)?;
            bytes = &bytes[taken..];
            flush(tls, socket)?;
        }
        Ok(())
    }
}

fn flush(tls: &mut ClientConnection, socket: &Socket) -> io::Result<()> {
    let mut to = crate::socket::Until { socket, deadline: None };
    while tls.wants_write() {
        let _ = tls.write_tls(&mut to)?;
    }
    Ok(())
}
