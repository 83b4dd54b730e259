//! Programs that speak with the server over their input and output: what they have, what ends them,
//! and that neither their floods nor their silence does anything to others.

use std::{fs, time::Duration};

use serde_json::json;

use crate::{
    driver::{self, Driver, for_both},
    place::{canary, eventually, host_file, processes_with},
};

/// Ways to outlive the end of a pipe. `MARK` becomes a word in the command line of what stays.
const STUBBORN: &[(&str, &str)] = &[
    ("plain", "exec -a MARK sleep 300"),
    ("deaf", "trap '' TERM INT HUP PIPE; (exec -a MARK sleep 300); sleep 300"),
    ("another session", "setsid bash -c 'exec -a MARK sleep 300' & sleep 300"),
    ("forked twice", "( ( bash -c 'exec -a MARK sleep 300' & ) & ) ; sleep 300"),
    (
        "forked twice in another session",
        "( setsid bash -c '( exec -a MARK sleep 300 & )' & ); sleep 300",
    ),
    ("alone", "setsid bash -c 'exec -a MARK sleep 300' & echo started; sleep 0.2; exit 0"),
    ("stopped", "bash -c 'kill -STOP $$; exec -a MARK sleep 300' MARK & sleep 300"),
    (
        "under a warden that was stopped",
        "kill -STOP $PPID; ( setsid bash -c 'exec -a MARK sleep 300' & ); sleep 300",
    ),
    (
        "without a warden",
        "( setsid bash -c 'exec -a MARK sleep 300' & ); sleep 0.3; kill -9 $PPID; sleep 300",
    ),
    (
        "running from one process into the next",
        "python3 -c '
import os, time
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
' MARK & sleep 300",
    ),
];

