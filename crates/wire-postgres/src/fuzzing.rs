//! For the fuzz targets in `fuzz/`: everything that reads a server's bytes, behind one door; and password files.

use crate::inbox::Inbox;
use crate::{backup, message, stream};

/// For fuzzing: reads anything as a server's messages. Says whether any of them meant something.
#[doc(hidden)]
pub fn fuzz_backend(bytes: &[u8]) -> bool {
    let mut inbox = Inbox::new();
    inbox.trust();
    let mut rest = bytes;
    let mut meant = 0;
    loop {
        match inbox.take() {
            Ok(Some(message)) => meant += usize::from(means(message.tag, inbox.body(&message))),
            Ok(None) if rest.is_empty() => return meant > 0,
            Ok(None) => {
                let room = inbox.room();
                let count = room.len().min(rest.len());
                room[..count].copy_from_slice(&rest[..count]);
                inbox.arrived(count);
                rest = &rest[count..];
            }
            Err(_) => return meant > 0,
        }
    }
}

fn means(tag: u8, body: &[u8]) -> bool {
    match tag {
        b'E' | b'N' => message::server_error(body).is_ok(),
        b'T' => message::columns(body).is_ok(),
        b'D' => message::cells(body, |_| ()).is_ok(),
        b'd' => backup::fuzz_piece(body) | stream::fuzz_event(body),
        _ => message::Fields(body).text("text").is_ok(),
    }
}

/// For fuzzing: the password that a file with these bytes has for a host, port, database and user.
#[doc(hidden)]
pub fn fuzz_passfile(file: &[u8], wanted: &[String; 4]) -> Option<Vec<u8>> {
    crate::options::fuzz_passfile(file, wanted)
}
