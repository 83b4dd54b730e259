//! [`Shell`]: one bash that lives over many commands.
//!
//! bash reads its script from a socket, so that each command runs at the top level of the shell
//! and `cd`, `export`, functions and options stay. After a command it sends the exit code over
//! a second socket, on which the kernel names the sender: a message of any other process is not
//! looked at. Both descriptors are closed for what a command executes; a forked part of the
//! shell still has copies, which is why the sender counts and not the descriptor.
//!
//! It decides nothing about time or words: that is the tool's work.
#![expect(unsafe_code, reason = "descriptors are put into their places between fork and exec")]

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags,
        SocketFlags, SocketType, recvmsg, send, socketpair, sockopt,
    },
    pipe::PipeFlags,
    process::{Pid, WaitId, WaitIdOptions, WaitOptions},
};

use crate::inside::lockdown;

use super::{
    Children, Stop, Workplace, children, output::Tail, place::Place, stop::raise, turn::lock,
};

/// Where the shell finds the socket for exit codes, and the pipe for output.
const STATUS: i32 = 201;
const OUTPUT: i32 = 202;

/// What the shell does before its first command. `execfail`: a program that is not there must
/// not end the shell. The function ends `set -e`, `-u` and `-x` with each command: kept, they
/// would end the shell at the next command that finds nothing.
///
/// Where memory ends, what the shell has started goes first, and not the helper.
const BEGIN: &str = "builtin shopt -s expand_aliases execfail
__posthouse_ended() { builtin printf '%s %s' \"$1\" \"$2\" >&201; builtin set +eux; } >/dev/null 2>&1
builtin readonly -f __posthouse_ended
{ builtin echo 800 > /proc/self/oom_score_adj; } 2>/dev/null
";

/// Bytes of output after which reading is slowed down, and the pause after each chunk then: who
/// prints without end shall not cost a processor.
const HURRY: usize = 16 << 20;
const PAUSE: Duration = Duration::from_millis(1);

/// A stream that has been silent for so long may hurry again.
const SILENT: Duration = Duration::from_millis(5);

/// How long to wait for killed processes to be gone.
const GONE: Duration = Duration::from_secs(3);

/// Messages on the socket for exit codes that others than the shell have sent: a test of forging
/// proves nothing where there are none.
#[cfg(test)]
pub(crate) static FOREIGN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// A shell that was started, and is killed with all its children when it is dropped.
pub(crate) struct Shell {
    pid: Pid,
    script: OwnedFd,
    status: OwnedFd,
    shared: Arc<Shared>,
    children: Children,
    commands: u64,
    killed: bool,
}

/// What the shell's two threads share with the calls.
struct Shared {
    tail: Mutex<Tail>,
    pipe: OwnedFd,
    /// Readable when the reading thread has to end.
    closing: OwnedFd,
    /// Readable when the shell has ended.
    ended: OwnedFd,
    end: Mutex<Ends>,
    changed: Condvar,
}

#[derive(Default)]
struct Ends {
    /// How the shell has ended.
    shell: Option<End>,
    /// Whether no child is left to be reaped.
    all: bool,
}

/// How a shell has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// Nobody knows.
    Unknown,
}

/// What came of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    /// It has ended, with this exit code.
    Done(i32),
    /// The shell has ended, and all that it had started was killed.
    Ended(End),
    /// Time was up, and everything was killed.
    TimedOut,
    /// It was stopped, and everything was killed.
    Stopped,
}

