//! Carries bytes between two connections until both sides are done. It looks at none of them.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::sleep,
};

use super::watched::Watch;

/// How long both sides may be silent. What is open after that is open by mistake.
pub(super) const IDLE: Duration = Duration::from_secs(3600);
/// Bytes that are read at once. A connection has a buffer only while bytes pass, or wait for a
/// side that does not read.
const CHUNK: usize = 32 << 10;

/// Carries both ways. The end of one direction is passed on and leaves the other open; an error in
/// one, or silence, resets both connections.
pub(super) async fn carry(mut inside: TcpStream, mut outside: TcpStream) {
    let moved = AtomicU64::new(0);
    let done = {
        let (from_inside, to_inside) = inside.split();
        let (from_outside, to_outside) = outside.split();
        let both = async {
            tokio::try_join!(
                one_way(from_inside, to_outside, &moved),
                one_way(from_outside, to_inside, &moved)
            )
        };
        tokio::select! {
            result = both => result.is_ok(),
            () = silence(&moved) => false,
        }
    };
    if !done {
        reset(inside);
        reset(outside);
    }
}

/// Carries both ways what is not plain TCP. An error, or silence, breaks the connection inside.
pub(super) async fn carry_any(
    mut inside: impl AsyncRead + AsyncWrite + Unpin,
    mut outside: impl AsyncRead + AsyncWrite + Unpin,
    watch: &Watch,
) {
    let done = tokio::select! {
        result = copy_bidirectional(&mut inside, &mut outside) => result.is_ok(),
        () = silence(&watch.moved) => false,
    };
    if !done {
        watch.break_off();
    }
}

/// Closes a connection so that the other side sees an error, not an end.
pub(super) fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}

async fn one_way(from: ReadHalf<'_>, mut to: WriteHalf<'_>, moved: &AtomicU64) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = Vec::with_capacity(CHUNK);
        loop {
            buffer.clear();
            match from.try_read_buf(&mut buffer) {
                Ok(0) => {
                    // The other side may be gone already, which is an end as well.
                    let _ = to.shutdown().await;
                    return Ok(());
                }
                Ok(_) => {
                    to.write_all(&buffer).await?;
                    moved.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Ends when nothing has moved for a whole interval.
pub(super) async fn silence(moved: &AtomicU64) {
    loop {
        let before = moved.load(Ordering::Relaxed);
        sleep(IDLE).await;
        if moved.load(Ordering::Relaxed) == before {
            return;
        }
    }
}
