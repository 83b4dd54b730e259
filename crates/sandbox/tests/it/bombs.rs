//! Using up: processes, memory, disk, output, time. A bomb ends in its own cage, and others work.

use std::{os::unix::fs::MetadataExt, time::Duration};

use rustix::fs::statvfs;
use serde_json::json;

use crate::{
    driver::{self, Driver, Session, for_both},
    place::{User, canary, eventually, processes_with},
};

/// Processes of a cage in these tests.
const LIMIT: usize = 64;
/// What the helper has of its own beyond the limit.
const OWN: usize = 32;

/// Settings in which bombs go off soon.
fn small(user: User) -> Driver {
    Driver::start(
        user,
        &json!({
            "memory": 192 << 20, "processes": LIMIT, "disk": 48 << 20, "entries": 4000,
            "file_size": 32 << 20, "call_ms": 30_000,
        }),
    )
}

/// Somebody else works while the bomb is there, and the session itself does afterwards.
fn life_goes_on(neighbour: &Session<'_>, session: &Session<'_>) {
    assert_eq!(neighbour.bash("echo alive").fine().trim(), "alive");
    let said = session.bash("echo again");
    assert!(said.text.trim_end().ends_with("again"), "{said:?}");
    assert_eq!(neighbour.bash("echo alive").fine().trim(), "alive");
}

/// What holds memory and processes of all together; without it one process at a time is held.
fn counts_together(session: &Session<'_>) -> bool {
    session.bash("true");
    let live = session.live().unwrap();
    let counts = live["isolation"]["limits"] != "rlimits";
    if !counts {
        println!("limits are those of single processes here; the sum was not tried");
    }
    counts
}