/// Prints as one line of JSON what a process has.
const HAS: &str = "python3 -c '
import json, os, resource
def limits():
    names = [name for name in dir(resource) if name.startswith(\"RLIMIT_\")]
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}
status = dict(line.split(\":\", 1) for line in open(\"/proc/self/status\"))
kept = [\"Uid\", \"Gid\", \"Groups\", \"CapEff\", \"CapPrm\", \"CapBnd\", \"NoNewPrivs\", \"Seccomp\", \"SigIgn\", \"SigBlk\"]
print(json.dumps({
    \"directory\": os.getcwd(), \"limits\": limits(), \"umask\": os.umask(0),
    \"status\": {name: status[name].strip() for name in kept},
    \"spaces\": {name: os.readlink(\"/proc/self/ns/\" + name) for name in sorted(os.listdir(\"/proc/self/ns\"))},
    \"environment\": {name: value for name, value in os.environ.items() if name not in (\"OWN\", \"_\", \"SHLVL\", \"OLDPWD\")},
}))'";

/// Prints what a process has open, and what it may open of the process above.
const OPEN: &str = "python3 -c '
import os
mine = {}
for number in os.listdir(\"/proc/self/fd\"):
    try:
        mine[number] = os.readlink(\"/proc/self/fd/\" + number).split(\":\")[0]
    except OSError:
        pass
print(sorted(mine.items()))
for above in (os.getppid(), 1):
    try:
        print(len(os.listdir(\"/proc/%d/fd\" % above)))
    except PermissionError:
        print(\"closed\")
'";

for_both! {
    /// A program is what a command of the shell is, and speaks.
    #[test]
    fn a_program_has_what_the_shell_s_children_have_and_a_pipe(user: User) {
        let session = driver::shared(user).session();
        let cat = session.program("cat", &[]).unwrap();
        assert!(cat.tell("one\ntwo\n"));
        assert_eq!((cat.line(), cat.line()), ("one".into(), "two".into()));
        // Its own variable alone is more, and `exec` gives its place to what is compared.
        let program = session.shell_program(&format!("exec {HAS}"));
        let has: serde_json::Value = serde_json::from_str(&program.line()).unwrap();
        let command = session.bash(HAS).fine();
        let shell: serde_json::Value = serde_json::from_str(command.trim()).unwrap();
        assert_eq!(has, shell);
        let own = session.shell_program("echo $OWN; echo to >/dev/stdout; cat /dev/stdin");
        assert_eq!((own.line(), own.line()), ("its own".into(), "to".into()));
        own.tell("again\n");
        assert_eq!(own.line(), "again");
        // The first is still there.
        assert!(cat.tell("three\n"));
        assert_eq!(cat.line(), "three");
        session.delete();
    }

    /// Three pipes, and nothing else of anybody's.
    #[test]
    fn a_program_has_no_other_descriptor(user: User) {
        let session = driver::shared(user).session();
        // Others exist when it is forked.
        let (_one, _two) = (session.shell_program("cat"), session.shell_program("cat"));
        session.bash("true").fine();
        let program = session.program("bash", &["-c", &format!("exec {OPEN}")]).unwrap();
        assert_eq!(program.line(), "[('0', 'pipe'), ('1', 'pipe'), ('2', 'pipe')]");
        assert_eq!((program.line(), program.line()), ("closed".into(), "closed".into()));
        session.delete();
    }

    /// When its pipe is dropped, nothing of a program is left, and nothing else is gone.
    #[test]
    fn a_dropped_pipe_ends_whatever_its_program_has_started(user: User) {
        let driver = driver::shared(user);
        for (kind, script) in STUBBORN {
            let session = driver.session();
            let (mark, spared) = (canary("stubborn"), canary("spared"));
            let program = session.shell_program(&script.replace("MARK", &mark));
            eventually(kind, || !processes_with(&mark).is_empty() || *kind == "alone");
            let harsh = kind.contains("without") || kind.contains("running");
            if !harsh {
                let command = format!("bash -c 'exec -a {spared} sleep 300' > /dev/null 2>&1 &");
                session.bash(&command).fine();
                eventually("the spared runs", || !processes_with(&spared).is_empty());
            }
            program.drop();
            eventually(kind, || processes_with(&mark).is_empty());
            assert!(harsh || !processes_with(&spared).is_empty(), "{kind}: others were ended");
            // The cage is as good as before.
            let said = session.bash("echo still");
            assert!(said.text.trim_end().ends_with("still"), "{kind}: {said:?}");
            let next = session.program("cat", &[]).unwrap();
            assert!(next.tell("there\n"));
            assert_eq!(next.line(), "there", "{kind}");
            session.delete();
        }
    }

    /// What ends the shell's commands does not end programs, and ends all of the shell's.
    #[test]
    fn an_interrupt_of_the_shell_spares_programs(user: User) {
        let session = driver::shared(user).session();
        let (mark, own) = (canary("late"), canary("own"));
        let script = format!("( setsid bash -c 'exec -a {own} sleep 300' & ); exec cat");
        let program = session.shell_program(&script);
        assert!(program.tell("before\n"));
        assert_eq!(program.line(), "before");
        for _ in 0..3 {
            let command = format!(
                "( setsid bash -c 'exec -a {mark} sleep 300' & ); trap '' TERM; sleep 300");
            let said = session.call("bash", &json!({"command": command, "timeout_ms": 700}));
            assert!(said.is_error, "{said:?}");
            eventually("what was late is gone", || processes_with(&mark).is_empty());
            assert!(!processes_with(&own).is_empty(), "a child of the program was ended");
            assert!(program.tell("after\n"));
            assert_eq!(program.line(), "after");
        }
        session.delete();
    }

    /// What nobody reads makes its writer wait; errors without end are read and let go.
    #[test]
    fn a_flood_waits_and_nothing_grows(user: User) {
        let session = driver::shared(user).session();
        let (mark, loud) = (canary("flood"), canary("loud"));
        let flood = session.shell_program(&format!("exec -a {mark} yes"));
        let noise = session.shell_program(&format!("(exec -a {loud} yes >&2) & exec cat"));
        assert_eq!(flood.line(), "y");
        eventually("it waits", || {
            let state = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/status"));
            processes_with(&mark).iter().any(|pid| state(pid).is_ok_and(|text| text.contains("State:\tS")))
        });
        for _ in 0..20 {
            assert!(noise.tell("quiet\n"));
            assert_eq!(noise.line(), "quiet");
            session.bash("true").fine();
        }
        let pid = session.live().unwrap()["pid"].as_u64().unwrap();
        let helper = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        let pages: u64 = helper.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(pages < 16 << 10, "the helper has {pages} pages");
        flood.drop();
        noise.drop();
        eventually("both are gone", || {
            processes_with(&mark).is_empty() && processes_with(&loud).is_empty()
        });
        session.delete();
    }

    /// Who never reads is not waited for by anybody else.
    #[test]
    fn one_that_never_reads_takes_a_pipe_full(user: User) {
        let session = driver::shared(user).session();
        let deaf = session.shell_program("exec sleep 300");
        assert!(!deaf.tell(&"x".repeat(1 << 20)), "a mebibyte was taken by nobody");
        session.bash("true").fine();
        deaf.drop();
        session.delete();
    }

    /// An end is told with its last words, and no more of them than have room.
    #[test]
    fn an_end_is_told_once_with_its_last_words(user: User) {
        let session = driver::shared(user).session();
        let early = session.shell_program("echo one; echo 'no $KEY is set' >&2; exit 3");
        assert_eq!(early.line(), "one");
        let end = early.end();
        assert!(end.contains("exit code 3") && end.contains("no $KEY is set"), "{end}");
        assert_eq!(early.hear(1).unwrap(), "");
        let loud = session.shell_program("yes no | head -c 3000000 >&2; echo last >&2; kill -9 $$");
        let end = loud.end();
        assert!(end.contains("signal 9") && end.contains("last"), "{}", end.len());
        // A line's end is two letters here.
        assert!(end.len() < 16 << 10, "{}", end.len());
        for (command, why) in [
            ("no-such-program", "No such file"), ("/workspace/none", "No such file"),
            ("/workspace", "denied"), ("", "empty"),
        ] {
            let refused = session.program(command, &[]).err().unwrap();
            assert!(refused.contains(why), "{command}: {refused}");
        }
        session.delete();
    }

    /// Children that hold the pipe do not hold the end back, and a closed output is an end of words.
    #[test]
    fn children_that_hold_the_pipe_end_with_their_program(user: User) {
        let session = driver::shared(user).session();
        let mark = canary("holder");
        let gone = session.shell_program(&format!("(exec -a {mark} sleep 300) & exit 0"));
        let end = gone.end();
        assert!(end.contains("exit code 0"), "{end}");
        eventually("the holder is gone", || processes_with(&mark).is_empty());
        let mute = session.shell_program(&format!("exec >&-; exec -a {mark} sleep 300"));
        assert_eq!(mute.hear(1).unwrap(), "");
        assert!(!processes_with(&mark).is_empty());
        mute.drop();
        eventually("the mute is gone", || processes_with(&mark).is_empty());
        session.delete();
    }

    /// The end of a cage is the end of its programs, and says so; a neighbour's go on.
    #[test]
    fn a_killed_cage_ends_its_programs_and_no_other_s(user: User) {
        let driver = driver::shared(user);
        let (neighbour, session) = (driver.session(), driver.session());
        let theirs = neighbour.program("cat", &[]).unwrap();
        let mark = canary("killed");
        let program = session.shell_program(&format!("exec -a {mark} cat"));
        assert!(session.kill());
        let end = program.end();
        assert!(end.contains("killed by the operator"), "{end}");
        assert!(processes_with(&mark).is_empty());
        assert!(theirs.tell("here\n"));
        assert_eq!(theirs.line(), "here");
        neighbour.delete();
        session.delete();
    }

    /// A program at work holds its cage, also in a session that has been at rest before.
    #[test]
    fn a_cage_is_held_while_a_program_works(user: User) {
        let driver = Driver::start(user, &json!({"warm_ms": 300}));
        let session = driver.session();
        let rest = || driver.ask(&json!({"do": "rest", "session": session.name}), "rested");
        let hold = |on: bool| {
            let order = json!({"do": "hold", "session": session.name, "on": on});
            driver.ask(&order, "held")["held"] == true
        };
        let program = session.program("cat", &[]).unwrap();
        rest();
        assert!(hold(true));
        std::thread::sleep(Duration::from_millis(1500));
        assert!(program.tell("here\n"));
        assert_eq!(program.line(), "here");
        assert!(!hold(false));
        rest();
        eventually("no cage is live", || driver.live().is_empty());
        assert!(!program.end().is_empty());
    }

    /// A session has so many programs, and they have the session's processes.
    #[test]
    fn programs_are_counted(user: User) {
        let session = driver::shared(user).session();
        let programs: Vec<_> = (0..20).map(|_| session.program("cat", &[]).unwrap()).collect();
        let refused = session.program("cat", &[]).err().unwrap();
        assert!(refused.contains("20 programs"), "{refused}");
        session.bash("true").fine();
        for program in &programs {
            program.drop();
        }
        // 128 processes are what a session may have.
        let mark = canary("many");
        let bomb = format!(
            "for i in $(seq 400); do (exec -a {mark} sleep 300) & done 2>/dev/null; echo done; cat");
        // There is room as soon as those that were dropped have ended.
        let mut begun = None;
        eventually("there is room for a program", || {
            begun = session.program("bash", &["-c", &bomb]).ok();
            begun.is_some()
        });
        let bomb = begun.unwrap();
        eventually("it has what it can get", || processes_with(&mark).len() > 50);
        assert!(processes_with(&mark).len() <= 128);
        bomb.drop();
        eventually("all are gone", || processes_with(&mark).is_empty());
        session.bash("true").fine();
        session.delete();
    }

    /// A text that is kept is where `read` finds it, whatever the session has put in its way.
    #[test]
    fn a_kept_text_is_read_inside_and_follows_no_link(user: User) {
        let driver = driver::shared(user);
        let session = driver.session();
        assert!(session.keep("sevt_early", "x").is_err(), "a session without files has none");
        session.bash("true").fine();
        let path = session.keep("sevt_1", "a long text").unwrap();
        assert_eq!(path, "/tmp/tool-results/sevt_1.txt");
        assert!(session.call("read", &json!({"file_path": path})).fine().contains("a long text"));
        session.bash(&format!("stat -c '%u %a' {path}; echo more >> {path}; rm {path}")).fine();
        let host = host_file(user, "untouched");
        let name = host.display();
        session.bash(&format!("cd /tmp/tool-results && ln -s {name} sevt_2.txt && \
            ln -s {name} sevt_2.txt.partial && mkfifo sevt_3.txt sevt_3.txt.partial")).fine();
        for call in ["sevt_2", "sevt_3"] {
            let path = session.keep(call, "kept").unwrap();
            assert!(session.call("read", &json!({"file_path": path})).fine().contains("kept"));
        }
        let folder = host.parent().unwrap().display();
        session.bash(&format!("cd /tmp && mv tool-results old && ln -s {folder} tool-results")).fine();
        assert!(session.keep("sevt_4", "kept").is_err());
        assert_eq!(fs::read_to_string(&host).unwrap(), "untouched");
        assert_eq!(fs::read_dir(host.parent().unwrap()).unwrap().count(), 1);
        let path = session.keep("../../sevt 5", "kept").err();
        assert!(path.is_some());
        session.delete();
    }
}
