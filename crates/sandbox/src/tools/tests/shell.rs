//! The shell: what it keeps, what it survives, and how it ends.

use std::{fs, process::Command};

use super::*;

const DEAD: &str = "[This is a fresh shell: the directory, variables and background processes of \
    the former one are gone.]\n";

#[test]
fn state_stays_between_calls() {
    let bench = Bench::new();
    assert_eq!(bench.bash("pwd"), format!("{}/workspace\n", bench.root().display()));
    assert_eq!(bench.bash("mkdir deep && cd deep"), "(no output)");
    assert_eq!(
        bench.bash("A=1; export B=2; f() { echo f$1; }; alias g='echo aliased'; shopt -s nullglob; set -o pipefail"),
        "(no output)"
    );
    assert_eq!(
        bench.bash("basename $PWD; echo $A; f x; g; printenv B; shopt nullglob"),
        "deep\n1\nfx\naliased\n2\nnullglob       \ton\n"
    );
    assert_eq!(bench.bash_error("false | true"), "[exit code 1]");
    assert_eq!(bench.bash("echo out; echo err >&2; printf end"), "out\nerr\nend");
}

#[test]
fn the_environment_is_the_given_one() {
    let bench = Bench::new();
    let names = bench.bash("env | cut -d= -f1 | sort | tr '\\n' ' '");
    assert_eq!(names, "HOME LANG PATH PWD SHLVL TERM _ ");
    // Nothing but the three: the descriptors of the shell are closed for what it executes.
    let open = bench.bash("ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/0");
    assert_eq!(open, "0 1 2 3 /dev/null\n");
}

#[test]
fn failures_are_told() {
    let bench = Bench::new();
    assert_eq!(bench.bash_error("echo a; (exit 3)"), "a\n[exit code 3]");
    assert_eq!(bench.bash_error("printf a; false"), "a\n[exit code 1]");
    assert_eq!(
        bench.bash_error("sh -c 'kill -9 $$'").lines().last().unwrap(),
        "[exit code 137: killed by signal 9]"
    );
    assert!(
        bench
            .bash_error("no-such-program")
            .contains("no-such-program: command not found\n[exit code 127]")
    );
    assert_eq!(bench.bash("echo alive"), "alive\n");
}

#[test]
fn a_command_that_reads_gets_the_end_of_file() {
    let bench = Bench::new();
    assert_eq!(bench.bash("cat; read x || echo eof; cat </dev/stdin; python3 -c 'import sys; print(len(sys.stdin.read()))' || true"), "eof\n0\n");
}