impl Shell {
    /// Starts a shell.
    pub(crate) fn start(workplace: &Workplace, place: &Place) -> io::Result<Self> {
        let sockets = SocketFlags::CLOEXEC;
        let (script, script_inside) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, sockets, None)?;
        let (status, status_inside) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, sockets, None)?;
        sockopt::set_socket_passcred(&status, true)?;
        let (pipe, pipe_inside) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);

        let directory = place.on_host(&workplace.directory);
        if !directory.is_dir() {
            // A command may have removed it. If it can't be made again, starting says so.
            let _made = place.make_folders(&workplace.directory);
        }
        let mut command = Command::new(&workplace.shell);
        command
            .arg0("bash")
            .args(["--noprofile", "--norc"])
            .env_clear()
            .envs(workplace.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(Stdio::from(script_inside))
            .stdout(Stdio::from(pipe_inside.try_clone()?))
            .stderr(Stdio::from(pipe_inside.try_clone()?));
        let (status_raw, pipe_raw) = (status_inside.as_raw_fd(), pipe_inside.as_raw_fd());
        let limits = workplace.limits;
        // SAFETY: between fork and exec; the closure makes system calls alone, on descriptors
        // that live until `spawn` has returned, and takes no lock and no memory.
        unsafe {
            command.pre_exec(move || {
                // Nothing that this process has open is for the shell, whatever its flags say.
                // A kernel that lacks the call leaves what the flags say.
                let _unknown = libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32);
                // Nor is what it does with signals: bash could not trap one that is ignored.
                for signal in 1..=31 {
                    let _fixed = libc::signal(signal, libc::SIG_DFL);
                }
                let mut none = std::mem::zeroed();
                libc::sigemptyset(&raw mut none);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
                if libc::dup2(status_raw, STATUS) < 0
                    || libc::dup2(pipe_raw, OUTPUT) < 0
                    || libc::setsid() < 0
                {
                    return Err(io::Error::last_os_error());
                }
                limits.as_ref().map_or(Ok(()), lockdown::narrow_for_tool)
            });
        }
        let shared = Arc::new(Shared {
            tail: Mutex::default(),
            pipe,
            closing: event()?,
            ended: event()?,
            end: Mutex::default(),
            changed: Condvar::new(),
        });
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        children::note_shell(pid);
        let mut shell = Self {
            pid,
            script,
            status,
            shared: Arc::clone(&shared),
            children: workplace.children,
            commands: 0,
            killed: false,
        };
        // If a thread can't be started, dropping the shell kills it.
        let reader = Arc::clone(&shared);
        let threads = std::thread::Builder::new()
            .name("shell-output".to_owned())
            .spawn(move || read_output(&reader))
            .and_then(|_reads| {
                let of = workplace.children;
                std::thread::Builder::new()
                    .name("shell-end".to_owned())
                    .spawn(move || wait_for_end(&shared, pid, of))
            });
        match threads {
            Ok(_waits) => Ok(shell),
            Err(error) => {
                children::kill(shell.children, shell.pid);
                shell.killed = true;
                // Nobody else waits for it.
                let _status = rustix::process::waitpid(Some(pid), WaitOptions::empty());
                raise(&shell.shared.closing);
                Err(error)
            }
        }
    }

    /// Whether the shell has ended by itself since the last command.
    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.shared.end).shell.is_some()
    }

    /// Runs a command. Gives what came of it and what was printed since the last one ended.
    pub(crate) fn run(&mut self, command: &str, deadline: Instant, stop: &Stop) -> (Ran, String) {
        self.commands += 1;
        let number = self.commands;
        let quoted = command.replace('\'', r"'\''");
        let begin = if number == 1 { BEGIN } else { "" };
        // Output and its errors go where they went at first, also after `exec >file`; `builtin
        // exec` would not do it for good. No braces around the command: bash forgets them when
        // the command has an open quote. A backslash in front keeps aliases out.
        let script = format!(
            "{begin}\\exec >&{OUTPUT} 2>&{OUTPUT}\n\
             \\builtin eval '{quoted}' </dev/null {STATUS}>&- {OUTPUT}>&-\n\
             \\__posthouse_ended {number} \"$?\"\n"
        );
        let ran = self.follow(script.as_bytes(), number, deadline, stop);
        if let Ran::Done(_) = ran {
            // What the command has printed is in the pipe by now. What comes later belongs to
            // processes in the background.
            let mut tail = lock(&self.shared.tail);
            let waiting = rustix::io::ioctl_fionread(&self.shared.pipe).unwrap_or(0);
            drain(&self.shared.pipe, &mut tail, usize::try_from(waiting).unwrap_or(0));
            return (ran, tail.take());
        }
        self.kill();
        let mut tail = lock(&self.shared.tail);
        drain(&self.shared.pipe, &mut tail, HURRY);
        (ran, tail.take())
    }

    /// Sends the script and waits for what comes first: its end, the shell's end, a stop, or
    /// the deadline.
    fn follow(&self, script: &[u8], number: u64, deadline: Instant, stop: &Stop) -> Ran {
        let mut rest = script;
        // Whether the socket for exit codes has no other end any more, as after `exec`.
        let mut deaf = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // A descriptor that would report its hang-up over and over is left out: another
            // takes its place in the list.
            let ended = &self.shared.ended;
            let status = if deaf { ended } else { &self.status };
            let (script, writes) = if rest.is_empty() {
                (ended, PollFlags::IN)
            } else {
                (&self.script, PollFlags::OUT)
            };
            let mut fds = [
                PollFd::new(status, PollFlags::IN),
                PollFd::new(ended, PollFlags::IN),
                PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
                PollFd::new(script, writes),
            ];
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Ran::Stopped,
            }
            let hung_up = fds[0].revents().contains(PollFlags::HUP);
            let ready = fds.each_ref().map(|fd| !fd.revents().is_empty());
            if ready[0]
                && let Some(code) = self.heard(number)
            {
                return Ran::Done(code);
            }
            if ready[1] {
                // Its last word may have come between the two looks.
                return match self.heard(number) {
                    Some(code) => Ran::Done(code),
                    None => Ran::Ended(lock(&self.shared.end).shell.unwrap_or(End::Unknown)),
                };
            }
            if stop.is_stopped() {
                return Ran::Stopped;
            }
            if Instant::now() >= deadline {
                return Ran::TimedOut;
            }
            if ready[3] && !rest.is_empty() {
                match send(&self.script, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                    Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                    Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                    // Nobody reads it any more: its end is about to be seen.
                    Err(_) => rest = &[],
                }
            }
            if ready[0] {
                deaf |= hung_up;
                // It was a message of somebody else, who may have more: no reason to hurry.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Reads messages until one says how command `number` has ended and comes from the shell.
    fn heard(&self, number: u64) -> Option<i32> {
        // Not without end: others may write as fast as this reads.
        for _ in 0..1000 {
            let mut bytes = [0_u8; 64];
            let mut space = [std::mem::MaybeUninit::uninit();
                rustix::cmsg_space!(ScmCredentials(1), ScmRights(8))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                &self.status,
                &mut [io::IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
            )
            .ok()?;
            // Descriptors that came along are closed as they are passed over.
            let sender = control.drain().fold(None, |sender, message| match message {
                RecvAncillaryMessage::ScmCredentials(who) => Some(who.pid),
                _ => sender,
            });
            let Some(sender) = sender else {
                if received.bytes == 0 {
                    return None;
                }
                continue;
            };
            if sender != self.pid {
                #[cfg(test)]
                FOREIGN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                continue;
            }
            let text = std::str::from_utf8(&bytes[..received.bytes.min(bytes.len())]).ok();
            let message = text.and_then(|text| text.split_once(' '));
            if let Some((of, code)) = message
                && of.parse() == Ok(number)
                && let Ok(code) = code.parse()
            {
                return Some(code);
            }
        }
        None
    }

    /// Kills the shell and everything that it has started, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if std::mem::replace(&mut self.killed, true) {
            return;
        }
        children::kill(self.children, self.pid);
        let deadline = Instant::now() + GONE;
        let mut end = lock(&self.shared.end);
        while !(end.shell.is_some() && end.all) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            end = self
                .shared
                .changed
                .wait_timeout(end, left.min(Duration::from_millis(100)))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            if self.children == Children::Namespace && !end.all {
                // One that was being forked when the others were killed.
                drop(end);
                children::kill(self.children, self.pid);
                end = lock(&self.shared.end);
            }
        }
        drop(end);
        if self.children == Children::Group {
            // Only now may the number be given to another process.
            let _status = rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG);
        }
        raise(&self.shared.closing);
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads at most `bytes` of what waits in the pipe.
fn drain(pipe: &OwnedFd, tail: &mut Tail, bytes: usize) {
    let mut buffer = vec![0_u8; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let wanted = left.min(buffer.len());
        match rustix::io::read(pipe, &mut buffer[..wanted]) {
            Ok(0) => return,
            Ok(count) => {
                tail.push(&buffer[..count]);
                left -= count;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Keeps the pipe empty until it is closed or the shell is given up.
fn read_output(shared: &Shared) {
    let mut buffer = vec![0_u8; 64 << 10];
    let mut read: usize = 0;
    loop {
        let mut fds =
            [PollFd::new(&shared.pipe, PollFlags::IN), PollFd::new(&shared.closing, PollFlags::IN)];
        let began = Instant::now();
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        }
        if began.elapsed() > SILENT {
            read = 0;
        }
        if !fds[1].revents().is_empty() {
            return;
        }
        // Locked while it reads, so that who drains the pipe finds nothing under way.
        let mut tail = lock(&shared.tail);
        match rustix::io::read(&shared.pipe, &mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                tail.push(&buffer[..count]);
                read = read.saturating_add(count);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        drop(tail);
        if read > HURRY {
            std::thread::sleep(PAUSE);
        }
    }
}

/// Waits for the shell, and in a namespace for every orphan, too.
fn wait_for_end(shared: &Shared, shell: Pid, of: Children) {
    let tell = |end: Option<End>, all: bool| {
        let mut ends = lock(&shared.end);
        ends.shell = ends.shell.or(end);
        ends.all |= all;
        if end.is_some() {
            raise(&shared.ended);
        }
        shared.changed.notify_all();
    };
    match of {
        Children::Group => {
            // It stays a zombie until everything is killed: its number must not mean another.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let end = loop {
                match rustix::process::waitid(WaitId::Pid(shell), options) {
                    Err(rustix::io::Errno::INTR) | Ok(None) => {}
                    Err(_) => break End::Unknown,
                    Ok(Some(status)) => {
                        break match (status.exit_status(), status.terminating_signal()) {
                            (Some(code), _) => End::Code(code),
                            (None, Some(signal)) => End::Signal(signal),
                            (None, None) => End::Unknown,
                        };
                    }
                }
            };
            tell(Some(end), true);
        }
        Children::Namespace => loop {
            match rustix::process::wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid == shell => {
                    let end = match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => End::Code(code),
                        (None, Some(signal)) => End::Signal(signal),
                        (None, None) => End::Unknown,
                    };
                    tell(Some(end), false);
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    tell(Some(End::Unknown), true);
                    return;
                }
            }
        },
    }
}
