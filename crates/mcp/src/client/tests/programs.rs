//! Programs that have ended, or do not listen.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

/// The pipe of a program that has ended: nothing can be written any more, and reading says why.
struct Ended(Option<String>);

impl AsyncRead for Ended {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        _buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.take() {
            Some(why) => Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, why))),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Ended {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        _bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn reason(pipe: Ended) -> String {
    let Err(Error::Connection(reason)) =
        Connection::open(Way::Pipe(Box::new(pipe)), settings()).await
    else {
        panic!("connected")
    };
    reason
}

#[tokio::test]
async fn a_program_that_has_ended_says_why() {
    let why = "has ended with exit code 7; its last words: no key";
    assert!(reason(Ended(Some(why.to_owned()))).await.ends_with(why));
    // Of many words the end says the most.
    let long = format!("has ended; its last words: {}\nValueError: no key", "line é\n".repeat(900));
    let said = reason(Ended(Some(long))).await;
    assert!(
        said.contains("has ended; its last words: line") && said.ends_with(": no key"),
        "{said}"
    );
    assert!(said.len() < 1000 && !said.contains('\n'));
    // One that lives on and reads nothing is not waited for.
    assert!(reason(Ended(None)).await.ends_with("it does not read its input"));
}
