//! The bodies of messages: how fields are read from the server's and written into ours.
//!
//! Knows layouts and deliberately no order: which message may come when is each conversation's own concern.

use crate::error::ServerError;

/// A field that is not there, or not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// What is kept of one text of an error. The rest is of no use to anybody.
const LONGEST_TEXT: usize = 16 << 10;

/// Reads a body from its front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'b>(pub(crate) &'b [u8]);

impl<'b> Fields<'b> {
    pub(crate) fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'b [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(*array)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, what: &'static str) -> Result<i32, Malformed> {
        self.array(what).map(i32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, what: &'static str) -> Result<i64, Malformed> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// Text up to a zero byte.
    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'b str, Malformed> {
        let bytes = self.until_zero(what)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed(what))
    }

    fn until_zero(&mut self, what: &'static str) -> Result<&'b [u8], Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed(what))?;
        let bytes = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Ok(bytes)
    }
}

/// Reads what went wrong from an ErrorResponse or NoticeResponse. Before the session is set up the server
/// may write in any encoding, so nothing here insists on UTF-8.
pub(crate) fn server_error(body: &[u8]) -> Result<ServerError, Malformed> {
    let mut fields = Fields(body);
    let mut error = ServerError::default();
    let mut translated = String::new();
    loop {
        let kind = fields.u8("an error without an end")?;
        if kind == 0 {
            break;
        }
        let text = fields.until_zero("an error's field without an end")?;
        let text = String::from_utf8_lossy(&text[..text.len().min(LONGEST_TEXT)]).into_owned();
        match kind {
            b'V' => error.severity = text,
            b'S' => translated = text,
            b'C' => error.code = text,
            b'M' => error.message = text,
            b'D' => error.detail = Some(text),
            b'H' => error.hint = Some(text),
            b'W' => error.context = Some(text),
            _ => {}
        }
    }
    if error.severity.is_empty() {
        error.severity = translated;
    }
    Ok(error)
}

/// The cells of a DataRow, `None` for NULL.
pub(crate) fn cells(body: &[u8], mut each: impl FnMut(Option<&[u8]>)) -> Result<usize, Malformed> {
    let mut fields = Fields(body);
    let count = fields.u16("a row without a count of cells")?;
    for _ in 0..count {
        let length = fields.i32("a cell without a length")?;
        match usize::try_from(length) {
            Ok(length) => each(Some(fields.bytes(length, "a cell that ends early")?)),
            Err(_) if length == -1 => each(None),
            Err(_) => return Err(Malformed("a cell with a negative length")),
        }
    }
    Ok(usize::from(count))
}

/// The names of the columns in a RowDescription.
pub(crate) fn columns(body: &[u8]) -> Result<Vec<String>, Malformed> {
    let mut fields = Fields(body);
    let count = fields.u16("a description of rows without a count")?;
    let mut names = Vec::new();
    for _ in 0..count {
        let name = fields.until_zero("a column without a name")?;
        names.push(String::from_utf8_lossy(name).into_owned());
        // Table, number, type, its size and modifier, format.
        let _ = fields.bytes(18, "a column that ends early")?;
    }
    Ok(names)
}

/// A message of ours: tag, length, body.
pub(crate) fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 5);
    bytes.push(tag);
    bytes.extend(length_of(body.len()));
    bytes.extend(body);
    bytes
}

/// A message of ours that has no tag: the first one of a session.
pub(crate) fn untagged(body: &[u8]) -> Vec<u8> {
    let mut bytes = length_of(body.len()).to_vec();
    bytes.extend(body);
    bytes
}

/// The length counts its own four bytes. What we send is far below what 32 bits can say.
fn length_of(body: usize) -> [u8; 4] {
    u32::try_from(body + 4).unwrap_or(u32::MAX).to_be_bytes()
}

/// A message whose body is one text and a zero byte.
pub(crate) fn with_text(tag: u8, text: &str) -> Vec<u8> {
    let mut body = text.as_bytes().to_vec();
    body.push(0);
    framed(tag, &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_error_is_read_whatever_its_encoding() {
        let body = b"SFATAL\0VFATAL\0C28000\0Mpas d'entr\xe9e\0Dplus\0\0";
        let error = server_error(body).unwrap();
        assert_eq!((error.code.as_str(), error.detail.as_deref()), ("28000", Some("plus")));
        assert!(error.ends_the_session());
        assert!(server_error(b"SFATAL\0").is_err());
        assert_eq!(error.to_string(), "FATAL: pas d'entr\u{fffd}e (plus) [28000]");
    }

    #[test]
    fn cells_are_read_with_their_nulls() {
        let mut seen = Vec::new();
        let body = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";
        assert_eq!(cells(body, |cell| seen.push(cell.map(<[u8]>::to_vec))), Ok(3));
        assert_eq!(seen, [Some(b"ab".to_vec()), None, Some(Vec::new())]);
        assert!(cells(b"\0\x01\xff\xff\xff\xfe", |_| ()).is_err());
        assert!(cells(b"\0\x01\0\0\0\x09ab", |_| ()).is_err());
    }

    proptest! {
        #[test]
        fn no_body_makes_them_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = server_error(&body);
            let _ = cells(&body, |_| ());
            let _ = columns(&body);
        }
    }
}
