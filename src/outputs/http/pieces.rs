//! A body on its way: handed to the HTTP client in pieces, because the client copies what it is given into a buffer of
//! its own. So that buffer is as small as a piece, and what is copied is still in the processor's cache when it leaves.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use awc::body::{BodySize, MessageBody};
use bytes::Bytes;

/// How many bytes are handed over at a time.
const PIECE: usize = 64 << 10;

/// What is left of a body.
#[derive(Debug)]
pub(super) struct Pieces(pub(super) Bytes);

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let length = self.0.len().min(PIECE);
        Poll::Ready((length > 0).then(|| Ok(self.0.split_to(length))))
    }
}
