//! What a probe is, what it expects of a cage and of a bare host, and how it is told.
//!
//! Plain values and one line of JSON. Makes no system call.

use std::io::Error;

use serde_json::json;

use crate::kernel;

/// What a cage has to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inside {
    /// It must not succeed.
    Refused,
    /// It must succeed: without it, honest work is not possible.
    Works,
}

/// What the same probe says on a bare host as root. Without that it proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// It succeeds.
    Allowed,
    /// It succeeds where the host has what it is about. The text says what that is.
    Where(&'static str),
    /// It succeeds nowhere; the probe is there for kernels that differ. The text says why.
    Nowhere(&'static str),
}

/// What came of an attempt.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It succeeded, or only its arguments, made wrong on purpose, were complained about.
    Allowed(String),
    /// The kernel refused, or there is nothing to try it on.
    Refused(Option<i32>, String),
}

impl Attempt {
    /// Success is success; every error is a refusal.
    pub(crate) fn by_success(answer: Result<i64, Error>) -> Self {
        match answer {
            Ok(value) => Self::Allowed(format!("answered {value}")),
            Err(error) => Self::refused(&error),
        }
    }

    /// Errors about arguments mean that permission was given: they are wrong on purpose.
    pub(crate) fn by_permission(answer: Result<i64, Error>) -> Self {
        match answer {
            Err(error) => match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES | libc::ENOSYS) | None => Self::refused(&error),
                Some(_) => Self::Allowed(format!("reached the kernel: {error}")),
            },
            fine => Self::by_success(fine),
        }
    }

    /// Opens a program for writing. One that runs is busy, which is told to those alone who may.
    pub(crate) fn by_permission_of_file(path: &str) -> Self {
        match std::fs::OpenOptions::new().write(true).open(path) {
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {
                Self::Allowed(format!("only busy: {error}"))
            }
            other => Self::of(other),
        }
    }

    pub(crate) fn refused(error: &Error) -> Self {
        Self::Refused(error.raw_os_error(), error.to_string())
    }

    /// There is nothing here that could be tried.
    pub(crate) fn absent(what: impl Into<String>) -> Self {
        Self::Refused(None, what.into())
    }

    pub(crate) fn of<T>(answer: Result<T, Error>) -> Self {
        Self::by_success(answer.map(|_| 0))
    }

    fn line(&self, name: &str, expected: (Inside, Control)) -> String {
        let (allowed, errno, detail) = match self {
            Self::Allowed(detail) => (true, None, detail),
            Self::Refused(errno, detail) => (false, *errno, detail),
        };
        let inside = match expected.0 {
            Inside::Refused => "refused",
            Inside::Works => "works",
        };
        let (control, why) = match expected.1 {
            Control::Allowed => ("allowed", None),
            Control::Where(why) => ("where", Some(why)),
            Control::Nowhere(why) => ("nowhere", Some(why)),
        };
        json!({
            "probe": name, "allowed": allowed, "errno": errno, "detail": detail,
            "inside": inside, "control": control, "why": why,
        })
        .to_string()
    }
}

/// One attempt and what is expected of it.
pub(crate) struct Probe {
    /// What it is called in reports.
    pub(crate) name: String,
    inside: Inside,
    control: Control,
    attempt: Box<dyn Fn() -> Attempt>,
}

impl Probe {
    pub(crate) fn refused(
        name: impl Into<String>,
        control: Control,
        attempt: impl Fn() -> Attempt + 'static,
    ) -> Self {
        Self { name: name.into(), inside: Inside::Refused, control, attempt: Box::new(attempt) }
    }

    pub(crate) fn works(name: &str, attempt: impl Fn() -> Attempt + 'static) -> Self {
        let attempt = Box::new(attempt);
        Self { name: name.into(), inside: Inside::Works, control: Control::Allowed, attempt }
    }

    /// Runs it in a process of its own, for some attempts change or end who makes them.
    pub(crate) fn run(&self) -> String {
        let name = self.name.clone();
        let expected = (self.inside, self.control);
        match kernel::in_child(|| (self.attempt)().line(&name, expected)) {
            Ok(line) => line,
            Err(how) => Attempt::absent(how).line(&name, expected),
        }
    }
}

/// The line of an attempt that was asked for by name and argument.
pub(crate) fn line(name: &str, attempt: &Attempt) -> String {
    attempt.line(name, (Inside::Refused, Control::Allowed))
}
