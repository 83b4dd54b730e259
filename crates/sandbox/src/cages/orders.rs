//! What goes to a helper, with the descriptors that are given along, and its first answer.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::mpsc,
};

use crate::{
    frame::{self, FromHelper},
    launcher,
};

/// A frame for the helper, and what travels beside its first bytes.
pub(super) struct Order {
    pub(super) bytes: Vec<u8>,
    pub(super) beside: Vec<OwnedFd>,
}

impl From<Vec<u8>> for Order {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, beside: Vec::new() }
    }
}

/// Sends orders as they come, for as long as there is somebody who takes them.
pub(super) async fn write(mut out: OwnedWriteHalf, mut orders: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        if send(&mut out, order).await.is_err() {
            return;
        }
    }
}

async fn send(out: &mut OwnedWriteHalf, Order { bytes, beside }: Order) -> io::Result<()> {
    if beside.is_empty() {
        return out.write_all(&bytes).await;
    }
    // So few bytes go at once or not at all.
    let (length, rest) = bytes.split_at(4);
    let socket: &UnixStream = out.as_ref();
    let descriptors: Vec<_> = beside.iter().map(|one| one.as_fd()).collect();
    let sending = || launcher::send(&socket.as_fd(), length, &descriptors);
    socket.async_io(Interest::WRITABLE, sending).await?;
    out.write_all(rest).await
}

/// Reads the first frame and the descriptors beside it.
pub(super) async fn first_frame(socket: &UnixStream) -> io::Result<(FromHelper, Vec<OwnedFd>)> {
    let mut bytes = Vec::new();
    let mut descriptors = Vec::new();
    loop {
        let received = socket.async_io(Interest::READABLE, || launcher::receive(&socket.as_fd()));
        let Some((more, beside)) = received.await? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        bytes.extend(more);
        descriptors.extend(beside);
        // A helper says nothing more before it is asked.
        if let Ok(Some(frame)) = frame::read(&mut bytes.as_slice()) {
            return Ok((frame, descriptors));
        }
    }
}
