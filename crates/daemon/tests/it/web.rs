//! HTTP as far as a test needs it: one request a connection, and a sink that keeps what it is sent.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// What is waited for at most: a machine that is busy is slow, one that hangs is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of a refusal, which has an error and a hint as well.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        let json = self.json();
        assert!(json["error"].is_string() && json["hint"].as_str().unwrap().ends_with('.'), "{json}");
        json["code"].as_str().unwrap().to_owned()
    }
}

/// Sends bytes, and reads until the other side has said all of it.
pub(crate) fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut text = Vec::new();
    // A reset after the answer is no worse than an end.
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Answer { status, headers, body: body.to_owned() }
}

pub(crate) fn request(address: SocketAddr, method: &str, path: &str, token: Option<&str>) -> Answer {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let text = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{token}Connection: close\r\n\r\n");
    exchange(address, text.as_bytes())
}

/// Takes every request that comes, answers 200, and hands on the bodies that are JSON.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    pub(crate) bodies: Receiver<(String, Value)>,
}

impl Sink {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, bodies) = channel();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let Some(body) = take(stream) else { continue };
                if sender.send(body).is_err() {
                    return;
                }
            }
        });
        Self { address, bodies }
    }

    /// Waits for something.
    #[track_caller]
    pub(crate) fn until(&self, is_it: impl Fn(&str, &Value) -> bool) -> Value {
        let begun = std::time::Instant::now();
        let mut others = Vec::new();
        while let Ok((head, body)) = self.bodies.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
            if is_it(&head, &body) {
                return body;
            }
            others.push(body);
        }
        panic!("it was waited for in vain; there came: {others:#?}");
    }
}

/// The head of a request, and its body.
fn take(mut stream: TcpStream) -> Option<(String, Value)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.trim().parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    Some((head, serde_json::from_slice(&body).ok()?))
}