#[test]
fn odd_commands_leave_the_shell_whole() {
    let bench = Bench::new();
    bench.bash("KEPT=yes");
    for (command, expected) in [
        ("echo 'open", "unexpected EOF while looking for matching"),
        ("echo \"open", "unexpected EOF while looking for matching"),
        ("if true; then", "syntax error: unexpected end of file"),
        ("}", "syntax error near unexpected token `}'"),
        (")", "syntax error near unexpected token `)'"),
        ("exec no-such-program", "exec: no-such-program: not found"),
        ("return 4", "can only `return' from a function or sourced script"),
        ("cd /no/such", "No such file or directory"),
    ] {
        let text = bench.bash_error(command);
        assert!(text.contains(expected), "{command}: {text}");
        assert_eq!(bench.bash("echo $KEPT"), "yes\n", "after {command}");
    }
    for (command, expected) in [
        ("break 2>/dev/null; continue 2>/dev/null; echo on", "on\n"),
        ("cat <<'END'\na 'quoted' $line\n\"b\"\nEND", "a 'quoted' $line\n\"b\"\n"),
        ("cat <<END\nno end", "no end"),
        ("for i in 1 2\ndo\n  echo $i # it's\ndone", "1\n2\n"),
        ("exec 2>&1 >/dev/null; echo hidden", "(no output)"),
        ("echo seen; echo also >&2", "seen\nalso\n"),
        ("exec >/dev/null 2>&1 </etc/passwd", "(no output)"),
        ("cat; echo seen", "seen\n"),
        ("exec 3>three; echo three >&3", "(no output)"),
        ("echo more >&3; exec 3>&-; cat three", "three\nmore\n"),
        ("IFS=0123456789; set -fC", "(no output)"),
        (
            "alias exec='echo no' builtin='echo no' eval='echo no' __posthouse_ended='echo no'",
            "(no output)",
        ),
        ("unset IFS; unalias -a; echo seen", "seen\n"),
        ("echo a#b; # the end", "a#b\n"),
        ("echo 'it'\\''s' \\\\ '\\n' $'a\\tb'", "it's \\ \\n a\tb\n"),
        (
            "printf 'a\\0b\\n'; printf '\\377\\n'; printf '\\033[31mred\\033[0m\\n'",
            "a\u{fffd}b\n\u{fffd}\nred\n",
        ),
        ("trap 'echo bye' EXIT", "(no output)"),
        ("set -e; true", "(no output)"),
        ("(exit 0); grep -q nothing /dev/null || echo none", "none\n"),
        ("mkdir gone; cd gone; rmdir ../gone; cd ..; basename $PWD", "workspace\n"),
        ("set -u; echo fine", "fine\n"),
        ("echo \"[$NOT_SET]\"", "[]\n"),
        ("echo ${KEPT}", "yes\n"),
    ] {
        let text = bench.bash(command);
        assert!(
            text == expected || command.contains("no end") && text.contains(expected),
            "{command}: {text}"
        );
    }
    // `set -e` holds for its own command only.
    assert_eq!(bench.bash_error("false"), "[exit code 1]");
    assert_eq!(bench.bash("echo $KEPT"), "yes\n");
    assert_eq!(
        bench.bash_error("exit 3"),
        "bye\n[exit code 3: the shell has ended, and everything that it had started was killed]"
    );
    assert_eq!(bench.bash("echo [$KEPT]"), format!("{DEAD}[]\n"));
    assert_eq!(bench.bash("echo [$KEPT]"), "[]\n");
}

#[test]
fn traces_show_little_of_the_shell_around() {
    let bench = Bench::new();
    assert_eq!(bench.bash("set -x; true"), "++ true\n+ __posthouse_ended 1 0\n");
    assert_eq!(bench.bash("echo quiet"), "quiet\n");
}

#[test]
fn handlers_stay_in_the_shell() {
    let bench = Bench::new();
    bench.bash("trap 'echo failed' ERR; trap 'echo usr' USR1");
    assert_eq!(bench.bash("kill -USR1 $$; true"), "usr\n");
    assert!(bench.bash_error("false").starts_with("failed\n"));
}

#[test]
fn a_deleted_folder_is_no_end() {
    let bench = Bench::new();
    bench.bash("mkdir gone; cd gone; rm -r ../gone");
    assert_eq!(bench.bash("echo on"), "on\n");
    assert_eq!(bench.bash("cd ../ 2>/dev/null || cd /; echo on"), "on\n");
    bench.bash("cd /; exit 0");
    fs::remove_dir(bench.at("")).unwrap();
    assert_eq!(bench.bash("basename $PWD"), format!("{DEAD}workspace\n"));
}

#[test]
fn the_end_of_a_shell_is_told() {
    let bench = Bench::new();
    assert_eq!(
        bench.bash("echo a; exit"),
        "a\n[exit code 0: the shell has ended, and everything that it had started was killed]"
    );
    let text = bench.bash_error("set -e; false; echo never");
    assert_eq!(
        text,
        format!(
            "{DEAD}[exit code 1: the shell has ended, and everything that it had started was killed]"
        )
    );
    let text = bench.bash_error("kill -9 $$");
    assert_eq!(
        text,
        format!(
            "{DEAD}[the shell was killed by signal 9, and everything that it had started was killed]"
        )
    );
    let text = bench.bash("exec sh -c 'sleep 0.1; echo other'");
    assert!(text.starts_with(&format!("{DEAD}other\n[exit code 0: the shell has ended")), "{text}");
    // Ended between two calls, by what an earlier one left behind.
    bench.bash("(sleep 0.05; kill -9 $$) &");
    eventually("the end", || {
        bench
            .run("bash", json!({ "command": "echo x" }))
            .content
            .to_string()
            .contains("fresh shell")
    });
}

