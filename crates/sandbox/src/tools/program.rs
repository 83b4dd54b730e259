//! Programs that run beside the tools and speak with the server over their input and output. What
//! they say goes past this process: it knows their end and their last words alone.

use std::{
    ffi::CString,
    fs, io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    pipe::PipeFlags,
};
use serde::{Deserialize, Serialize};

use super::{
    Stop, Workplace,
    output::readable,
    place::Place,
    shell::End,
    warden::{Execution, Warden},
};

/// How many programs a cage has at once.
pub const MOST: u32 = 20;
/// Bytes of what a program has printed as its errors that are kept: the last of them.
const LAST_WORDS: usize = 8 << 10;
/// Bytes of errors after which reading is slowed down, and the pause after each look then.
const HURRY: usize = 1 << 20;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

/// A program that runs beside a session's tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program: a path, or a name that is looked up in the sandbox's `PATH`.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, beside the sandbox's own and stronger.
    pub env: Vec<(String, String)>,
}

/// Runs a program until it ends or is stopped, and everything that it has started with it. Calls
/// `began` when it was executed. Says what has happened to it in words.
pub(crate) fn run(
    workplace: &Workplace,
    place: &Place,
    program: &Program,
    [input, output]: [OwnedFd; 2],
    stop: &Stop,
    began: impl FnOnce(),
) -> String {
    let started = execution(workplace, place, program).and_then(|execution| {
        let (errors, errors_inside) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&errors, true)?;
        let named = |error| io::Error::other(format!("{}: {error}", program.command));
        let warden = Warden::start(&execution, [input, output, errors_inside]).map_err(named)?;
        Ok((warden, errors))
    });
    let (mut warden, errors) = match started {
        Ok(started) => started,
        Err(error) => return format!("can't be started: {error}"),
    };
    began();
    let mut words = LastWords { pipe: Some(errors), bytes: Vec::new(), read: 0 };
    let mut marked = false;
    while warden.end.is_none() && !warden.silent && !stop.is_stopped() {
        let mut fds = vec![
            PollFd::new(warden.words(), PollFlags::IN),
            PollFd::from_borrowed_fd(std::os::fd::AsFd::as_fd(stop), PollFlags::IN),
        ];
        fds.extend(words.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
        drop(fds);
        warden.hear();
        if let Some(pid) = warden.program
            && !marked
        {
            marked = true;
            // Where memory ends, it goes before the helper. One that has ended already needs nothing.
            let _gone = fs::write(format!("/proc/{pid}/oom_score_adj"), "800");
        }
        words.read();
    }
    let end = warden.end;
    drop(warden);
    words.read();
    let how = match end {
        Some(End::Code(code)) => format!("has ended with exit code {code}"),
        Some(End::Signal(signal)) => format!("was killed by signal {signal}"),
        Some(End::Unknown) | None => "was ended".to_owned(),
    };
    match words.text() {
        text if text.is_empty() => how,
        text => format!("{how}; its last words: {text}"),
    }
}

fn execution(workplace: &Workplace, place: &Place, program: &Program) -> io::Result<Execution> {
    let text = |text: &[u8]| {
        CString::new(text)
            .map_err(|_| io::Error::other("a NUL is in its command line or environment"))
    };
    let directory = place.on_host(&workplace.directory);
    if !directory.is_dir() {
        // A command may have removed it. If it can't be made again, starting says so.
        let _made = place.make_folders(&workplace.directory);
    }
    let mut variables: Vec<(&str, &str)> = Vec::new();
    for (name, value) in workplace.environment.iter().chain(&program.env) {
        if name.is_empty() || name.contains('=') {
            return Err(io::Error::other(format!("{name:?} is no name of a variable")));
        }
        variables.retain(|(known, _)| known != name);
        variables.push((name, value));
    }
    let paths = match program.command.as_str() {
        "" => return Err(io::Error::other("its command is empty")),
        command if command.contains('/') => vec![text(command.as_bytes())?],
        command => {
            let found = variables.iter().find(|(name, _)| *name == "PATH");
            let folders = found.map_or("", |(_, path)| path).split(':');
            let folders = folders.filter(|folder| !folder.is_empty());
            folders
                .map(|folder| text(Path::new(folder).join(command).as_os_str().as_bytes()))
                .collect::<io::Result<_>>()?
        }
    };
    let words = std::iter::once(&program.command).chain(&program.args);
    Ok(Execution {
        paths,
        arguments: words.map(|word| text(word.as_bytes())).collect::<io::Result<_>>()?,
        environment: variables
            .iter()
            .map(|(name, value)| text(format!("{name}={value}").as_bytes()))
            .collect::<io::Result<_>>()?,
        directory: text(directory.as_os_str().as_bytes())?,
        limits: workplace.limits,
    })
}

/// The end of what a program prints as its errors.
struct LastWords {
    pipe: Option<OwnedFd>,
    bytes: Vec<u8>,
    read: usize,
}

impl LastWords {
    /// Reads some of what waits.
    fn read(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                self.bytes.extend_from_slice(&buffer[..count]);
                self.bytes.drain(..self.bytes.len().saturating_sub(LAST_WORDS));
                self.read = self.read.saturating_add(count);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.pipe = None,
        }
        if self.read > HURRY {
            // Who prints without end shall not cost a processor.
            std::thread::sleep(PAUSE);
        }
    }

    fn text(&self) -> String {
        readable(&self.bytes).trim().to_owned()
    }
}
