//! A program that runs in a cage beside the tools: the server's end of its input and output.
//!
//! Both are pipes that the server has made, so that what it holds is known to be a pipe whatever the
//! cage does. Nothing of what the program says is kept: who does not read makes it wait.

use std::{
    future::Future as _,
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use rustix::pipe::PipeFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::unix::pipe,
    sync::oneshot,
    time::Sleep,
};

use super::{
    Cages, Place, Refused,
    cage::Cage,
    lock,
    orders::Order,
    slot::{Slot, Used},
};
use crate::{
    frame::{self, ToHelper},
    tools::program::{MOST, Program},
};

/// How long an execution may take.
const STARTING: Duration = Duration::from_secs(30);
/// How long after the end of its output a program may still tell its end.
const ENDING: Duration = Duration::from_secs(3);
/// The longest account of an end, in bytes; a helper has no reason to send more.
const LONGEST: usize = 10 << 10;

/// Both directions of a program's input and output. The program ends, with everything that it has
/// started, when this is dropped.
///
/// When it has ended by itself, or its cage has, reading fails once and says why; from then on, and
/// when it has only closed its output, there is nothing to be read. Writing counts as a use of the
/// cage, which is otherwise kept alive by [`Cages::hold`] alone.
pub struct ProgramPipe {
    cage: Arc<Cage>,
    slot: Arc<Slot>,
    number: u64,
    /// None when it was shut down.
    input: Option<pipe::Sender>,
    output: pipe::Receiver,
    /// What has happened to it. None when that was told.
    ended: Option<oneshot::Receiver<String>>,
    patience: Option<Pin<Box<Sleep>>>,
}

/// Who waits for news of a program.
pub(super) struct Waiting {
    pub(super) began: Option<oneshot::Sender<()>>,
    pub(super) ended: oneshot::Sender<String>,
}

impl Cages {
    /// Starts a program in a session's cage, which is started when there is none. Several may run at
    /// once.
    ///
    /// # Errors
    /// [`Refused`]; [`Refused::Program`] when there is a cage and the program can't be started.
    pub async fn start_program(
        &self,
        place: &Place,
        program: Program,
    ) -> Result<ProgramPipe, Refused> {
        let slot = self.slot(&place.session);
        let _used = Used::of(&slot);
        let cage = self.cage(&slot, place).await?;
        ProgramPipe::start(cage, Arc::clone(&slot), program).await
    }

    /// Keeps a session's cage from being ended for want of use while a program in it is at work,
    /// also when the session has been at rest before. None when the session has no place yet.
    #[must_use]
    pub fn hold(&self, session: &str) -> Option<Used> {
        self.find(session).map(|slot| Used::of(&slot))
    }
}

impl ProgramPipe {
    async fn start(cage: Arc<Cage>, slot: Arc<Slot>, program: Program) -> Result<Self, Refused> {
        let refused = |why: String| Refused::Program(why);
        let failed = |error: io::Error| refused(format!("can't be started: {error}"));
        let (ours, [input, output]) = pipes(cage.owner).map_err(failed)?;
        let (began, has_begun) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        let number = cage.next_program.fetch_add(1, Ordering::Relaxed);
        let bytes = frame::bytes(&ToHelper::Program { number, program }).map_err(failed)?;
        {
            let mut programs = lock(&cage.programs);
            if programs.len() >= MOST as usize {
                let why = format!("can't be started: {MOST} programs run in the sandbox already");
                return Err(refused(why));
            }
            programs.insert(number, Waiting { began: Some(began), ended });
        }
        // From here on, dropping it ends the program.
        let mut pipe = Self {
            cage,
            slot,
            number,
            input: Some(ours.0),
            output: ours.1,
            ended: Some(has_ended),
            patience: None,
        };
        let cage = &pipe.cage;
        let _ = cage.orders.send(Order { bytes, beside: vec![input, output] });
        if cage.is_gone() {
            lock(&cage.programs).clear();
        }
        match tokio::time::timeout(STARTING, has_begun).await {
            Ok(Ok(())) => Ok(pipe),
            // It has ended before it had begun.
            Ok(Err(_)) => match pipe.ended.take() {
                Some(ended) => match ended.await {
                    Ok(why) => Err(refused(why)),
                    Err(_) => Err(refused(pipe.cage.end_of_program())),
                },
                None => Err(refused("was not started".to_owned())),
            },
            Err(_) => Err(refused("can't be started: it was not executed in time".to_owned())),
        }
    }
}

/// Two pipes: our ends, and those of the program.
fn pipes(owner: Option<u32>) -> io::Result<((pipe::Sender, pipe::Receiver), [OwnedFd; 2])> {
    let (input, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (reader, output) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    if let Some(id) = owner {
        let (uid, gid) = (rustix::process::Uid::from_raw(id), rustix::process::Gid::from_raw(id));
        for one in [&input, &output] {
            // So that a program may open `/dev/stdin` and `/dev/stdout`.
            rustix::fs::fchown(one, Some(uid), Some(gid))?;
        }
    }
    let ours = (pipe::Sender::from_owned_fd(writer)?, pipe::Receiver::from_owned_fd(reader)?);
    Ok((ours, [input, output]))
}

impl AsyncRead for ProgramPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining() > 0;
        ready!(Pin::new(&mut self.output).poll_read(context, buffer))?;
        if buffer.filled().len() > before || !room {
            return Poll::Ready(Ok(()));
        }
        let Some(ended) = &mut self.ended else { return Poll::Ready(Ok(())) };
        let why = match Pin::new(ended).poll(context) {
            Poll::Ready(Ok(why)) => why,
            Poll::Ready(Err(_)) => self.cage.end_of_program(),
            Poll::Pending => {
                let patience =
                    self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(ENDING)));
                ready!(patience.as_mut().poll(context));
                // It has closed its output and lives on.
                self.ended = None;
                return Poll::Ready(Ok(()));
            }
        };
        self.ended = None;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, why)))
    }
}

impl AsyncWrite for ProgramPipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(input) = &mut self.input else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let written = ready!(Pin::new(input).poll_write(context, bytes))?;
        lock(&self.slot.use_).last = Instant::now();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

impl Drop for ProgramPipe {
    fn drop(&mut self) {
        lock(&self.cage.programs).remove(&self.number);
        if let Ok(bytes) = frame::bytes(&ToHelper::EndProgram { number: self.number }) {
            let _ = self.cage.orders.send(bytes.into());
        }
    }
}

/// What a helper says of an end, cut to what one may say.
pub(super) fn account(mut why: String) -> String {
    let mut end = why.len().min(LONGEST);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.truncate(end);
    why
}