#[test]
fn a_restart_is_fresh_and_needs_no_note() {
    let bench = Bench::new();
    bench.bash("A=1; sleep 1000 & echo $! > pid");
    let pid = fs::read_to_string(bench.at("pid")).unwrap();
    assert_eq!(bench.text("bash", json!({ "restart": true })), "bash session restarted");
    assert!(!is_alive(pid.trim()));
    assert_eq!(bench.bash("echo [$A]"), "[]\n");
    assert_eq!(
        bench.text("bash", json!({ "restart": true, "command": "echo b" })),
        "bash session restarted\nb\n"
    );
    bench.tools.note_fresh_shell("[The sandbox was started\nagain.]");
    assert_eq!(bench.bash("echo c"), "[The sandbox was started again.]\nc\n");
    assert_eq!(bench.bash("echo d"), "d\n");
}

fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

#[test]
fn a_timeout_kills_everything() {
    let bench = Bench::new();
    let command = "echo begun; sleep 1000 & echo $! >a; setsid sleep 1000 & echo $! >b; \
        (trap '' TERM INT HUP; sleep 1000) & echo $! >c; sleep 1000";
    let text = bench.error("bash", json!({ "command": command, "timeout_ms": 700 }));
    assert_eq!(
        text,
        "begun\n[timed out after 700 ms: the shell and everything that it had started were killed]"
    );
    for name in ["a", "b", "c"] {
        let pid = fs::read_to_string(bench.at(name)).unwrap();
        assert!(!is_alive(pid.trim()), "{name}");
    }
    assert_eq!(bench.bash("echo on"), format!("{DEAD}on\n"));
}

#[test]
fn a_stop_ends_the_one_that_runs_and_the_one_that_waits() {
    let bench = Bench::new();
    bench.bash("true");
    let stops: Vec<Stop> = (0..2).map(|_| Stop::new().unwrap()).collect();
    let threads: Vec<_> = stops
        .iter()
        .enumerate()
        .map(|(number, stop)| {
            let (tools, stop) = (Arc::clone(&bench.tools), stop.clone());
            let input = json!({ "command": format!("echo > began{number}; while :; do :; done") });
            std::thread::spawn(move || tools.run("call", "bash", &input, &stop))
        })
        .collect();
    let began = || [0, 1].map(|number| bench.at(&format!("began{number}")).exists());
    eventually("the first", || began().contains(&true));
    let first = usize::from(began()[1]);
    stops[1 - first].stop();
    let mut threads: Vec<_> = threads.into_iter().map(Some).collect();
    let waiting = threads[1 - first].take().unwrap().join().unwrap();
    assert_eq!(words(&waiting), "[interrupted] The command was not started.");
    stops[first].stop();
    let running = threads[first].take().unwrap().join().unwrap();
    assert!(running.is_error);
    assert_eq!(
        words(&running),
        "[interrupted] The shell and everything that it had started were killed."
    );
    assert_eq!(bench.bash("echo on"), format!("{DEAD}on\n"));
}

#[test]
fn background_processes_live_on_and_can_say_nothing_for_others() {
    let bench = Bench::new();
    assert_eq!(bench.bash("sleep 1000 & echo started"), "started\n");
    assert_eq!(bench.bash("jobs | wc -l"), "1\n");
    // Writes what ends a command into every descriptor that it finds, for calls to come.
    let forge = "( for round in $(seq 200); do for call in $(seq 1 12); do for fd in /proc/self/fd/* /proc/$$/fd/* 10 11 12 13 14 15 201 202; do \
        printf \"$call 0\" >&${fd##*/}; done; done 2>/dev/null; sleep 0.002; done ) >/dev/null 2>&1 &";
    assert_eq!(bench.bash(forge), "(no output)");
    for _ in 0..3 {
        let text = bench.bash_error("sleep 0.3; echo end; (exit 7)");
        assert!(text.ends_with("end\n[exit code 7]"), "{text}");
    }
    // The control: they did arrive.
    let foreign = crate::tools::shell::FOREIGN.load(std::sync::atomic::Ordering::Relaxed);
    assert!(foreign > 0);
}