for_both! {
    /// A fork bomb meets its limit; the cage, its neighbours and the host go on.
    #[test]
    fn a_fork_bomb_stays_in_its_cage(user: User) {
        let driver = small(user);
        let (neighbour, session) = (driver.session(), driver.session());
        neighbour.bash("true").fine();
        let marker = canary("fork");
        let call = session.begin_bash(&format!(
            "f() {{ f | f & }}; f; for i in $(seq 300); do sleep 300.{0} & done; \
             bash -c 'exec -a {marker} sleep 300' & sleep 2; echo over",
            session.number
        ));
        std::thread::sleep(Duration::from_millis(1000));
        assert_eq!(neighbour.bash("echo alive").fine().trim(), "alive");
        let live = session.live();
        if let Some(pid) = live.as_ref().and_then(|live| live["pid"].as_u64()) {
            let below = crate::place::descendants(u32::try_from(pid).unwrap());
            assert!(below.len() <= LIMIT + OWN, "{} processes", below.len());
        }
        session.kill();
        session.outcome(&call);
        life_goes_on(&neighbour, &session);
        eventually("the bomb is gone", || processes_with(&marker).is_empty());
    }

    /// The limit of processes is met by name, and threads count.
    #[test]
    fn processes_and_threads_are_counted(user: User) {
        let driver = small(user);
        let session = driver.session();
        let said = session.bash("python3 -c '
import threading, time
n = 0
try:
    for i in range(500):
        threading.Thread(target=time.sleep, args=(5,), daemon=True).start(); n += 1
except RuntimeError: pass
print(\"threads\", n)' 2>/dev/null");
        let count = said.text.split_whitespace().last().and_then(|word| word.parse::<usize>().ok());
        assert!(count.is_some_and(|count| (10..LIMIT + OWN).contains(&count)), "{said:?}");
        assert_eq!(session.bash("echo ok").text.trim(), "ok");
    }

    /// One process that takes all memory is ended, and it is said.
    #[test]
    fn a_memory_bomb_is_ended(user: User) {
        let driver = small(user);
        let (neighbour, session) = (driver.session(), driver.session());
        neighbour.bash("true").fine();
        // The control: as much as the limit leaves can be had.
        let fine = session.bash("python3 -c 'a = bytearray(64 << 20); print(len(a))'").fine();
        assert!(fine.contains("67108864"), "{fine}");
        let said = session.bash("python3 -c '
a = []
while True: a.append(bytearray(8 << 20))' 2>&1");
        assert!(said.is_error, "{said:?}");
        let told = ["emory", "illed", "signal 9", "137", "exit code 1"];
        assert!(told.iter().any(|word| said.text.contains(word)), "{said:?}");
        life_goes_on(&neighbour, &session);
    }

    /// Many processes with little memory each are held together: by a group, or by the helper.
    #[test]
    fn many_small_memory_bombs_are_held_together(user: User) {
        let driver = small(user);
        let (neighbour, session) = (driver.session(), driver.session());
        let said = session.bash("for i in $(seq 12); do python3 -c '
import time
a = bytearray(40 << 20)
for i in range(0, len(a), 4096): a[i] = 1
time.sleep(3); print(\"ke\" + \"pt\")' 2>/dev/null & done; wait; true");
        let kept = said.text.matches("kept").count();
        assert!(kept <= 4, "{kept} of 12 have had 40 MiB each: {said:?}");
        life_goes_on(&neighbour, &session);
    }

    /// Memory that no process has as its own, in files without a name and in shared segments, is
    /// held where groups are.
    #[test]
    fn memory_that_is_nobodys_own_is_held_together(user: User) {
        let driver = small(user);
        let (neighbour, session) = (driver.session(), driver.session());
        if !counts_together(&session) {
            return;
        }
        for bomb in [
            "import os
for i in range(16):
    f = os.memfd_create(str(i)); os.write(f, bytes(16 << 20)); os.write(f, bytes(16 << 20))
print('thr' + 'ough')",
            "import mmap
kept = []
for i in range(16):
    m = mmap.mmap(-1, 32 << 20); m.write(bytes(32 << 20)); kept.append(m)
print('thr' + 'ough')",
        ] {
            let said = session.bash(&format!("python3 -c \"{bomb}\" 2>&1"));
            assert!(!said.text.contains("through"), "{bomb}: {said:?}");
        }
        life_goes_on(&neighbour, &session);
    }

    /// Memory without a process, in `/dev/shm` and `/run`, has a limit of its own.
    #[test]
    fn files_in_memory_are_held(user: User) {
        let driver = small(user);
        let session = driver.session();
        for folder in ["/dev/shm", "/run"] {
            let said = session.bash(&format!(
                "dd if=/dev/zero of={folder}/a bs=1M count=500 2>/dev/null; \
                 dd if=/dev/zero of={folder}/b bs=1M count=500 2>/dev/null; \
                 du -sm {folder} | cut -f1; rm -f {folder}/*"));
            let used = said.text.lines().filter_map(|line| line.trim().parse::<u32>().ok()).next_back();
            assert!(used.is_none_or(|used| used <= 192), "{folder}: {said:?}");
        }
        session.bash("echo x > /dev/shm/x && cat /dev/shm/x").fine();
    }

    /// Whoever fills the disk is stopped at the limit; the host's space and others are untouched.
    #[test]
    fn disk_bombs_are_stopped(user: User) {
        let driver = small(user);
        let neighbour = driver.session();
        neighbour.bash("true").fine();
        let free = || {
            let about = statvfs(&driver.folder).unwrap();
            about.f_bavail * about.f_frsize
        };
        let before = free();
        for bomb in [
            "cd /workspace; i=0; while dd if=/dev/zero of=f$i bs=1M count=16 2>/dev/null; \
                do i=$((i+1)); sleep 0.3; [ $i -gt 40 ] && break; done; echo through",
            "cd /tmp; i=0; while yes | head -c 16000000 > f$i; do i=$((i+1)); sleep 0.3; \
                [ $i -gt 40 ] && break; done; echo through",
            "cd ~; i=0; while :; do for j in $(seq 500); do : > f$i-$j; done; i=$((i+1)); \
                sleep 0.2; [ $i -gt 60 ] && break; done; echo through",
        ] {
            let session = driver.session();
            let said = session.bash(bomb);
            let used = before.saturating_sub(free());
            assert!(used < 512 << 20, "{used} bytes of the host are gone: {said:?}");
            assert!(said.is_error && !said.text.contains("through"), "{bomb}: {said:?}");
            assert_eq!(neighbour.bash("echo alive").fine().trim(), "alive");
            session.delete();
        }
    }

    /// Space is not taken faster than it can be written: between two looks at the disk, asking for
    /// it must not fill the host.
    #[test]
    fn space_can_not_be_had_for_the_asking(user: User) {
        let driver = small(user);
        let session = driver.session();
        // Two gigabytes, if each were granted.
        session.bash("cd /workspace; for i in $(seq 128); do fallocate -l 16M f$i; done; sleep 3");
        let tree = driver.folder.join(&session.name);
        let taken: u64 = crate::place::below(&tree)
            .iter()
            .filter_map(|path| Some(std::fs::symlink_metadata(path).ok()?.blocks() * 512))
            .sum();
        assert!(taken < 1 << 30, "{taken} bytes were had");
        session.delete();
    }

    /// Whoever has filled the disk can tidy up: neither the limit nor a tree too deep to be
    /// measured closes a session for good.
    #[test]
    fn after_a_full_disk_there_is_a_way_back(user: User) {
        let driver = small(user);
        for bomb in [
            "cd /workspace; for i in 1 2 3 4 5; do head -c 20M /dev/zero > f$i; done; sleep 20",
            "cd /workspace; for i in $(seq 200); do mkdir d; cd d; done; sleep 20",
        ] {
            let session = driver.session();
            let said = session.bash(bomb);
            assert!(said.is_error, "{bomb}: {said:?}");
            // The agent looks first, and it may take its time.
            let said = session.bash("sleep 1.5; rm -rf /workspace/*; echo tidy");
            assert!(said.text.trim_end().ends_with("tidy"), "{bomb}: {said:?}");
            let said = session.bash("sleep 1.5; echo works");
            assert!(said.text.trim_end().ends_with("works"), "{bomb}: {said:?}");
            session.delete();
        }
    }

    /// A file that is large and empty costs nothing; one that is too large is cut off.
    #[test]
    fn sparse_and_large_files_are_understood(user: User) {
        let driver = small(user);
        let session = driver.session();
        let said = session.bash("truncate -s 30M /workspace/sparse && sleep 1.5 && echo kept");
        assert!(said.text.contains("kept"), "{said:?}");
        let said = session.bash("truncate -s 100G /workspace/huge; ls -s /workspace/huge; \
            dd if=/dev/zero of=/workspace/big bs=1M count=40; echo code $?");
        assert!(!said.text.contains("code 0"), "{said:?}");
        assert_eq!(session.bash("echo ok").text.trim(), "ok");
    }

    /// Output without end, without lines, without meaning: bounded, and the tail is kept.
    #[test]
    fn output_bombs_are_bounded(user: User) {
        let driver = driver::shared(user);
        let session = driver.session();
        for (bomb, end) in [
            ("yes | head -c 100000000; echo; echo the-end", "the-end"),
            ("head -c 60000000 /dev/zero | tr '\\0' x; echo; echo the-end", "the-end"),
            ("head -c 20000000 /dev/urandom; echo; echo the-end", "the-end"),
            ("head -c 5000000 /dev/zero; echo; echo the-end", "the-end"),
            ("for i in $(seq 30000); do printf '\\033[31mred\\033[0m\\r'; done; echo the-end", "the-end"),
        ] {
            let said = session.bash(bomb);
            assert!(said.text.len() < 1_000_000, "{} bytes", said.text.len());
            assert!(said.failed.is_none());
            assert!(said.text.contains(end), "{bomb}: {}", said.text.len());
            assert!(!said.text.contains('\u{1b}'), "{bomb}");
        }
        let input = json!({"command": "yes", "timeout_ms": 1500});
        let said = session.call("bash", &input);
        assert!(said.is_error && said.text.len() < 1_000_000, "{}", said.text.len());
        assert_eq!(session.bash("echo ok").text.lines().last(), Some("ok"));
        session.delete();
    }

    /// Turning in circles takes no more than its share, and a neighbour gets its own.
    #[test]
    fn a_busy_loop_is_ended_by_its_time(user: User) {
        let driver = driver::shared(user);
        let (neighbour, session) = (driver.session(), driver.session());
        neighbour.bash("true").fine();
        let busy = json!({"command":
            "for i in 1 2 3 4 5 6 7 8; do while :; do :; done & done; wait", "timeout_ms": 1500});
        let call = session.begin("bash", &busy);
        assert_eq!(neighbour.bash("echo alive").fine().trim(), "alive");
        let said = session.outcome(&call);
        assert!(said.is_error, "{said:?}");
        assert_eq!(session.bash("ps ax 2>/dev/null | grep -c whil[e]; echo ok").text.lines().last(),
            Some("ok"));
        session.delete();
        neighbour.delete();
    }

    /// Descriptors are counted for each process.
    #[test]
    fn descriptors_are_counted(user: User) {
        let driver = driver::shared(user);
        let session = driver.session();
        let said = session.bash("python3 -c '
import os
n = 0
try:
    while True: os.open(\"/dev/null\", os.O_RDONLY); n += 1
except OSError as error: print(n, error.errno)'").fine();
        let count: u32 = said.split_whitespace().next().unwrap().parse().unwrap();
        assert!(count <= 1024 && said.trim().ends_with(" 24"), "{said}");
        session.delete();
    }
}
