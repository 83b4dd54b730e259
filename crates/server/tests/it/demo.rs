//! The demo passes, fails when a part of it is taken away, and says so where a host forbids it to
//! run tools.

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use posthouse::demo::{Ending, Part, run};
use posthouse_sandbox::host;
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::timeout,
};

/// The test's own program is no helper.
fn helper() -> PathBuf {
    env!("CARGO_BIN_EXE_posthouse").into()
}

#[tokio::test]
async fn the_demo_passes() {
    let ending = run(None, helper()).await.unwrap();
    assert_eq!(ending, Ending::Passed, "this host allows no sandbox");
}

#[tokio::test]
async fn the_demo_needs_each_of_its_parts() {
    for part in [Part::Server, Part::Log, Part::Harness, Part::Provider, Part::Sandbox] {
        let begun = Instant::now();
        let error = run(Some(part), helper())
            .await
            .err()
            .unwrap_or_else(|| panic!("passed without {part:?}"));
        println!("without {part:?}: {}", error.with_causes());
        assert!(begun.elapsed() < Duration::from_secs(60), "{part:?} took too long to be missed");
    }
}

/// What the demo is run by where no other user namespace can be made, as on a host whose
/// `user.max_user_namespaces` is 0. `$0` is the program.
const FORBID: &str = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" demo";

/// Starts the demo in a user namespace that may make no other one, with the ids of this one.
async fn start_forbidden(command: &mut Command) -> Child {
    command.arg("--user");
    if !rustix::process::geteuid().is_root() {
        // An ordinary user stays one; what writes the limit needs the namespace's rights.
        command.args(["--map-current-user", "--keep-caps", "sh", "-c", FORBID]).arg(helper());
        return command.spawn().unwrap();
    }
    // All ids, which only somebody outside can give it. It waits for them.
    command.args(["sh", "-c", "read -r go && exec sh -c \"$1\" \"$0\""]).arg(helper()).arg(FORBID);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let pid = child.id().unwrap();
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/user")).unwrap();
    while namespace(&pid.to_string()) == namespace("self") {
        tokio::task::yield_now().await;
    }
    for name in ["uid_map", "gid_map"] {
        let own = fs::read_to_string(format!("/proc/self/{name}")).unwrap();
        let same = own.lines().map(|line| {
            let numbers: Vec<&str> = line.split_whitespace().collect();
            format!("{0} {0} {1}\n", numbers[0], numbers[2])
        });
        fs::write(format!("/proc/{pid}/{name}"), same.collect::<String>()).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
    child
}

#[tokio::test]
async fn where_the_host_forbids_sandboxes_the_demo_says_so_and_what_mends_it() {
    let temporary = TempDir::new().unwrap();
    // Where this host itself forbids them, nothing has to be forbidden.
    let allowed = host::allows_cages(&host::examine(temporary.path()));
    let mut command = Command::new(if allowed { "unshare".into() } else { helper() });
    command.env("TMPDIR", temporary.path()).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = if allowed {
        start_forbidden(&mut command).await
    } else {
        command.arg("demo").spawn().unwrap()
    };
    let ended = timeout(Duration::from_secs(60), child.wait_with_output());
    let output = ended.await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (said, errors) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("tool   failed: This host does not allow sandboxes"), "{said}");
    assert!(said.contains("so no tool was run; what is missing:"), "{said}");
    assert!(said.contains("to mend it: "), "{said}");
    if allowed {
        assert!(said.contains("to mend it: sysctl -w user.max_user_namespaces=65536"), "{said}");
    }
    assert!(said.contains("the log holds the same"), "it goes on: {said}");
    assert!(!said.contains("demo passed"), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("demo ended without a sandbox: no tool was run"), "{last}");
    let left = fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "nothing is left behind");
}
