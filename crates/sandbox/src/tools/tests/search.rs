//! `glob` and `grep`: what they find, in which order, and trees that were laid out as traps.

use std::{
    fs,
    os::unix::fs::symlink,
    time::{Duration, SystemTime},
};

use rustix::fs::{Mode, OFlags, mkdirat, open, openat};

use super::*;

fn age(bench: &Bench, name: &str, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000 - seconds);
    fs::File::open(bench.at(name)).unwrap().set_modified(time).unwrap();
}

fn glob(bench: &Bench, pattern: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        bench.text("glob", json!({ "pattern": pattern })).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn grep(pattern: &str) -> Value {
    json!({ "pattern": pattern })
}

#[test]
fn glob_patterns_mean_what_they_should() {
    let bench = Bench::new();
    for name in [
        "a.rs",
        "b.md",
        ".hidden.rs",
        "src/c.rs",
        "src/deep/d.rs",
        "node_modules/x/e.rs",
        "[x].txt",
        "src/a b.rs",
    ] {
        bench.put(name, "x");
    }
    let every =
        [".hidden.rs", "a.rs", "node_modules/x/e.rs", "src/a b.rs", "src/c.rs", "src/deep/d.rs"];
    assert_eq!(glob(&bench, "*.rs"), every);
    assert_eq!(glob(&bench, "**/*.rs"), every);
    assert_eq!(glob(&bench, "src/*.rs"), ["src/a b.rs", "src/c.rs"]);
    assert_eq!(glob(&bench, "./src/*.rs"), ["src/a b.rs", "src/c.rs"]);
    assert_eq!(glob(&bench, "src/**/*.rs"), ["src/a b.rs", "src/c.rs", "src/deep/d.rs"]);
    assert_eq!(
        glob(&bench, "?.{rs,md}"),
        ["a.rs", "b.md", "node_modules/x/e.rs", "src/c.rs", "src/deep/d.rs"]
    );
    assert_eq!(glob(&bench, "[a-b].*"), ["a.rs", "b.md"]);
    assert_eq!(glob(&bench, "\\[x\\].txt"), ["[x].txt"]);
    assert_eq!(glob(&bench, "*.py"), ["No files found"]);
    assert_eq!(bench.text("glob", json!({ "pattern": "c.rs", "path": "./src/" })), "src/c.rs");
    assert_eq!(
        bench.text("glob", json!({ "pattern": "c.rs", "path": "/workspace/src" })),
        "/workspace/src/c.rs"
    );
    for (input, expected) in [
        (
            json!({ "pattern": "/a" }),
            "pattern: absolute; give the folder as path and a pattern below it",
        ),
        (
            json!({ "pattern": "../a" }),
            "pattern: holds ..; give the folder as path and a pattern below it",
        ),
        (json!({ "pattern": "" }), "pattern: empty; a pattern such as **/*.rs is needed"),
        (json!({ "pattern": "[" }), "pattern: [: unclosed character class; missing ']'"),
        (json!({ "pattern": "*", "path": "none" }), "path: none: no such file or folder"),
        (
            json!({ "pattern": "*", "path": "a.rs" }),
            "path: a.rs is not a folder; glob looks in folders",
        ),
    ] {
        assert_eq!(bench.error("glob", input), expected);
    }
}

#[test]
fn glob_gives_the_newest_first_and_at_most_200() {
    let bench = Bench::new();
    for number in 0..250 {
        let name = format!("f{number:03}");
        bench.put(&name, "");
        age(&bench, &name, number);
    }
    let text = bench.text("glob", json!({ "pattern": "f*" }));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[199]), (201, "f000", "f199"));
    assert_eq!(lines[200], "[50 more files, older than these]");
}

