//! An HTTP server that answers as it is told, a connection at a time, and remembers what it was sent.

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What happens to one connection.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status, with these lines of header.
    Status(u16, &'static str),
    /// Nothing, until the other side gives up.
    Hang,
    /// The connection is closed before anything is answered.
    Close,
}

/// What was sent.
#[derive(Debug)]
pub struct Request {
    /// Its first line.
    pub line: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

/// An HTTP server.
#[derive(Debug)]
pub struct HttpSink {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    requests: Receiver<Request>,
    thread: JoinHandle<()>,
}

impl HttpSink {
    /// Answers so many connections as there are answers, then is gone.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub fn start(answers: Vec<Answer>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = channel();
        let thread = std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                match &tls {
                    None => serve(stream, &answer, &sender),
                    Some(tls) => {
                        let session = ServerConnection::new(Arc::clone(tls)).unwrap();
                        serve(StreamOwned::new(session, stream), &answer, &sender);
                    }
                }
            }
        });
        Self { port, requests, thread }
    }

    /// The next that was sent, or nothing where nobody sent anything in time.
    pub fn request_within(&self, patience: Duration) -> Option<Request> {
        self.requests.recv_timeout(patience).ok()
    }

    /// What was sent, once all answers are given.
    ///
    /// # Panics
    /// Where what was sent is no request.
    pub fn requests(self) -> Vec<Request> {
        self.thread.join().unwrap();
        self.requests.try_iter().collect()
    }
}

/// A client that goes away in the middle is part of what is tested, so no failure of the network is one here.
fn serve(mut stream: impl Read + Write, answer: &Answer, sender: &Sender<Request>) {
    let Some(request) = read_request(&mut stream) else { return };
    sender.send(request).unwrap();
    match answer {
        Answer::Status(status, headers) => {
            let _ = write!(
                stream,
                "HTTP/1.1 {status} x\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.flush();
        }
        Answer::Hang => while stream.read(&mut [0; 64]).is_ok_and(|n| n > 0) {},
        Answer::Close => {}
    }
}

fn read_request(stream: &mut impl Read) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap().to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> =
        headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut body = vec![0; headers.get("content-length")?.parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some(Request { line, headers, body })
}

/// A port on which nobody listens.
///
/// # Panics
/// Where there is none.
pub fn refusing_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether a port can be connected to at all; used to see that a sink is gone.
pub fn answers(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
