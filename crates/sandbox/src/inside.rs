//! What runs inside of a cage: the helper, from its first instruction on.
//!
//! Plain threads, no asynchronous runtime, nothing of the server's memory. Whatever happens in
//! here can at worst end this cage.

#![expect(unsafe_code, reason = "descriptors and signals of a process that was just forked")]

mod allowance;
pub mod lockdown;
pub(crate) mod mounts;
pub mod network;
mod orders;
mod queue;
pub mod seccomp;
pub(crate) mod serve;
#[cfg(test)]
pub(crate) mod trial;

use std::{
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    time::Duration,
};

use mounts::{Failed, step};

use crate::{
    cgroups::ResourceLevel,
    frame::{self, FromHelper, Ready, Setup, ToHelper},
    launcher::{self, INSIDE_ID},
    settings::Isolation,
    tools::{Children, SPILL, Tools, Workplace},
};

/// Where programs are found inside.
const PATH: &str = "/home/agent/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:\
                    /sbin:/bin";
const HOME: &str = "/home/agent";

/// The first thing that a helper does. `mapped` tells when its ids have names.
pub(crate) fn begin(
    isolation: Isolation,
    ranged: bool,
    mapped: OwnedFd,
    socket: UnixStream,
    journal: File,
    filter: &Result<seccomp::Program, String>,
) -> ! {
    let code = match prepare(isolation, ranged, mapped, socket, journal, filter) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    // SAFETY: nothing of the launcher's that an exit would run belongs to this process.
    unsafe { libc::_exit(code) }
}

fn prepare(
    isolation: Isolation,
    ranged: bool,
    mapped: OwnedFd,
    socket: UnixStream,
    journal: File,
    filter: &Result<seccomp::Program, String>,
) -> io::Result<()> {
    keep_only(&[mapped.as_raw_fd(), socket.as_raw_fd(), journal.as_raw_fd()])?;
    // SAFETY: plain numbers. The shell and its children shall find the usual.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    File::from(mapped).read_exact(&mut [0])?;
    let mut server = socket;
    let Some(ToHelper::Setup(setup)) = frame::read(&mut server)? else { return Ok(()) };
    if setup.isolation != isolation {
        return Err(io::ErrorKind::InvalidData.into());
    }
    std::thread::sleep(Duration::from_millis(setup.delay_ms));
    let tools = match cage(&setup, ranged, filter, &server) {
        Ok(tools) => tools,
        Err((name, error)) => {
            let failed = FromHelper::Failed { step: name, reason: error.to_string() };
            return frame::write(&mut server, &failed);
        }
    };
    serve::serve(server, journal, tools)
}

/// Makes the cage around this process and tells the server.
fn cage(
    setup: &Setup,
    ranged: bool,
    filter: &Result<seccomp::Program, String>,
    server: &UnixStream,
) -> Result<Tools, Failed> {
    let mut listeners = Vec::new();
    let mut all_ports = false;
    let mut report = None;
    if setup.isolation == Isolation::Namespaces {
        let network::Listeners { tcp, dns, ports } =
            step("preparing the network", network::prepare())?;
        listeners.extend(tcp);
        listeners.push(dns);
        all_ports = matches!(ports, network::Ports::All);
        step("naming the host", sethostname())?;
        mounts::enter(setup, ranged, INSIDE_ID, INSIDE_ID)?;
        if setup.level == ResourceLevel::Rlimits {
            // The number in the cage is always the same; the host's tells cages apart.
            allowance::choose_processors(setup.limits.cpus, setup.seed);
        }
        let filter = filter.as_ref().map_err(|error| io::Error::other(error.clone()));
        let filter = step("compiling the system call filter", filter)?;
        let writable: Vec<_> = setup.writable.iter().map(|(_, inside)| inside.as_path()).collect();
        let drop_groups = setup.drop_groups;
        let identity = lockdown::Identity { uid: INSIDE_ID, gid: INSIDE_ID, drop_groups };
        let locked = lockdown::lock_down(&setup.limits, setup.level, identity, &writable, filter);
        report = Some(step("locking down", locked)?);
    }
    if setup.isolation == Isolation::Namespaces && setup.level == ResourceLevel::Rlimits {
        step("watching memory", allowance::watch_memory(setup.limits.memory))?;
    }
    let tools = Tools::new(workplace(setup));
    if let Some(note) = &setup.note {
        tools.note_fresh_shell(note);
    }
    let ready = FromHelper::Ready(Box::new(Ready { report, all_ports }));
    let ready = step("answering", frame::bytes(&ready))?;
    let beside: Vec<_> = listeners.iter().map(|listener| listener.as_fd()).collect();
    step("answering", launcher::send(server, &ready, &beside))?;
    Ok(tools)
}

fn workplace(setup: &Setup) -> Workplace {
    let isolated = setup.isolation == Isolation::Namespaces;
    let home = if isolated { PathBuf::from(HOME) } else { setup.tree.join("home") };
    let path =
        if isolated { PATH.to_owned() } else { std::env::var("PATH").unwrap_or(PATH.into()) };
    let environment = [
        ("PATH", path.as_str()),
        ("HOME", &home.to_string_lossy()),
        ("USER", "agent"),
        ("LOGNAME", "agent"),
        ("SHELL", "/bin/bash"),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
        ("PAGER", "cat"),
        ("GIT_PAGER", "cat"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ];
    let usual = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter();
    let is_usual = |name: &str| environment.iter().any(|(usual, _)| *usual == name);
    let more = setup.environment.iter().filter(|(name, _)| !is_usual(name)).cloned();
    Workplace {
        root: (!isolated).then(|| setup.tree.clone()),
        directory: "/workspace".into(),
        spill: SPILL.into(),
        shell: "/bin/bash".into(),
        environment: usual.chain(more).collect(),
        longest_call: setup.limits.call,
        children: if isolated { Children::Namespace } else { Children::Group },
        limits: isolated.then_some(setup.limits),
    }
}

fn sethostname() -> io::Result<()> {
    Ok(rustix::system::sethostname(b"sandbox")?)
}

/// Closes every descriptor but these, and gives the first three to nobody.
fn keep_only(kept: &[i32]) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for descriptor in 0..3 {
        if !kept.contains(&descriptor) {
            // SAFETY: both are plain numbers of this process' own table.
            unsafe { libc::dup2(null.as_raw_fd(), descriptor) };
        }
    }
    drop(null);
    let mut kept: Vec<u32> = kept.iter().filter_map(|one| u32::try_from(*one).ok()).collect();
    kept.sort_unstable();
    let mut from = 3;
    for descriptor in kept.into_iter().chain([u32::MAX]) {
        if descriptor > from {
            // SAFETY: closes descriptors that no object of this process owns any more: all that
            // it has are in `kept`, the launcher's are used by nobody here.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, from, descriptor - 1, 0) };
            if closed < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        from = descriptor.saturating_add(1).max(3);
    }
    Ok(())
}
