//! The TCP side: a listener whose connections can be cut at an exact byte of an answer.
//!
//! Never knows what is said on a connection, only where it has to end.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// Written into a body to say "the connection ends here". No byte of it can occur in UTF-8, so it cannot be met in
/// an answer by accident, and it is never sent.
pub(super) const CUT_MARK: [u8; 16] = [0xff; 16];

pub(super) struct CuttableListener(pub(super) TcpListener);

impl Listener for CuttableListener {
    type Io = CuttableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (CuttableStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, address)) => {
                    // Deltas are small; without this they would wait for the client's acknowledgement.
                    let _ = stream.set_nodelay(true);
                    return (CuttableStream { stream, scissors: Scissors::default() }, address);
                }
                // Out of file descriptors, mostly: it passes when a client leaves.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// The handle by which an answer ends its own connection.
#[derive(Clone, Default)]
pub(super) struct Scissors(Arc<AtomicBool>);

impl Scissors {
    /// From now on the connection ends where [`CUT_MARK`] is about to be written.
    pub(super) fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, CuttableListener>> for Scissors {
    fn connect_info(stream: IncomingStream<'_, CuttableListener>) -> Self {
        stream.io().scissors.clone()
    }
}

pub(super) struct CuttableStream {
    stream: TcpStream,
    scissors: Scissors,
}

impl AsyncRead for CuttableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

// Not vectored on purpose: the server then hands over a frame in one piece, so the mark is never split.
impl AsyncWrite for CuttableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Error>> {
        let cut_at = match self.scissors.0.load(Ordering::Relaxed) {
            true => bytes.windows(CUT_MARK.len()).position(|window| window == CUT_MARK),
            false => None,
        };
        match cut_at {
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
            Some(0) => {
                ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
                Poll::Ready(Err(Error::new(ErrorKind::ConnectionAborted, "cut by the script")))
            }
            Some(length) => Pin::new(&mut self.stream).poll_write(context, &bytes[..length]),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