#[test]
fn output_is_bounded_and_its_end_is_kept() {
    let bench = Bench::new();
    let text = bench.bash("seq 1 2000000");
    assert!(text.starts_with("[output truncated]\n"));
    assert!(text.ends_with("\n1999999\n2000000\n"));
    assert!(text.len() <= (100 << 10) + 32);
    let text = bench.error("bash", json!({ "command": "yes", "timeout_ms": 500 }));
    assert!(text.len() <= (100 << 10) + 200);
    assert!(text.contains("timed out"));
    assert!(!bench.root().join("tmp/tool-results").exists());
    // One that never reads its output to the end does not hang on it, either.
    assert_eq!(bench.bash("yes | head -1"), format!("{DEAD}y\n"));
}

#[test]
fn a_background_printer_does_not_keep_a_call() {
    let bench = Bench::new();
    bench.bash("yes & true");
    let text = bench.bash_error("echo end; (exit 5)");
    assert!(text.ends_with("[exit code 5]"));
    assert!(text.len() <= (100 << 10) + 64);
}

#[test]
fn a_long_command_runs() {
    let bench = Bench::new();
    let long = "y".repeat(1 << 20);
    assert_eq!(bench.bash(&format!("x='{long}'; echo ${{#x}}")), "1048576\n");
    let longer = "y".repeat(3 << 20);
    assert!(bench.bash_error(&longer).starts_with("command: 3145728 bytes; at most"));
    // One that is never read to its end can be stopped, too.
    let text =
        bench.error("bash", json!({ "command": format!("sleep 1000; {long}"), "timeout_ms": 100 }));
    assert!(text.contains("timed out after 100 ms"), "{text}");
}

#[test]
fn a_shell_that_is_not_there_is_told() {
    let bench = Bench::with(|workplace| workplace.shell = "/no/such/shell".into());
    let text = bench.bash_error("true");
    assert!(
        text.starts_with("The shell /no/such/shell can't be started in /workspace: "),
        "{text}"
    );
}

#[test]
fn dropping_the_tools_ends_the_shell() {
    let bench = Bench::new();
    let pid = bench.bash("sleep 1000 & echo $$ $!");
    let Bench { tools, folder: _folder } = bench;
    drop(tools);
    for pid in pid.split_whitespace() {
        assert!(!is_alive(pid));
    }
}

/// What the namespace test runs inside of its namespace.
#[test]
fn orphans_of_a_namespace_die_and_are_reaped() {
    if std::process::id() != 1 {
        return;
    }
    let bench = Bench::new();
    let text = bench.bash("(setsid sh -c 'echo $$ >orphan; exec sleep 1000' &) ; for i in 1 2 3 4 5 6 7 8; do (setsid true &); done; sleep 0.2");
    assert_eq!(text, "(no output)");
    let orphan = fs::read_to_string(bench.at("orphan")).unwrap();
    assert!(is_alive(orphan.trim()));
    // The ends of the others were taken note of: no zombie is left.
    let zombies = || bench.bash("cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || true");
    eventually("the last zombie's end", || zombies() == "0\n");
    let text = bench.error("bash", json!({ "command": "sleep 1000", "timeout_ms": 100 }));
    assert!(text.contains("timed out"));
    assert!(!is_alive(orphan.trim()));
    let left = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    assert_eq!(left.count(), 1);
}

#[test]
fn the_shell_works_as_well_in_a_namespace() {
    if std::process::id() == 1 {
        return;
    }
    // The same tests once more, in a process that is the first of its namespace. One thread:
    // killing ends the shells of all.
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["tools::tests::shell::", "--test-threads=1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if text.is_empty() && errors.contains("unshare") {
        // A host without namespaces for this user has nothing to test here.
        return;
    }
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("orphans_of_a_namespace_die_and_are_reaped ... ok"), "{text}");
}
