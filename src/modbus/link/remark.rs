//! What a person should know of a connection that works all the same: plain values.
//!
//! A remark is no failure and no change of state. Each kind is made at most once per connection; whoever owns the
//! device says it once.

use std::fmt;

/// Something odd about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remark {
    /// A reply was found behind bytes that belong to no frame.
    Noise {
        /// How many.
        bytes: usize,
    },
    /// Each request came back before its reply.
    Echo,
    /// Bytes had come before the first reply, unasked.
    Greeting {
        /// How many.
        bytes: usize,
    },
}

impl Remark {
    /// Which kind it is, counted from 0.
    fn kind(self) -> usize {
        match self {
            Self::Noise { .. } => 0,
            Self::Echo => 1,
            Self::Greeting { .. } => 2,
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |bytes: usize| format!("{bytes} {}", if bytes == 1 { "byte" } else { "bytes" });
        match *self {
            Self::Noise { bytes } => {
                write!(f, "noise before the frame, {}: check termination and bias of the line", of(bytes))
            }
            Self::Echo => f.write_str("the line repeats each request; the echo is found and dropped"),
            Self::Greeting { bytes } => {
                write!(f, "thrown away after connecting, because no request had asked for it: {}", of(bytes))
            }
        }
    }
}

/// The remarks of one connection that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    waiting: [Option<Remark>; 3],
    made: [bool; 3],
}

impl Remarks {
    pub(super) fn make(&mut self, remark: Remark) {
        let kind = remark.kind();
        if !std::mem::replace(&mut self.made[kind], true) {
            self.waiting[kind] = Some(remark);
        }
    }

    pub(super) fn take(&mut self) -> Option<Remark> {
        self.waiting.iter_mut().find_map(Option::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_once_in_words() {
        let mut remarks = Remarks::default();
        for bytes in [1, 7] {
            remarks.make(Remark::Greeting { bytes });
            remarks.make(Remark::Noise { bytes });
            remarks.make(Remark::Echo);
        }
        let told: Vec<_> = std::iter::from_fn(|| remarks.take()).map(|remark| remark.to_string()).collect();
        let expected = [
            "noise before the frame, 1 byte: check termination and bias of the line",
            "the line repeats each request; the echo is found and dropped",
            "thrown away after connecting, because no request had asked for it: 1 byte",
        ];
        assert_eq!(told, expected);
        remarks.make(Remark::Echo);
        assert_eq!(remarks.take(), None);
    }
}
