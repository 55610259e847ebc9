//! Numbers and texts out of bytes, one after the other: little-endian, as every platform writes them whose log
//! this crate reads. It deliberately knows no record: only whether there are bytes enough.

/// There are fewer bytes than a field needs, or a text without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Short;

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(Short)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn bytes(&mut self, count: u64) -> Result<&'a [u8], Short> {
        let count = usize::try_from(count).map_err(|_| Short)?;
        let (first, rest) = self.0.split_at_checked(count).ok_or(Short)?;
        self.0 = rest;
        Ok(first)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Short> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Short> {
        self.array().map(i64::from_le_bytes)
    }

    /// A count that is written as a signed number: a negative one is as good as bytes that are missing.
    pub(crate) fn count(&mut self) -> Result<u64, Short> {
        u64::try_from(self.i32()?).map_err(|_| Short)
    }

    /// A text that ends with a zero byte, which is read and not part of it.
    pub(crate) fn text(&mut self) -> Result<String, Short> {
        let length = self.0.iter().position(|byte| *byte == 0).ok_or(Short)?;
        let text = String::from_utf8_lossy(&self.0[..length]).into_owned();
        self.0 = &self.0[length + 1..];
        Ok(text)
    }
}

/// Reads a number at a fixed place of bytes whose length the caller has checked by their type.
pub(crate) fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The same for 64 bits.
pub(crate) fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