#[test]
fn grep_gives_path_line_and_text() {
    let bench = Bench::new();
    bench.put("b.txt", "no\nneedle one\r\n");
    bench.put("a/z.rs", "needle two");
    bench.put("a.txt", "a Needle\n");
    for hidden in [".git/x", "node_modules/x", "a/node_modules/y"] {
        bench.put(hidden, "needle");
    }
    bench.put("binary", b"needle\0");
    bench.put("late", [b"needle\n".as_slice(), &b"x".repeat(200_000), b"\0"].concat());
    let found = "a/z.rs:1:needle two\nb.txt:2:needle one";
    assert_eq!(bench.text("grep", grep("needle")), found);
    assert_eq!(bench.text("grep", grep("(?i)^.*needle(?-i) *[a-z]*$")).lines().count(), 3);
    assert_eq!(bench.text("grep", grep("absent")), "No matches found");
    assert_eq!(
        bench.text("grep", json!({ "pattern": "needle", "path": "b.txt" })),
        "b.txt:2:needle one"
    );
    assert_eq!(
        bench.text("grep", json!({ "pattern": "needle", "path": "/workspace/a/" })),
        "/workspace/a/z.rs:1:needle two"
    );
    assert_eq!(
        bench.text("grep", json!({ "pattern": "needle", "path": "node_modules" })),
        "node_modules/x:1:needle"
    );
    assert_eq!(
        bench.text("grep", json!({ "pattern": "needle", "glob": "*.rs" })),
        "a/z.rs:1:needle two"
    );
    assert_eq!(
        bench.text("grep", json!({ "pattern": "needle", "head_limit": 1 })),
        "a/z.rs:1:needle two\n[more lines match; head_limit is reached]"
    );
    assert_eq!(
        bench.text("grep", json!({ "pattern": "x", "path": "binary" })),
        "No matches found (binary is a binary file)"
    );
    assert_eq!(
        bench.error("grep", json!({ "pattern": "x", "path": "none" })),
        "path: none: no such file or folder"
    );
    let text = bench.error("grep", grep("(unclosed"));
    assert!(
        text.starts_with("pattern: regex parse error:\n") && text.contains("unclosed group"),
        "{text}"
    );
    assert!(bench.error("grep", grep("(a{1000}){1000}")).starts_with("pattern: "));
    assert!(bench.error("grep", json!({ "pattern": "a", "glob": "[" })).starts_with("glob: "));
}

#[test]
fn grep_shows_context() {
    let bench = Bench::new();
    bench.put("a", "1\n2\nhit\n4\nhit\n6\n7\n8\n9\nhit\n");
    assert_eq!(
        bench.text("grep", json!({ "pattern": "hit", "context": 1 })),
        "a-2-2\na:3:hit\na-4-4\na:5:hit\na-6-6\n--\na-9-9\na:10:hit"
    );
}

#[test]
fn grep_cuts_what_is_long() {
    let bench = Bench::new();
    bench.put("wide", format!("{}needle{}", "\u{fc}".repeat(300_000), "y".repeat(1_000_000)));
    let text = bench.text("grep", grep("needle"));
    assert!(text.chars().count() < 600 && text.contains("needle"), "{}", text.chars().count());
    fs::remove_file(bench.at("wide")).unwrap();
    bench.put("long", "some line with a needle\n".repeat(20_000));
    let text = bench.text("grep", grep("needle"));
    // Between the two limits: the file has all of it, and the end says that it was cut.
    assert!(text.ends_with("[cut at 100 KiB; narrow the pattern or the path]"));
    assert!(text.len() < 105 << 10);
}

#[test]
fn traps_in_a_tree_do_not_hold_a_search() {
    let bench = Bench::new();
    bench.put("a/b/file", "needle");
    symlink("..", bench.at("a/b/up")).unwrap();
    symlink("/", bench.at("a/root")).unwrap();
    symlink("self", bench.at("self")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "needle").unwrap();
    symlink(outside.path(), bench.at("outside")).unwrap();
    symlink(outside.path().join("file"), bench.at("outside-file")).unwrap();
    for fifo in ["fifo", "a/fifo"] {
        assert!(
            std::process::Command::new("mkfifo").arg(bench.at(fifo)).status().unwrap().success()
        );
    }
    bench.put("na\nme", "needle");
    assert_eq!(bench.text("grep", grep("needle")), "a/b/file:1:needle\nna\nme:1:needle");
    assert_eq!(bench.text("glob", json!({ "pattern": "file" })), "a/b/file");
    assert!(bench.error("grep", json!({ "pattern": "x", "path": "fifo" })).contains("is a FIFO"));
    assert!(bench.error("glob", json!({ "pattern": "x", "path": "outside" })).contains("no such"));
    // Deeper than any path may be long.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    fs::create_dir(bench.at("down")).unwrap();
    let mut folder = open(bench.at("down"), flags, Mode::empty()).unwrap();
    for _ in 0..450 {
        mkdirat(&folder, "123456789", Mode::RWXU).unwrap();
        folder = openat(&folder, "123456789", flags, Mode::empty()).unwrap();
    }
    let text = bench.text("grep", grep("needle"));
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.ends_with("[not everything was searched: there is too much; give a path]"));
    // Removing it is a walk, too, which the standard library might not survive.
    std::process::Command::new("rm").arg("-rf").arg(bench.at("down")).status().unwrap();
}

#[test]
fn a_search_can_be_stopped() {
    let bench = Bench::new();
    bench.put("big", "line of text without it\n".repeat(1_000_000));
    let stop = Stop::new().unwrap();
    let (tools, other) = (Arc::clone(&bench.tools), stop.clone());
    let thread = std::thread::spawn(move || {
        let input = json!({ "pattern": "(a|b|c|d)*x{3}needle$", "path": "big" });
        tools.run("call", "grep", &input, &other)
    });
    stop.stop();
    let outcome = thread.join().unwrap();
    assert!(outcome.is_error);
    assert_eq!(words(&outcome), "[interrupted]");
}
