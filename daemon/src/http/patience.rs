//! How long a connection may be silent.
//!
//! Hyper has one time limit, for a request's head, and lets it run while a
//! connection is idle too. A head that has begun should be there in seconds;
//! a client between two calls may take a minute. So the clock that hyper is
//! given is lenient until the first byte of a head has come in.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection, and the clock that goes with it.
pub(super) fn patient<S>(stream: S, idle: Duration) -> (Heard<S>, Patience) {
    let heard = Arc::new(AtomicBool::new(false));
    let fresh = AtomicBool::new(true);
    (Heard { stream, heard: Arc::clone(&heard) }, Patience { heard, idle, fresh })
}

/// A connection that notes when something comes in.
pub(super) struct Heard<S> {
    stream: S,
    heard: Arc<AtomicBool>,
}

/// The clock for heads.
pub(super) struct Patience {
    heard: Arc<AtomicBool>,
    idle: Duration,
    /// The first head has to come at once: nobody connects to be silent.
    fresh: AtomicBool,
}

impl Timer for Patience {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let head = deadline.saturating_duration_since(Instant::now());
        self.heard.store(false, Ordering::Relaxed);
        let begun = self.fresh.swap(false, Ordering::Relaxed);
        let wait = Box::pin(tokio::time::sleep(if begun { head } else { self.idle }));
        Box::pin(Waiting { heard: Arc::clone(&self.heard), head, begun, wait })
    }
}

/// Waits for a head: a while until it begins, then no longer than `head`.
struct Waiting {
    heard: Arc<AtomicBool>,
    head: Duration,
    begun: bool,
    wait: Pin<Box<tokio::time::Sleep>>,
}

impl Sleep for Waiting {}

impl Future for Waiting {
    type Output = ();

    /// Polled after every read, which is when a head may have begun.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.begun && self.heard.load(Ordering::Relaxed) {
            self.begun = true;
            let until = tokio::time::Instant::now() + self.head;
            self.wait.as_mut().reset(until);
        }
        self.wait.as_mut().poll(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
