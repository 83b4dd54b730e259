//! Being told to stop: whatever a command does to live on, it is gone within a second.
//!
//! Bounds on time are for liveness: what is stopped must be gone long before it would end itself.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    driver::{self, for_both},
    place::{canary, eventually, processes_with},
};

/// Ways to outlive an order to stop. `MARK` becomes a word in the command line of what stays.
const STUBBORN: &[(&str, &str)] = &[
    ("plain", "exec -a MARK sleep 300"),
    ("deaf", "trap '' TERM INT HUP QUIT; (exec -a MARK sleep 300); sleep 300"),
    ("another session", "setsid bash -c 'exec -a MARK sleep 300' & sleep 300"),
    ("forked twice", "( ( bash -c 'exec -a MARK sleep 300' & ) & ) ; sleep 300"),
    ("stopped", "bash -c 'kill -STOP $$; exec -a MARK sleep 300' MARK & sleep 300"),
    (
        "starting again and again",
        "bash -c 'while :; do bash -c \"exec -a MARK sleep 1\" & \
        wait; done' MARK & sleep 300",
    ),
    (
        "orphaned and deaf",
        "nohup setsid bash -c 'trap \"\" TERM; exec -a MARK sleep 300' \
        > /dev/null 2>&1 & sleep 300",
    ),
    (
        "traced",
        "python3 -c '
import ctypes, os, time
pid = os.fork()
if pid == 0:
    ctypes.CDLL(None).ptrace(0, 0, 0, 0)
    os.kill(os.getpid(), 19)
os.waitpid(pid, 2) if pid else None
time.sleep(300)' MARK",
    ),
    ("waiting in the kernel", "mkfifo /tmp/MARK-f; bash -c 'cat /tmp/MARK-f' MARK"),
];

for_both! {
    /// An interrupted call leaves nothing that runs.
    #[test]
    fn an_interrupt_ends_whatever_it_started(user: User) {
        let driver = driver::shared(user);
        for (kind, command) in STUBBORN {
            let session = driver.session();
            session.bash("true").fine();
            let mark = canary("stubborn");
            let call = session.begin_bash(&command.replace("MARK", &mark));
            // The control: it does run.
            eventually(kind, || !processes_with(&mark).is_empty());
            std::thread::sleep(Duration::from_millis(60));
            let asked = Instant::now();
            session.stop(&call);
            eventually(kind, || processes_with(&mark).is_empty());
            assert!(asked.elapsed() < Duration::from_secs(3), "{kind}: {:?}", asked.elapsed());
            // The cage is as good as before.
            let said = session.bash("echo still");
            assert!(said.text.trim_end().ends_with("still"), "{kind}: {said:?}");
            session.delete();
        }
    }

    /// A time that is up does the same.
    #[test]
    fn a_timeout_ends_whatever_it_started(user: User) {
        let driver = driver::shared(user);
        let session = driver.session();
        let mark = canary("late");
        let command = format!("trap '' TERM; setsid bash -c 'exec -a {mark} sleep 300' & sleep 300");
        let said = session.call("bash", &json!({"command": command, "timeout_ms": 700}));
        assert!(said.is_error, "{said:?}");
        eventually("what was late is gone", || processes_with(&mark).is_empty());
        let said = session.bash("echo still");
        assert!(said.text.trim_end().ends_with("still"), "{said:?}");
        session.delete();
    }

    /// A kill of the session ends everything in it and nothing else.
    #[test]
    fn a_kill_ends_everything_in_the_cage(user: User) {
        let driver = driver::shared(user);
        let (neighbour, session) = (driver.session(), driver.session());
        let (mark, other) = (canary("killed"), canary("spared"));
        neighbour.bash(&format!("bash -c 'exec -a {other} sleep 300' > /dev/null 2>&1 &")).fine();
        let command = format!("setsid bash -c 'exec -a {mark} sleep 300' & sleep 300");
        let call = session.begin_bash(&command);
        eventually("both run", || {
            !processes_with(&mark).is_empty() && !processes_with(&other).is_empty()
        });
        let pid = session.live().unwrap()["pid"].as_u64().unwrap();
        let asked = Instant::now();
        assert!(session.kill());
        let said = session.outcome(&call);
        assert!(said.is_error || said.failed.is_some(), "{said:?}");
        eventually("it is gone", || processes_with(&mark).is_empty());
        eventually("its helper is gone", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        assert!(!processes_with(&other).is_empty(), "the neighbour was killed with it");
        assert!(!session.kill(), "there is nothing to be killed any more");
        neighbour.delete();
        session.delete();
    }

    /// Deleting a session ends its processes before its files go.
    #[test]
    fn a_delete_leaves_neither_processes_nor_files(user: User) {
        let driver = driver::shared(user);
        let session = driver.session();
        let mark = canary("deleted");
        session.bash(&format!(
            "bash -c 'while :; do echo x > /workspace/$RANDOM; done' {mark} > /dev/null 2>&1 &\n\
             mkdir -p /workspace/a/b/c; touch /workspace/a/b/c/f; chmod 000 /workspace/a")).fine();
        eventually("it runs", || !processes_with(&mark).is_empty());
        session.delete();
        assert!(processes_with(&mark).is_empty());
        let left: Vec<_> = crate::place::below(&driver.folder).into_iter()
            .filter(|path| path.to_string_lossy().contains(&session.name)).collect();
        assert_eq!(left, Vec::<std::path::PathBuf>::new());
    }
}
