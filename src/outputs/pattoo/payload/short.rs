//! A text of a few bytes, appended as one piece of fixed length: thousands of them are copied into each body, and to copy
//! as many bytes as a text happens to have takes longer than to copy sixteen.

/// At most [`Short::MOST`] bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Short {
    bytes: [u8; Self::MOST],
    length: usize,
}

impl Short {
    pub(super) const MOST: usize = 16;

    /// A text of so many bytes, and what lies behind it.
    pub(super) fn at_start_of(bytes: &[u8; Self::MOST], length: usize) -> Self {
        Self { bytes: *bytes, length }
    }

    /// Appends the text to `out`.
    pub(super) fn push_to(self, out: &mut Vec<u8>) {
        let end = out.len() + self.length;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

impl From<&str> for Short {
    /// As much of the text as there is room for.
    fn from(text: &str) -> Self {
        let mut short = Self::default();
        for (byte, from) in short.bytes.iter_mut().zip(text.bytes()) {
            *byte = from;
            short.length += 1;
        }
        short
    }
}
