//! [`Warden`]: a process of ours that stands above a program and all that it starts, so that they are
//! found when they have to end.
//!
//! The warden is a fork of this process that executes nothing. Whatever below it loses its parent
//! becomes its child, however often it forks and whatever session it makes, and it says when it has
//! no child left. No shell's end waits for it or takes it for its own: it was cloned without a
//! signal for its end. It has no descriptor but the pipe on which it speaks, and nobody in a cage may
//! look into it. Killing it helps nobody: then everything in the cage is killed.
#![expect(unsafe_code, reason = "two processes are forked, one of which never executes anything")]

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    ptr,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pipe::PipeFlags,
    process::{Pid, Signal, kill_process},
};

use super::{children, shell::End};
use crate::{inside::lockdown, settings::Limits};

/// How long killing may take before everything in the cage is killed at once.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait between two looks at what is left.
const LOOK: Duration = Duration::from_millis(2);

/// What a warden says: one letter and a number.
const LENGTH: usize = 5;
const BEGAN: u8 = b'b';
const ENDED: u8 = b'e';
const NOBODY: u8 = b'n';

/// What is to be executed, in the form in which the kernel takes it: nothing is made between fork and
/// execution.
pub(super) struct Execution {
    /// Where the program may be, in the order in which it is looked for.
    pub(super) paths: Vec<CString>,
    /// Its arguments, its name first.
    pub(super) arguments: Vec<CString>,
    /// Its whole environment.
    pub(super) environment: Vec<CString>,
    /// Where it starts.
    pub(super) directory: CString,
    /// What it may use less than this process.
    pub(super) limits: Option<Limits>,
}

/// A warden with its program. Dropped, it ends with everything below it.
pub(super) struct Warden {
    pid: Pid,
    words: OwnedFd,
    /// The program, from the moment on in which it has begun.
    pub(super) program: Option<Pid>,
    /// How the program has ended.
    pub(super) end: Option<End>,
    /// Whether nothing is left below it.
    empty: bool,
    /// Whether it says nothing any more.
    pub(super) silent: bool,
}

impl Warden {
    /// Starts a program with these as its input, output and errors. The calling thread has to live as
    /// long as the warden.
    pub(super) fn start(execution: &Execution, usual: [OwnedFd; 3]) -> io::Result<Self> {
        let (words, says) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&words, true)?;
        let (failure, fails) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let list = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
        };
        let fork = Fork {
            paths: &execution.paths,
            arguments: &list(&execution.arguments),
            environment: &list(&execution.environment),
            directory: &execution.directory,
            limits: execution.limits.as_ref(),
            usual: usual.each_ref().map(|one| one.as_raw_fd()),
            says: says.as_raw_fd(),
            fails: fails.as_raw_fd(),
        };
        let pid = children::keep_warden(|| {
            // SAFETY: like fork. What the new process does until it ends, or executes something else,
            // are system calls alone, on memory that was made before.
            match unsafe { clone(0) } {
                0 => unsafe { fork.guard() },
                pid => Pid::from_raw(pid).ok_or_else(io::Error::last_os_error),
            }
        })?;
        drop((usual, says, fails));
        let warden = Self { pid, words, program: None, end: None, empty: false, silent: false };
        let mut number = [0; 4];
        // It ends when the program is executed, for the other end is closed then.
        match File::from(failure).read_exact(&mut number) {
            Ok(()) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number))),
            Err(_) => Ok(warden),
        }
    }

    /// Where it speaks: readable when there is something to hear.
    pub(super) fn words(&self) -> &OwnedFd {
        &self.words
    }

    /// Hears what it has said.
    pub(super) fn hear(&mut self) {
        loop {
            // One word is written at once and never torn.
            let mut word = [0; LENGTH];
            let read = rustix::io::read(&self.words, &mut word);
            let number = i32::from_ne_bytes([word[1], word[2], word[3], word[4]]);
            match (read, word[0]) {
                (Ok(LENGTH), BEGAN) => self.program = Pid::from_raw(number),
                (Ok(LENGTH), ENDED) => self.end = Some(end(number)),
                (Ok(LENGTH), NOBODY) => self.empty = true,
                (Err(rustix::io::Errno::INTR), _) => {}
                (Err(rustix::io::Errno::AGAIN), _) => return,
                _ => {
                    self.silent = true;
                    return;
                }
            }
        }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        self.hear();
        while !(self.empty || self.silent) && Instant::now() < deadline {
            for process in children::below(self.pid) {
                let _gone = kill_process(process, Signal::KILL);
            }
            // Somebody may have stopped it, and it has to see them go.
            let _gone = kill_process(self.pid, Signal::CONT);
            let timeout = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
            let _later = poll(&mut [PollFd::new(&self.words, PollFlags::IN)], Some(&timeout));
            self.hear();
        }
        let last = (!self.empty).then_some(self.pid);
        let _gone = kill_process(self.pid, Signal::KILL);
        if last.is_some() {
            // It was killed, or what it guards forks faster than it dies.
            children::kill_all();
        }
        children::drop_warden(self.pid);
        let mut status = 0;
        // SAFETY: one number, which lives through the call.
        while unsafe {
            libc::waitpid(self.pid.as_raw_nonzero().get(), &raw mut status, libc::__WCLONE)
        } < 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
    }
}

