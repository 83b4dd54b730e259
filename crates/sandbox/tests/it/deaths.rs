//! Deaths: of the server, of the launcher, of a helper. Processes go, files stay, and each call is
//! told for what it is.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;

use crate::{
    driver::{Driver, Session, for_both},
    place::{self, User, below, canary, descendants, eventually, processes_with},
};

/// A call that has left a mark and goes on for long.
fn long_call(session: &Session<'_>, mark: &str) -> String {
    let call = session.begin_bash(&format!(
        "echo x >> /workspace/effect; setsid bash -c 'exec -a {mark} sleep 300' & \
         (exec -a {mark} sleep 300) ; echo over"
    ));
    eventually("the call is under way", || processes_with(mark).len() >= 2);
    call
}

fn in_tree(folder: &Path, session: &str, path: &str) -> PathBuf {
    folder.join(session).join("tree").join(path)
}

for_both! {
    /// The server is killed in the middle of a call: nothing of it runs on, files are there, and
    /// the next life knows what it can know.
    #[test]
    fn a_killed_server_takes_its_cages_with_it(user: User) {
        let folder = place::folder(user, "killed");
        let first = Driver::start_in(user, &folder, &json!({}));
        let session = first.session();
        let (name, number) = (session.name.clone(), session.number);
        let done = session.begin_bash("echo x >> /workspace/done; echo result-of-it");
        let said = session.outcome(&done).fine();
        assert!(said.contains("result-of-it"));
        let mark = canary("death");
        let open = long_call(&session, &mark);
        let below_it = descendants(first.pid());
        assert!(below_it.len() >= 3, "{below_it:?}");
        first.kill();
        eventually("no process of the cage is left", || processes_with(&mark).is_empty());
        eventually("launcher and helper are gone", || {
            below_it.iter().all(|pid| {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                status.is_empty() || status.contains("State:\tZ")
            })
        });
        assert!(in_tree(&folder, &name, "workspace/effect").is_file(), "files survive");
        let second = Driver::start_in(user, &folder, &json!({}));
        let session = second.session_named(&name, number);
        let (found, said) = session.recover(&done);
        assert_eq!(found, "finished");
        assert!(said.text.contains("result-of-it"), "{said:?}");
        assert_eq!(session.recover(&open).0, "unknown");
        assert_eq!(session.recover("sevt_never_sent").0, "never_ran");
        let text = session.bash("cat /workspace/effect /workspace/done").fine();
        let effects = text.lines().filter(|line| *line == "x").count();
        assert_eq!(effects, 2, "an effect happened twice, or never: {text}");
        session.delete();
    }

    /// However often the server dies inside of calls, no effect happens twice.
    #[test]
    fn an_effect_happens_at_most_once(user: User) {
        let folder = place::folder(user, "once");
        let mut first = Driver::start_in(user, &folder, &json!({}));
        let session = first.session();
        let (name, number) = (session.name.clone(), session.number);
        session.bash("mkdir -p /workspace/effects").fine();
        let (mut ran, mut not) = (0, 0);
        for round in 0..8_u64 {
            let session = first.session_named(&name, number);
            let call = format!("sevt_once{}x{round}", std::process::id());
            let command = format!("echo x >> /workspace/effects/{round}");
            session.begin_named(&call, "bash", &json!({"command": command}));
            // Where it is hit is for the clock to say: before, inside of, or after.
            std::thread::sleep(Duration::from_millis(round * 6));
            first.kill();
            first = Driver::start_in(user, &folder, &json!({}));
            let session = first.session_named(&name, number);
            let (found, _) = session.recover(&call);
            let effect = in_tree(&folder, &name, &format!("workspace/effects/{round}"));
            let happened = fs::read_to_string(&effect).unwrap_or_default().matches('x').count();
            match found.as_str() {
                "never_ran" => {
                    assert_eq!(happened, 0, "round {round}: it ran, and would run again");
                    not += 1;
                }
                "finished" => {
                    assert_eq!(happened, 1, "round {round}");
                    ran += 1;
                }
                "unknown" => assert!(happened <= 1, "round {round}: {happened}"),
                other => panic!("{other}"),
            }
        }
        println!("{ran} had ended, {not} had not begun");
        first.session_named(&name, number).delete();
    }

    /// The launcher is killed: its cages go, their calls are told, and the next call finds another.
    #[test]
    fn a_killed_launcher_is_replaced(user: User) {
        let driver = Driver::start(user, &json!({}));
        let session = driver.session();
        let mark = canary("launcher");
        let call = long_call(&session, &mark);
        let helper = u32::try_from(session.live().unwrap()["pid"].as_u64().unwrap()).unwrap();
        let launchers: Vec<u32> = descendants(driver.pid()).into_iter()
            .filter(|pid| descendants(*pid).contains(&helper)).collect();
        assert_eq!(launchers.len(), 1, "{launchers:?}");
        signal(launchers[0]);
        let said = session.outcome(&call);
        assert!(said.is_error || said.failed.is_some(), "{said:?}");
        eventually("its cages are gone", || processes_with(&mark).is_empty());
        let said = session.bash("cat /workspace/effect; echo again");
        assert!(said.text.trim_end().ends_with("again") && said.text.contains('x'), "{said:?}");
        session.delete();
    }

    /// A helper dies: its call is told so, and other cages and the server go on.
    #[test]
    fn a_dead_helper_is_told_of(user: User) {
        let driver = Driver::start(user, &json!({}));
        let (neighbour, session) = (driver.session(), driver.session());
        let kept = canary("neighbour");
        neighbour.bash(&format!("bash -c 'exec -a {kept} sleep 300' > /dev/null 2>&1 &")).fine();
        let mark = canary("helper");
        let call = long_call(&session, &mark);
        let helper = session.live().unwrap()["pid"].as_u64().unwrap();
        signal(u32::try_from(helper).unwrap());
        let said = session.outcome(&call);
        assert!(said.is_error || said.failed.is_some(), "{said:?}");
        assert!(!said.text.is_empty() || said.failed.is_some(), "nothing was said");
        eventually("its processes are gone", || processes_with(&mark).is_empty());
        assert!(!processes_with(&kept).is_empty(), "the neighbour went with it");
        let said = session.bash("cat /workspace/effect; echo again");
        assert!(said.text.trim_end().ends_with("again") && said.text.contains('x'), "{said:?}");
        assert_eq!(neighbour.bash("echo alive").fine().trim(), "alive");
    }

    /// The end of the input ends every cage, and leaves files and nothing else.
    #[test]
    fn a_server_that_ends_leaves_files_alone(user: User) {
        let driver = Driver::start(user, &json!({}));
        let session = driver.session();
        let mark = canary("end");
        session.bash(&format!("echo x > /workspace/kept; \
            setsid bash -c 'exec -a {mark} sleep 300' > /dev/null 2>&1 &")).fine();
        eventually("it runs", || !processes_with(&mark).is_empty());
        driver.end();
        eventually("it is gone", || processes_with(&mark).is_empty());
        assert!(in_tree(&driver.folder, &session.name, "workspace/kept").is_file());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&driver.folder.display().to_string()), "{mounts}");
        println!("{}", driver.noise());
    }

    /// A server that is killed while a cage is being made leaves no half of one.
    #[test]
    fn a_server_killed_while_a_cage_starts_leaves_nothing(user: User) {
        let folder = place::folder(user, "starting");
        let first = Driver::start_in(user, &folder, &json!({"delay_ms": 1500}));
        let session = first.session();
        let (name, number) = (session.name.clone(), session.number);
        let call = session.begin_bash("echo x >> /workspace/effect");
        eventually("a helper is there", || descendants(first.pid()).len() >= 2);
        let started = descendants(first.pid());
        first.kill();
        eventually("all are gone", || {
            started.iter().all(|pid| {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                status.is_empty() || status.contains("State:\tZ")
            })
        });
        let second = Driver::start_in(user, &folder, &json!({}));
        let session = second.session_named(&name, number);
        assert_eq!(session.recover(&call).0, "never_ran");
        assert!(!in_tree(&folder, &name, "workspace/effect").exists());
        session.bash("echo works").fine();
        session.delete();
    }

    /// Calls that arrive while a cage is going or coming run once each, in one cage at a time.
    #[test]
    fn calls_meet_a_cage_that_comes_and_goes(user: User) {
        let driver = Driver::start(user, &json!({"warm_ms": 20, "delay_ms": 30}));
        let session = driver.session();
        for round in 0..12_u64 {
            let calls: Vec<String> = (0..3)
                .map(|one| session.begin_bash(&format!("echo {round}.{one} >> /workspace/effects")))
                .collect();
            for call in calls {
                session.outcome(&call).fine();
            }
            driver.ask(&json!({"do": "rest", "session": session.name}), "rested");
            std::thread::sleep(Duration::from_millis(round * 15));
        }
        let text = session.bash("sort /workspace/effects | uniq -c | awk '{print $1}' | sort | uniq -c").fine();
        let counts: Vec<&str> = text.lines().filter(|line| !line.starts_with('[')).collect();
        assert_eq!(counts.len(), 1, "{text}");
        assert_eq!(counts[0].split_whitespace().collect::<Vec<_>>(), ["36", "1"], "{text}");
    }

    /// A cage that nobody uses is gone after a while, with everything in it; its files stay.
    #[test]
    fn an_idle_cage_is_gone(user: User) {
        let driver = Driver::start(user, &json!({"warm_ms": 300}));
        let session = driver.session();
        let mark = canary("idle");
        session.bash(&format!("cd /tmp; export A=1; echo x > /tmp/kept; \
            bash -c 'exec -a {mark} sleep 300' > /dev/null 2>&1 &")).fine();
        driver.ask(&json!({"do": "rest", "session": session.name}), "rested");
        eventually("no cage is live", || driver.live().is_empty());
        eventually("its processes are gone", || processes_with(&mark).is_empty());
        eventually("the launcher is gone, too", || descendants(driver.pid()).is_empty());
        let said = session.bash("cat /tmp/kept; pwd; echo A=$A").fine();
        assert!(said.contains("/workspace") && said.contains("A=\n") || said.ends_with("A="), "{said}");
        assert!(said.contains('x'), "{said}");
        let notes = said.lines().filter(|line| line.starts_with('[')).count();
        assert_eq!(notes, 1, "one line says that it was started again: {said}");
    }
}

fn signal(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Cages of two users of one machine know nothing of each other.
#[test]
fn two_servers_side_by_side_stay_apart() {
    if !User::Root.is_possible("two_servers_side_by_side_stay_apart") {
        return;
    }
    let (one, other) =
        (Driver::start(User::Root, &json!({})), Driver::start(User::Ordinary, &json!({})));
    let (first, second) = (one.session(), other.session());
    let secret = canary("beside");
    first
        .bash(&format!(
            "echo {secret} > /tmp/secret; bash -c 'exec -a {secret} sleep 300' >/dev/null 2>&1 &"
        ))
        .fine();
    let said = second.bash("cat /tmp/secret 2>&1; cat /proc/*/cmdline | tr '\\0' ' '; true").fine();
    assert!(!said.contains(&secret), "{said}");
    one.kill();
    assert_eq!(second.bash("echo alive").fine().trim(), "alive");
    assert!(!below(&other.folder).is_empty());
}
