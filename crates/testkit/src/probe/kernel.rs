//! The few doors to the kernel: a raw system call with checked arguments, a fork, a clone.
//!
//! Memory that a call may write to is borrowed mutably, so that callers need no `unsafe`. Calls
//! that change the memory of this process are not made through here.
#![expect(unsafe_code, reason = "raw system calls are what this program is for")]

use std::ffi::CStr;
use std::io::{Error, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// One argument of a system call.
pub(crate) enum Argument<'a> {
    Number(i64),
    Text(&'a CStr),
    Buffer(&'a mut [u8]),
}

impl From<i64> for Argument<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<i32> for Argument<'_> {
    fn from(number: i32) -> Self {
        Self::Number(i64::from(number))
    }
}

impl From<u32> for Argument<'_> {
    fn from(number: u32) -> Self {
        Self::Number(i64::from(number))
    }
}

impl<'a> From<&'a CStr> for Argument<'a> {
    fn from(text: &'a CStr) -> Self {
        Self::Text(text)
    }
}

impl<'a, const N: usize> From<&'a mut [u8; N]> for Argument<'a> {
    fn from(buffer: &'a mut [u8; N]) -> Self {
        Self::Buffer(buffer)
    }
}

impl<'a> From<&'a mut Vec<u8>> for Argument<'a> {
    fn from(buffer: &'a mut Vec<u8>) -> Self {
        Self::Buffer(buffer)
    }
}

/// `call!(number, argument…)`, arguments as they come.
macro_rules! call {
    ($number:expr $(, $argument:expr)* $(,)?) => {
        $crate::kernel::make($number, &mut [$($crate::kernel::Argument::from($argument)),*])
    };
}
pub(crate) use call;

/// Makes the call. Numbers are what they are; texts and buffers outlive it.
pub(crate) fn make(number: i64, arguments: &mut [Argument<'_>]) -> Result<i64, Error> {
    let mut raw = [0_i64; 6];
    for (place, argument) in raw.iter_mut().zip(arguments) {
        *place = match argument {
            Argument::Number(number) => *number,
            Argument::Text(text) => text.as_ptr() as i64,
            Argument::Buffer(buffer) => buffer.as_mut_ptr() as i64,
        };
    }
    // SAFETY: pointers come from borrows that live until the call is back, texts end with a zero,
    // and what is written goes into a buffer whose length the caller has handed to the kernel.
    let answer = unsafe { libc::syscall(number, raw[0], raw[1], raw[2], raw[3], raw[4], raw[5]) };
    if answer < 0 { Err(Error::last_os_error()) } else { Ok(answer) }
}

/// Makes a call that opens something, and closes it at once.
pub(crate) fn open_and_close(answer: Result<i64, Error>) -> Result<i64, Error> {
    answer.inspect(|descriptor| {
        drop(owned(*descriptor));
    })
}

/// The descriptor that a call has just made.
pub(crate) fn owned(descriptor: i64) -> Option<OwnedFd> {
    let number = i32::try_from(descriptor).ok().filter(|number| *number > 2)?;
    // SAFETY: the kernel has just handed it out to this process, and nobody else knows of it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Runs `work` in a forked child. The error says how the child ended, if it said nothing.
pub(crate) fn in_child(work: impl FnOnce() -> String) -> Result<String, String> {
    let (mut from, mut to) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
    // SAFETY: this program has one thread, so the child finds no lock held by another one.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(format!("no child: {}", Error::last_os_error())),
        0 => {
            drop(from);
            let _ = to.write_all(work().as_bytes());
            leave()
        }
        child => {
            drop(to);
            let mut text = String::new();
            let read = from.read_to_string(&mut text);
            let status = wait(child);
            match read {
                Ok(_) if !text.is_empty() => Ok(text),
                _ => Err(ended(status)),
            }
        }
    }
}

/// Clones with these flags; whether there was a child. It ends at once.
pub(crate) fn clone(flags: i32) -> Result<i64, Error> {
    // SAFETY: without a stack of its own the child has a copy of this one, as after a fork.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
    reap(child)
}

/// The same by `clone3`.
pub(crate) fn clone3(flags: u64) -> Result<i64, Error> {
    // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls: the first version.
    let mut arguments = [flags, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    // SAFETY: the eight numbers are what the kernel calls `clone_args`; no stack means a copy.
    let child =
        unsafe { libc::syscall(libc::SYS_clone3, arguments.as_mut_ptr(), size_of_val(&arguments)) };
    reap(child)
}

fn reap(child: i64) -> Result<i64, Error> {
    match child {
        -1 => Err(Error::last_os_error()),
        0 => leave(),
        child => {
            wait(i32::try_from(child).unwrap_or(-1));
            Ok(0)
        }
    }
}

/// Ends this process without running anything that its parent has registered.
pub(crate) fn leave() -> ! {
    // SAFETY: `_exit` takes a number and does not come back.
    unsafe { libc::_exit(0) }
}

/// Waits for a child; its status as the kernel tells it.
pub(crate) fn wait(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is a number of our own.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    status
}

fn ended(status: i32) -> String {
    if libc::WIFSIGNALED(status) {
        format!("killed by signal {}", libc::WTERMSIG(status))
    } else {
        format!("ended with {} and without a word", libc::WEXITSTATUS(status))
    }
}

/// Asks to be traced by the parent, then stops.
pub(crate) fn be_traced_and_stop() {
    // SAFETY: neither call takes memory.
    unsafe {
        libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
        libc::raise(libc::SIGSTOP);
    }
}

/// Forks a child that waits until the answered descriptor is closed.
pub(crate) fn waiting_child(first: impl FnOnce()) -> Result<(i32, std::io::PipeWriter), Error> {
    let (mut from, to) = std::io::pipe()?;
    // SAFETY: this program has one thread here, so the child finds no lock held by another one.
    match unsafe { libc::fork() } {
        -1 => Err(Error::last_os_error()),
        0 => {
            drop(to);
            first();
            let _ = from.read(&mut [0]);
            leave()
        }
        child => Ok((child, to)),
    }
}

/// The limits, rights and state lines of `/proc/self/status`.
pub(crate) fn status(field: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// The number that the kernel calls an open file by.
pub(crate) fn number(file: &impl AsFd) -> i32 {
    use std::os::fd::AsRawFd;
    file.as_fd().as_raw_fd()
}

/// A call of the 32-bit world: `getpid` there. Answers a process number if that world is open.
#[cfg(target_arch = "x86_64")]
pub(crate) fn call_of_32_bits() -> i64 {
    const GETPID: u64 = 20;
    let answer: u64;
    // SAFETY: the call takes no memory; the registers that the kernel may change are named.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("rax") GETPID => answer,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            options(nostack),
        );
    }
    // The error of a 32-bit call is a small negative number of 32 bits.
    #[expect(clippy::cast_possible_truncation, reason = "the answer has 32 bits")]
    let answer = answer as u32;
    i64::from(answer.cast_signed())
}
