//! [`Orders`]: what the server says to a helper, with the descriptors that it gives along.

use std::{
    io::{self, IoSliceMut, Read},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::frame::{self, ToHelper};

/// Reads orders. Descriptors travel with the first byte of the frame that they belong to.
pub(super) struct Orders {
    socket: UnixStream,
    beside: Vec<OwnedFd>,
}

impl Orders {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, beside: Vec::new() }
    }

    /// The next order and what was given along; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(ToHelper, Vec<OwnedFd>)>> {
        let order = frame::read(self)?;
        Ok(order.map(|order| (order, std::mem::take(&mut self.beside))))
    }
}

impl Read for Orders {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(&self.socket, parts, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.beside.extend(descriptors);
            }
        }
        Ok(received.bytes)
    }
}
