//! A mail server that speaks as much of SMTP as a client needs, and answers as it is told.

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How the sink behaves.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// Offers STARTTLS with this.
    pub start_tls: Option<Arc<ServerConfig>>,
    /// Speaks TLS from the first byte with this.
    pub tls: Option<Arc<ServerConfig>>,
    /// Answers commands that begin with the first with the second instead of what is usual. `.` is the end of the
    /// mail.
    pub instead: Option<(&'static str, &'static str)>,
    /// Says nothing at all.
    pub hangs: bool,
}

/// What a client said.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Every line that was none of a mail's.
    pub commands: Vec<String>,
    /// How many commands came before the connection was encrypted.
    pub in_clear: usize,
    /// The mail, as it was taken.
    pub mail: Option<String>,
}

/// A mail server.
#[derive(Debug)]
pub struct SmtpSink {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    sessions: Receiver<Session>,
    thread: JoinHandle<()>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl SmtpSink {
    /// Serves one connection, then is gone.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub fn start(manners: Manners) -> Self {
        Self::serving(manners, 1)
    }

    /// Serves so many connections, one after the other, then is gone.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub fn serving(manners: Manners, connections: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, sessions) = channel();
        let thread = std::thread::spawn(move || {
            let sender: Sender<Session> = sender;
            for _ in 0..connections {
                let (stream, _) = listener.accept().unwrap();
                let mut session = Session::default();
                // A client that goes away in the middle is part of what is tested.
                let _ = converse(stream, &manners, &mut session);
                // So is a test that has seen enough.
                let _ = sender.send(session);
            }
        });
        Self { port, sessions, thread }
    }

    /// What the client said, once it has gone.
    ///
    /// # Panics
    /// Where it could not be served.
    pub fn session(self) -> Session {
        self.thread.join().unwrap();
        self.sessions.recv().unwrap()
    }

    /// The same, or nothing where no client has come and gone in time.
    pub fn session_within(&self, patience: Duration) -> Option<Session> {
        self.sessions.recv_timeout(patience).ok()
    }
}

fn encrypted(config: &Arc<ServerConfig>, stream: TcpStream) -> Box<dyn Stream> {
    Box::new(StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream))
}

fn converse(stream: TcpStream, manners: &Manners, session: &mut Session) -> std::io::Result<()> {
    if manners.hangs {
        let mut stream = stream;
        while stream.read(&mut [0; 64])? > 0 {}
        return Ok(());
    }
    let mut raw = Some(stream.try_clone()?);
    let mut stream: Box<dyn Stream> = match &manners.tls {
        Some(config) => encrypted(config, stream),
        None => Box::new(stream),
    };
    let mut in_clear = manners.tls.is_none();
    say(&mut stream, "220 sink ESMTP")?;
    loop {
        let command = line(&mut stream)?;
        session.commands.push(command.clone());
        session.in_clear += usize::from(in_clear);
        let verb = command.split([' ', ':']).next().unwrap_or_default().to_uppercase();
        let instead = manners.instead.filter(|(verb, _)| command.to_uppercase().starts_with(verb));
        if let Some((_, reply)) = instead {
            say(&mut stream, reply)?;
            continue;
        }
        match verb.as_str() {
            "EHLO" => {
                let offers = manners.start_tls.is_some() && in_clear;
                let more = if offers { "250-STARTTLS\r\n" } else { "250-AUTH PLAIN LOGIN\r\n" };
                say(&mut stream, &format!("250-sink\r\n{more}250 8BITMIME"))?;
            }
            "STARTTLS" => {
                say(&mut stream, "220 go ahead")?;
                let (Some(config), Some(raw)) = (&manners.start_tls, raw.take()) else { return Ok(()) };
                stream = encrypted(config, raw);
                in_clear = false;
            }
            "DATA" => {
                say(&mut stream, "354 go ahead")?;
                let mail = mail(&mut stream)?;
                match manners.instead.filter(|(verb, _)| *verb == ".") {
                    Some((_, reply)) => say(&mut stream, reply)?,
                    None => {
                        session.mail = Some(mail);
                        say(&mut stream, "250 taken")?;
                    }
                }
            }
            "AUTH" => say(&mut stream, "235 welcome")?,
            "QUIT" => return say(&mut stream, "221 bye"),
            _ => say(&mut stream, "250 ok")?,
        }
    }
}

fn say(stream: &mut Box<dyn Stream>, reply: &str) -> std::io::Result<()> {
    write!(stream, "{reply}\r\n")?;
    stream.flush()
}

fn line(stream: &mut Box<dyn Stream>) -> std::io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// The lines of a mail up to a lone dot, their own dots unstuffed (RFC 5321, 4.5.2).
fn mail(stream: &mut Box<dyn Stream>) -> std::io::Result<String> {
    let mut mail = String::new();
    loop {
        let line = line(stream)?;
        if line == "." {
            return Ok(mail);
        }
        mail.push_str(line.strip_prefix('.').unwrap_or(&line));
        mail.push('\n');
    }
}