fn end(status: i32) -> End {
    if libc::WIFEXITED(status) {
        End::Code(libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        End::Signal(libc::WTERMSIG(status))
    } else {
        End::Unknown
    }
}

/// Forks; 0 in the new process, less than that where there is none.
///
/// # Safety
/// The new process may make system calls alone: the locks of other threads are held for ever there.
unsafe fn clone(signal: libc::c_int) -> i32 {
    // SAFETY: no stack and no memory is shared.
    let pid = unsafe { libc::syscall(libc::SYS_clone, signal, 0_usize, 0_usize, 0_usize, 0_usize) };
    i32::try_from(pid).unwrap_or(-1)
}

/// What the new processes need, made before they are.
struct Fork<'a> {
    paths: &'a [CString],
    arguments: &'a [*const libc::c_char],
    environment: &'a [*const libc::c_char],
    directory: &'a CStr,
    limits: Option<&'a Limits>,
    usual: [RawFd; 3],
    says: RawFd,
    fails: RawFd,
}

impl Fork<'_> {
    /// Is the warden, until nothing is left below.
    ///
    /// # Safety
    /// In a process that was just forked.
    unsafe fn guard(&self) -> ! {
        // SAFETY: numbers, and memory of this function that lives through each call.
        unsafe {
            // Nothing but a kill ends it.
            let mut all = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::prctl(libc::PR_SET_NAME, c"warden".as_ptr());
            if libc::setsid() < 0 || libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) < 0 {
                self.fail();
            }
            let program = clone(libc::SIGCHLD);
            match program {
                0 => self.execute(),
                pid if pid < 0 => self.fail(),
                _ => {}
            }
            let says = self.says.unsigned_abs();
            let before = says == 0 || libc::close_range(0, says - 1, 0) == 0;
            if !before || libc::close_range(says + 1, u32::MAX, 0) != 0 {
                // The program dies with it.
                libc::_exit(1);
            }
            self.say(BEGAN, program);
            loop {
                let mut status = 0;
                let gone = libc::waitpid(-1, &raw mut status, 0);
                if gone == program {
                    self.say(ENDED, status);
                } else if gone < 0 && *libc::__errno_location() == libc::ECHILD {
                    self.say(NOBODY, 0);
                    libc::_exit(0);
                }
            }
        }
    }

    /// Becomes the program.
    ///
    /// # Safety
    /// In a process that was just forked.
    unsafe fn execute(&self) -> ! {
        // SAFETY: numbers, and memory that was made before the fork; each list ends with a null.
        unsafe {
            // What this process does with signals is not for the program.
            for signal in 1..=31 {
                let _fixed = libc::signal(signal, libc::SIG_DFL);
            }
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            for (number, descriptor) in self.usual.iter().enumerate() {
                if libc::dup2(*descriptor, number as i32) < 0 {
                    self.fail();
                }
            }
            // Nothing else that this process has open is for it, whatever its flags say.
            let closed = libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32);
            let narrowed =
                self.limits.is_none_or(|limits| lockdown::narrow_for_tool(limits).is_ok());
            if closed != 0
                || !narrowed
                || libc::setsid() < 0
                || libc::chdir(self.directory.as_ptr()) < 0
            {
                self.fail();
            }
            let mut why = libc::ENOENT;
            for path in self.paths {
                libc::execve(path.as_ptr(), self.arguments.as_ptr(), self.environment.as_ptr());
                match *libc::__errno_location() {
                    libc::ENOENT | libc::ENOTDIR => {}
                    other => why = other,
                }
            }
            *libc::__errno_location() = why;
            self.fail()
        }
    }

    /// Ends this process and says why.
    ///
    /// # Safety
    /// In a process that was just forked.
    unsafe fn fail(&self) -> ! {
        // SAFETY: as many bytes as the array has.
        unsafe {
            let number = (*libc::__errno_location()).to_ne_bytes();
            libc::write(self.fails, number.as_ptr().cast(), number.len());
            libc::_exit(127)
        }
    }

    /// Says one word.
    ///
    /// # Safety
    /// In a process that was just forked.
    unsafe fn say(&self, letter: u8, number: i32) {
        let [a, b, c, d] = number.to_ne_bytes();
        let word = [letter, a, b, c, d];
        // SAFETY: as many bytes as the array has. Nobody hears it when this process is about to end.
        unsafe { libc::write(self.says, word.as_ptr().cast(), LENGTH) };
    }
}
