//! What ARCHITECTURE.md says is absent: arrows between crates, clocks in the heart, long files.
//!
//! Reads `cargo metadata` and the sources, and runs nothing of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Which crates each crate may use. A crate that is not here fails the test: say in
/// ARCHITECTURE.md what it is for, then add it.
const ARROWS: &[(&str, &[&str])] = &[
    ("posthouse-protocol", &[]),
    ("posthouse-store", &["posthouse-protocol"]),
    ("posthouse-model", &["posthouse-protocol"]),
    ("posthouse-net", &[]),
    ("posthouse-sandbox", &["posthouse-net"]),
    ("posthouse-mcp", &["posthouse-net"]),
    ("posthouse-web", &["posthouse-net"]),
    (
        "posthouse-engine",
        &[
            "posthouse-mcp",
            "posthouse-web",
            "posthouse-protocol",
            "posthouse-store",
            "posthouse-model",
            "posthouse-net",
            "posthouse-sandbox",
        ],
    ),
    (
        "posthouse",
        &[
            "posthouse-mcp",
            "posthouse-web",
            "posthouse-protocol",
            "posthouse-store",
            "posthouse-model",
            "posthouse-net",
            "posthouse-sandbox",
            "posthouse-engine",
        ],
    ),
    ("posthouse-testkit", &[]),
];

/// Nobody uses it and it measures everything.
const FREE: &str = "posthouse-bench";

/// What may be used by a crate's tests, and by nothing else.
const FOR_TESTS: &str = "posthouse-testkit";

/// Parts of the outside world, and the crates that may know them.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("rusqlite", &["posthouse-store"]),
    ("axum", &["posthouse", "posthouse-testkit"]),
    ("clap", &["posthouse"]),
    ("multer", &["posthouse"]),
    ("serde-saphyr", &["posthouse"]),
    ("unicode-width", &["posthouse"]),
    ("reqwest", &["posthouse-model", "posthouse"]),
    ("ipnet", &["posthouse-net"]),
    // Requests through the guard; the door.
    ("hyper", &["posthouse-net", "posthouse-sandbox", FOR_TESTS]),
    ("hyper-util", &["posthouse-net", "posthouse-sandbox", FOR_TESTS]),
    ("rustls", &["posthouse-net", "posthouse-sandbox", FOR_TESTS]),
    ("tokio-rustls", &["posthouse-net", "posthouse-sandbox", FOR_TESTS]),
    ("rustls-native-certs", &["posthouse-net", FOR_TESTS]),
    ("rcgen", &["posthouse-sandbox"]),
    ("rmcp", &["posthouse-mcp"]),
    ("sse-stream", &["posthouse-model", "posthouse-mcp", "posthouse"]),
    ("html5gum", &["posthouse-web"]),
    ("encoding_rs", &["posthouse-web"]),
    ("psl", &["posthouse-web"]),
    ("aws-lc-rs", &["posthouse-engine"]),
    ("landlock", &["posthouse-sandbox"]),
    ("seccompiler", &["posthouse-sandbox"]),
    ("libc", &["posthouse-sandbox", FOR_TESTS]),
    ("globset", &["posthouse-sandbox"]),
    ("regex", &["posthouse-sandbox"]),
    // Locks of a folder; cages; terminals.
    ("rustix", &["posthouse-store", "posthouse-sandbox", "posthouse", FOR_TESTS]),
    (
        "tokio",
        &[
            "posthouse-store",
            "posthouse-model",
            "posthouse-net",
            "posthouse-mcp",
            "posthouse-web",
            "posthouse-sandbox",
            "posthouse-engine",
            "posthouse",
            FOR_TESTS,
        ],
    ),
    ("getrandom", &["posthouse-store", "posthouse-engine", "posthouse"]),
];

/// The files of the engine that are pure: the same arguments, the same result.
const HEART: &[&str] = &[
    "context.rs",
    "input.rs",
    "line.rs",
    "own.rs",
    "prompt.rs",
    "sessions.rs",
    "settle.rs",
    "sources.rs",
    "state.rs",
    "state/thread.rs",
    "step.rs",
    "summary.rs",
    "toolbox.rs",
    "toolbox/schema.rs",
    "toolbox/search.rs",
    "toolbox/wording.rs",
    "view.rs",
];

/// What a file without a clock, chance or IO does not name.
const IMPURE: &[&str] =
    &["SystemTime", "Instant", "::now()", "getrandom", "std::env", "std::fs", "tokio", "async fn"];

/// The longest source file, in lines.
const LONGEST: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Name and dependencies of each package: name of the dependency, and whether it is for tests.
fn packages() -> Vec<(String, Vec<(String, bool)>)> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let dependency = |one: &Value| (text(&one["name"]), one["kind"] == "dev");
    let package = |one: &Value| {
        let dependencies = one["dependencies"].as_array().unwrap();
        (text(&one["name"]), dependencies.iter().map(dependency).collect())
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

/// All Rust sources of the crates, with their paths below the root.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    walk(&root.join("crates"), &mut found);
    assert!(found.len() > 50, "only {} sources were found", found.len());
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(&path).unwrap())
    };
    found.into_iter().map(read).collect()
}

