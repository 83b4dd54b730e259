//! What the tools promise, on the host: in a tree of their own, and for the shell also as the
//! first process of a namespace.

mod files;
mod search;
mod shell;

use std::{fs, path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{Children, Outcome, Stop, Tools, Workplace};

/// Tools in a folder of their own, which is their whole world.
struct Bench {
    folder: tempfile::TempDir,
    tools: Arc<Tools>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Workplace)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["workspace", "tmp", "mnt"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut workplace = Workplace {
            root: Some(folder.path().to_owned()),
            directory: "/workspace".into(),
            spill: "/tmp/tool-results".into(),
            shell: "/bin/bash".into(),
            environment: vec![
                ("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into()),
                ("HOME".into(), "/nowhere".into()),
                ("LANG".into(), "C.UTF-8".into()),
                ("TERM".into(), "dumb".into()),
            ],
            longest_call: Duration::from_secs(600),
            // Takes effect where the test is the first process of a namespace.
            children: Children::Namespace,
            limits: None,
        };
        change(&mut workplace);
        Self { tools: Arc::new(Tools::new(workplace)), folder }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A file or folder in the working directory, as the host sees it.
    fn at(&self, name: &str) -> std::path::PathBuf {
        self.root().join("workspace").join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn run(&self, tool: &str, input: Value) -> Outcome {
        self.tools.run("call_1", tool, &input, &Stop::new().unwrap())
    }

    /// A call that succeeds with one text.
    fn text(&self, tool: &str, input: Value) -> String {
        let outcome = self.run(tool, input.clone());
        assert!(!outcome.is_error, "{tool} {input} has failed: {}", words(&outcome));
        words(&outcome)
    }

    /// A call that fails with one text.
    fn error(&self, tool: &str, input: Value) -> String {
        let outcome = self.run(tool, input.clone());
        assert!(outcome.is_error, "{tool} {input} has succeeded: {}", words(&outcome));
        words(&outcome)
    }

    fn bash(&self, command: &str) -> String {
        self.text("bash", json!({ "command": command }))
    }

    fn bash_error(&self, command: &str) -> String {
        self.error("bash", json!({ "command": command }))
    }
}

fn words(outcome: &Outcome) -> String {
    let blocks = outcome.content.as_array().unwrap();
    assert_eq!(blocks.len(), 1);
    assert_eq!(blocks[0]["type"], "text");
    blocks[0]["text"].as_str().unwrap().to_owned()
}

/// Waits until something holds; fails after a time that only a hang reaches.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} never came");
}

#[test]
fn input_is_checked_by_name() {
    let bench = Bench::new();
    for (tool, input, expected) in [
        ("bash", json!({}), "bash: command is required"),
        ("bash", json!({ "command": "" }), "bash: command is required"),
        ("bash", json!({ "command": 5 }), "command: is 5; a string is needed"),
        (
            "bash",
            json!({ "command": "a", "cwd": "/" }),
            "cwd: unknown field; bash takes command, restart, timeout_ms",
        ),
        (
            "bash",
            json!({ "command": "a", "restart": "yes" }),
            "restart: is a string; true or false is needed",
        ),
        (
            "bash",
            json!({ "command": "a", "timeout_ms": -1 }),
            "timeout_ms: is -1; a whole number of 0 or more is needed",
        ),
        (
            "bash",
            json!({ "command": "a", "timeout_ms": 600_001 }),
            "timeout_ms: 600001; at most 600000 is allowed here",
        ),
        ("bash", json!({ "command": "a\u{0}b" }), "command: holds a NUL; bash knows none"),
        ("bash", json!([]), "input: not an object; bash takes command, restart, timeout_ms"),
        ("read", json!({}), "file_path: missing; a string is needed"),
        ("read", json!({ "file_path": null }), "file_path: missing; a string is needed"),
        ("read", json!({ "file_path": "" }), "file_path: empty; a path is needed"),
        (
            "read",
            json!({ "file_path": "a", "view_range": [1] }),
            "view_range: is a list; two whole numbers, as in [1, 50] is needed",
        ),
        ("write", json!({ "file_path": "a" }), "content: missing; a string is needed"),
        (
            "edit",
            json!({ "file_path": "a", "old_string": "", "new_string": "b" }),
            "old_string: empty; the text to replace is needed (write makes files)",
        ),
        ("glob", json!({ "path": "a" }), "pattern: missing; a string is needed"),
        (
            "grep",
            json!({ "pattern": "a", "-n": true }),
            "-n: unknown field; grep takes pattern, path, glob, head_limit, context",
        ),
        (
            "rm",
            json!({}),
            "There is no tool \"rm\" here; the tools are bash, read, write, edit, glob and grep.",
        ),
    ] {
        assert_eq!(bench.error(tool, input), expected);
    }
}

#[test]
fn a_call_that_was_stopped_before_it_began_does_nothing() {
    let bench = Bench::new();
    let stop = Stop::new().unwrap();
    stop.stop();
    let input = json!({ "file_path": "a", "content": "b" });
    let outcome = bench.tools.run("call", "write", &input, &stop);
    assert!(outcome.is_error);
    assert!(!bench.at("a").exists());
}
