//! One connection under many clients, one after another: what each is given instead of the stream itself.
//!
//! Owns nothing but the sharing. The lock is never waited for: a client is gone before the next one is made.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::expected::Framing;
use super::guard::FrameGuard;

/// Whatever leads to a device.
pub(super) trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Stream for S {}

/// A guarded connection that outlives the clients on it.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    framing: Framing,
    guard: Arc<Mutex<FrameGuard<Box<dyn Stream>>>>,
}

impl Wire {
    pub(super) fn new(guard: FrameGuard<Box<dyn Stream>>) -> Self {
        Self { framing: guard.framing(), guard: Arc::new(Mutex::new(guard)) }
    }

    /// What is around the PDUs on it.
    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    fn guard(&self) -> MutexGuard<'_, FrameGuard<Box<dyn Stream>>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.guard()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.guard()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.guard()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.guard()).poll_shutdown(cx)
    }
}
