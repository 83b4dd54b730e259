//! A server that dies leaves no picture of its memory, and while it lives nobody else of its user
//! looks into it.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::ExitStatusExt as _,
    },
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Stands in the environment of a process, and so in its memory.
const CANARY: &str = "canary-of-the-core-0123456789";
const NOBODY: u32 = 65_534;

/// A process in a folder of its own that may leave a core there, as an ordinary user if it can be.
fn spawn(folder: &Path, command: &str) -> Child {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("ulimit -c unlimited; exec {command}")])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", folder)
        .env("POSTHOUSE_API_KEY", CANARY)
        .env("OLLAMA_HOST", "127.0.0.1:9")
        .current_dir(folder)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if rustix::process::geteuid().is_root() {
        chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
        shell.uid(NOBODY).gid(NOBODY);
    }
    shell.spawn().unwrap()
}

/// Aborts a process once it has said something.
async fn abort(mut child: Child, look: impl FnOnce(u32)) -> ExitStatus {
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    timeout(Duration::from_secs(10), said.next_line()).await.unwrap().unwrap().unwrap();
    let pid = child.id().unwrap();
    look(pid);
    let sent = Command::new("kill").args(["-ABRT", &pid.to_string()]).status().await.unwrap();
    assert!(sent.success());
    let status = timeout(Duration::from_secs(30), child.wait()).await.unwrap().unwrap();
    assert_eq!(status.signal(), Some(6), "{status}");
    status
}

/// Whether the canary lies in a file of a folder.
fn lies_in(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let holds = |path: &Path| {
            let bytes = fs::read(path).unwrap();
            bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
        };
        if path.is_dir() { lies_in(&path) } else { holds(&path) }
    })
}

/// Who owns what the kernel shows of a process. Of one that can't be dumped, root does.
fn owner(pid: u32) -> u32 {
    fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid()
}

#[tokio::test]
async fn a_server_that_dies_leaves_no_core() {
    let (folder, control) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for folder in [&folder, &control] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let program = folder.path().join("posthouse");
    fs::copy(env!("CARGO_BIN_EXE_posthouse"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let serve = "./posthouse serve --listen 127.0.0.1:0 --data data";
    let server = abort(spawn(folder.path(), serve), |pid| {
        assert_eq!(owner(pid), 0, "others of its user may look into it");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let numbers: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(numbers, ["1", "1"], "{core}");
    });
    let status = server.await;
    assert!(!status.core_dumped(), "{status}");
    assert!(!lies_in(folder.path()));

    // The same without what a server does to itself.
    let other = abort(spawn(control.path(), "sh -c 'echo here; exec sleep 60'"), |pid| {
        let own = rustix::process::geteuid();
        assert_eq!(owner(pid), if own.is_root() { NOBODY } else { own.as_raw() });
    });
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let status = other.await;
    if !status.core_dumped() {
        eprintln!("this host writes no core of anything ({pattern:?}); looked at owners alone");
    } else if !pattern.starts_with(['|', '/', '@']) {
        assert!(lies_in(control.path()), "the control has left no core that is found");
    }
}
