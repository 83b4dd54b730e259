//! A connection from inside, of which the first bytes were read already. It counts what moves, and
//! can be broken from afar, so that the other side sees an error, not an end.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// What can be broken.
pub(super) trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The connection below it all.
    fn below(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn below(&self) -> &TcpStream {
        self
    }
}

impl Connection for TlsStream<TcpStream> {
    fn below(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// The connection.
#[derive(Debug)]
pub(super) struct Watched<S: Connection> {
    first: BytesMut,
    stream: S,
    watch: Arc<Watch>,
    ended: bool,
}

/// What is known of a connection by those who do not hold it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Changes whenever bytes pass.
    pub(super) moved: AtomicU64,
    broken: AtomicBool,
}

impl Watch {
    /// Breaks the connection as soon as it is let go, unless it was ended.
    pub(super) fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }
}

impl<S: Connection> Watched<S> {
    /// `first` is what was read of it already.
    pub(super) fn new(stream: S, first: BytesMut) -> Self {
        Self { first, stream, watch: Arc::default(), ended: false }
    }

    pub(super) fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
    }

    fn count<T>(&self, result: T) -> T {
        self.watch.moved.fetch_add(1, Ordering::Relaxed);
        result
    }
}

impl<S: Connection> Drop for Watched<S> {
    fn drop(&mut self) {
        if !self.ended && self.watch.broken.load(Ordering::Relaxed) {
            let _ = self.stream.below().set_zero_linger();
        }
    }
}

impl<S: Connection> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.has_remaining() {
            let length = this.first.len().min(buffer.remaining());
            buffer.put_slice(&this.first[..length]);
            this.first.advance(length);
            return Poll::Ready(Ok(()));
        }
        let result = ready!(Pin::new(&mut this.stream).poll_read(context, buffer));
        Poll::Ready(this.count(result))
    }
}

impl<S: Connection> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = ready!(Pin::new(&mut this.stream).poll_write(context, bytes));
        Poll::Ready(this.count(result))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = ready!(Pin::new(&mut this.stream).poll_write_vectored(context, parts));
        Poll::Ready(this.count(result))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = ready!(Pin::new(&mut this.stream).poll_shutdown(context));
        this.ended = result.is_ok();
        Poll::Ready(result)
    }
}
