//! Where bytes from the server become messages: a tag, a length, and so many bytes.
//!
//! Owns the one large buffer of a session. It deliberately does not know where the bytes come from or what a
//! message means. A message lies in the buffer as one piece; nothing is copied but the beginning of the next
//! one when the buffer's end is reached. A message that announces more than the buffer holds makes it grow as
//! its bytes really arrive, so that a length alone costs nobody memory.

use std::ops::Range;

/// The usual size of the buffer: several WAL messages (at most 128 KiB each), and many blocks of a backup.
pub(crate) const USUAL_BYTES: usize = 256 << 10;

/// What one message may have, in a session that was let in. PostgreSQL sends none larger than 1 GiB.
pub(crate) const LARGEST_MESSAGE: usize = 1 << 30;

/// What one message may have from somebody who did not let us in yet.
pub(crate) const LARGEST_BEFORE_LOGIN: usize = 64 << 10;

/// Below this much room at the end, what is left moves to the front.
const LEAST_ROOM: usize = 64 << 10;

/// The tag and the length.
const HEADER_BYTES: usize = 5;

/// A message that lies in the inbox until more bytes are taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// What kind it is.
    pub(crate) tag: u8,
    /// Where its body lies.
    body: Range<usize>,
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// A length that does not even count itself.
    Short,
    /// A length that nobody sends.
    Large { bytes: u64, limit: u64 },
}

/// The bytes that have arrived and are not used up.
#[derive(Debug)]
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    limit: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, limit: LARGEST_BEFORE_LOGIN }
    }

    /// Takes messages of any size from now on: the server let us in.
    pub(crate) const fn trust(&mut self) {
        self.limit = LARGEST_MESSAGE;
    }

    /// The next message if all of it is there, without using it up.
    pub(crate) fn peek(&self) -> Result<Option<Message>, FrameError> {
        let Some(length) = self.length()? else { return Ok(None) };
        if self.end - self.start < length {
            return Ok(None);
        }
        let body = self.start + HEADER_BYTES..self.start + length;
        Ok(Some(Message { tag: self.buffer[self.start], body }))
    }

    /// The next message if all of it is there. Its body can be had until more bytes are taken in.
    pub(crate) fn take(&mut self) -> Result<Option<Message>, FrameError> {
        let message = self.peek()?;
        if let Some(message) = &message {
            self.start = message.body.end;
        }
        Ok(message)
    }

    /// The body of a message that was just taken.
    pub(crate) fn body(&self, message: &Message) -> &[u8] {
        self.buffer.get(message.body.clone()).unwrap_or_default()
    }

    /// How many bytes the next message has with its header, once that is there.
    fn length(&self) -> Result<Option<usize>, FrameError> {
        let header = &self.buffer[self.start..self.end];
        let Some(length) = header.get(1..HEADER_BYTES).and_then(|bytes| bytes.first_chunk::<4>()) else {
            return Ok(None);
        };
        // The length counts itself and not the tag. One of 2 GiB and more would be negative, hence too large.
        let length = u32::from_be_bytes(*length) as usize;
        if length < 4 {
            return Err(FrameError::Short);
        }
        if length - 4 > self.limit {
            return Err(FrameError::Large { bytes: length as u64 - 4, limit: self.limit as u64 });
        }
        Ok(Some(length + 1))
    }

    /// Room for bytes to arrive in; never empty.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start_over();
        }
        let needed = self.length().ok().flatten().unwrap_or(HEADER_BYTES);
        if self.start + needed > self.buffer.len() || self.buffer.len() - self.end < LEAST_ROOM {
            self.move_to_front();
        }
        if self.end == self.buffer.len() {
            // Only a message larger than the buffer fills it: see that it can go on, by what has arrived.
            self.buffer.resize(self.buffer.len().saturating_mul(2).min(needed).max(self.end + 1), 0);
        }
        &mut self.buffer[self.end..]
    }

    /// An empty inbox gives back what a large message made it grow to.
    fn start_over(&mut self) {
        (self.start, self.end) = (0, 0);
        if self.buffer.len() != USUAL_BYTES {
            self.buffer.truncate(USUAL_BYTES);
            self.buffer.shrink_to_fit();
            self.buffer.resize(USUAL_BYTES, 0);
        }
    }

    fn move_to_front(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }

    /// So many bytes have arrived in the room.
    pub(crate) fn arrived(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.buffer.len());
    }

    /// What the buffer costs now, in bytes.
    #[cfg(test)]
    pub(crate) fn cost(&self) -> usize {
        self.buffer.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(inbox: &mut Inbox, mut bytes: &[u8], most: usize) -> Vec<(u8, Vec<u8>)> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let room = inbox.room();
            let count = room.len().min(bytes.len()).min(most);
            room[..count].copy_from_slice(&bytes[..count]);
            inbox.arrived(count);
            bytes = &bytes[count..];
            while let Some(message) = inbox.take().unwrap() {
                messages.push((message.tag, inbox.body(&message).to_vec()));
            }
        }
        messages
    }

    fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..2000)), 0..40),
            most in 1usize..5000,
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|(tag, body)| framed(*tag, body)).collect();
            let mut inbox = Inbox::new();
            prop_assert_eq!(feed(&mut inbox, &bytes, most), messages);
            prop_assert!(inbox.peek().unwrap().is_none());
        }

        #[test]
        fn no_bytes_make_it_panic_or_grow(bytes in proptest::collection::vec(any::<u8>(), 0..3000), most in 1usize..100) {
            let mut inbox = Inbox::new();
            inbox.trust();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let room = inbox.room();
                let count = room.len().min(rest.len()).min(most);
                room[..count].copy_from_slice(&rest[..count]);
                inbox.arrived(count);
                rest = &rest[count..];
                while matches!(inbox.take(), Ok(Some(_))) {}
            }
            prop_assert!(inbox.cost() <= USUAL_BYTES);
        }
    }

    #[test]
    fn a_message_larger_than_the_buffer_grows_it_as_it_arrives_and_is_forgotten() {
        let mut inbox = Inbox::new();
        inbox.trust();
        let body: Vec<u8> = (0..3_000_000u32).map(|index| index as u8).collect();
        let bytes = framed(b'd', &body);
        assert!(feed(&mut inbox, &bytes[..100_000], 7000).is_empty());
        assert!(inbox.cost() <= USUAL_BYTES, "{}", inbox.cost());
        let messages = feed(&mut inbox, &bytes[100_000..], 70_000);
        assert!(messages == [(b'd', body)]);
        let _ = inbox.room();
        assert!(inbox.cost() <= 2 * USUAL_BYTES, "{}", inbox.cost());
    }

    #[test]
    fn lengths_that_nobody_sends_are_refused() {
        let peek = |length: u32, trusted: bool| {
            let mut inbox = Inbox::new();
            if trusted {
                inbox.trust();
            }
            let mut bytes = vec![b'R'];
            bytes.extend(length.to_be_bytes());
            inbox.room()[..5].copy_from_slice(&bytes);
            inbox.arrived(5);
            inbox.peek()
        };
        assert_eq!(peek(3, true), Err(FrameError::Short));
        assert_eq!(peek(0x4000_0004, true), Ok(None));
        assert!(matches!(peek(0x4000_0005, true), Err(FrameError::Large { bytes: 0x4000_0001, .. })));
        assert!(matches!(peek(u32::MAX, true), Err(FrameError::Large { .. })));
        assert!(matches!(peek(100_000, false), Err(FrameError::Large { limit: 65_536, .. })));
        assert_eq!(peek(4, false).unwrap().map(|message| message.tag), Some(b'R'));
    }
}