/// Whether a source belongs to tests.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("/simulation.rs")
}

/// A source without its comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn crates_use_each_other_along_the_arrows_alone() {
    let packages = packages();
    let names: Vec<&String> = packages.iter().map(|(name, _)| name).collect();
    for (name, _) in ARROWS {
        assert!(names.iter().any(|one| one == name), "{name} is gone; take it off the list");
    }
    for (name, dependencies) in &packages {
        if name == FREE {
            continue;
        }
        let allowed = ARROWS.iter().find(|(one, _)| one == name);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{name} has no place in the layout"));
        let inner = |one: &&(String, bool)| names.contains(&&one.0);
        for (used, for_tests) in dependencies.iter().filter(inner) {
            let fine = allowed.contains(&used.as_str()) || (*for_tests && used == FOR_TESTS);
            assert!(fine, "{name} must not use {used}");
        }
    }
}

#[test]
fn each_part_of_the_outside_world_is_known_to_few() {
    for (name, dependencies) in packages() {
        if name == FREE {
            continue;
        }
        for (used, _) in dependencies.iter().filter(|(_, for_tests)| !for_tests) {
            let known = OUTSIDE.iter().find(|(one, _)| one == used);
            let fine = known.is_none_or(|(_, rooms)| rooms.contains(&name.as_str()));
            assert!(fine, "{name} must not use {used}");
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_hold() {
    // Not spelled out, so that this file may be looked at as well.
    let unfinished = concat!("todo", "!(");
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{path} does not open with what it holds");
        assert!(!text.contains(unfinished), "{path} is unfinished");
        let lines = text.lines().count();
        assert!(lines <= LONGEST, "{path} has {lines} lines; {LONGEST} are the most");
    }
}

#[test]
fn the_heart_knows_no_clock_no_chance_and_no_io() {
    let mut checked = 0;
    for (path, text) in sources() {
        let heart = path.strip_prefix("crates/engine/src/").is_some_and(|one| HEART.contains(&one));
        let protocol = path.starts_with("crates/protocol/src/");
        if !(heart || protocol) || is_test(&path) {
            continue;
        }
        let code = code(&text);
        for word in IMPURE {
            assert!(!code.contains(word), "{path} names {word}");
        }
        checked += 1;
    }
    assert!(checked > HEART.len(), "only {checked} files were found");
}

#[test]
fn what_runs_inside_of_a_cage_has_no_asynchronous_runtime() {
    let mut checked = 0;
    for (path, text) in sources() {
        let inside = ["crates/sandbox/src/inside", "crates/sandbox/src/tools"];
        if is_test(&path) || !inside.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        let code = code(&text);
        for word in ["tokio", "async fn", ".await", "tracing::"] {
            assert!(!code.contains(word), "{path} names {word}");
        }
        checked += 1;
    }
    assert!(checked > 20, "only {checked} files were found");
}

#[test]
fn unsafe_code_is_written_in_the_sandbox_alone() {
    // Not spelled out, so that this file may be looked at as well.
    let unsafe_block = concat!("unsafe", " {");
    for (path, text) in sources() {
        let at_home = path.starts_with("crates/sandbox/") || path.starts_with("crates/testkit/");
        assert!(at_home || !code(&text).contains(unsafe_block), "{path} has unsafe code");
    }
}

#[test]
fn work_is_appended_in_one_place() {
    let mut places = Vec::new();
    for (path, text) in sources() {
        let in_store = path.starts_with("crates/store/");
        if !in_store && !is_test(&path) && text.contains(".append_work(") {
            places.push(path);
        }
    }
    assert_eq!(places, ["crates/engine/src/drive.rs"]);
}

#[test]
fn no_record_is_ever_updated() {
    let mut seen = false;
    for (path, text) in sources() {
        if is_test(&path) {
            continue;
        }
        // Statements may go over several lines.
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ").to_uppercase();
        assert!(!words.contains("UPDATE RECORDS"), "{path} changes records");
        assert!(!words.contains("REPLACE INTO RECORDS"), "{path} changes records");
        seen |= words.contains("INSERT INTO RECORDS");
    }
    assert!(seen, "nothing inserts records; this test looks for the wrong words");
}

#[test]
fn sql_is_known_to_the_store_alone() {
    for (path, text) in sources() {
        if path.starts_with("crates/store/") || is_test(&path) {
            continue;
        }
        let code = code(&text);
        for words in ["SELECT ", "INSERT INTO ", "UPDATE sessions", "DELETE FROM "] {
            assert!(!code.contains(words), "{path} says {words}");
        }
    }
}
