//! SPECIFICATION.md names the tests that hold its promises, and other documents name some; each of
//! them has to be there.
//!
//! A name is a path in code type: `posthouse_store::tests::contract::one_writer` for a Rust
//! test, `posthouse::it::…` for one of these, `posthouse_sandbox::it::…` for an attack on a cage,
//! `conformance::test_stream::test_headers` for one in Python. Nothing is run here.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The folders that the segment `it` stands for: tests of a crate from outside.
const OUTSIDE: &[(&str, &str)] =
    &[("posthouse", "crates/server/tests/it"), ("posthouse_sandbox", "crates/sandbox/tests/it")];

/// The first segments of names, and the folders that they stand for.
const ROOTS: &[(&str, &str)] = &[
    ("posthouse_protocol", "crates/protocol/src"),
    ("posthouse_store", "crates/store/src"),
    ("posthouse_model", "crates/model/src"),
    ("posthouse_net", "crates/net/src"),
    ("posthouse_mcp", "crates/mcp/src"),
    ("posthouse_web", "crates/web/src"),
    ("posthouse_sandbox", "crates/sandbox/src"),
    ("posthouse_engine", "crates/engine/src"),
    ("posthouse_testkit", "crates/testkit/src"),
    ("posthouse", "crates/server/src"),
    ("conformance", "conformance/python"),
];

/// The documents that name tests, and how many names each has at least.
const DOCUMENTS: &[(&str, usize)] =
    &[("SPECIFICATION.md", 60), ("ARCHITECTURE.md", 5), ("SECURITY.md", 10)];

/// How many promises there are.
const PROMISES: usize = 10;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The names of tests in a text.
fn names(text: &str) -> Vec<&str> {
    let is_root = |first: &str| ROOTS.iter().any(|(name, _)| *name == first);
    let is_name = |span: &&str| span.split_once("::").is_some_and(|(first, _)| is_root(first));
    text.split('`').skip(1).step_by(2).filter(is_name).collect()
}

/// Why there is no such test, if there is none.
fn missing(name: &str) -> Option<String> {
    let mut segments: Vec<&str> = name.split("::").collect();
    let (Some(test), first) = (segments.pop(), segments.remove(0)) else { unreachable!() };
    let (_, folder) = ROOTS.iter().find(|(one, _)| *one == first).unwrap();
    let mut folder = root().join(folder);
    if segments.first() == Some(&"it") {
        let Some((_, outside)) = OUTSIDE.iter().find(|(one, _)| *one == first) else {
            return Some(format!("{name}: the crate has no such tests"));
        };
        folder = root().join(outside);
        segments.remove(0);
    }
    let (extension, definition) = match first {
        "conformance" => ("py", format!("def {test}(")),
        _ => ("rs", format!("fn {test}(")),
    };
    // The module may be a file, or stand inside of the file of the module above it.
    let file = (1..=segments.len())
        .rev()
        .map(|depth| folder.join(segments[..depth].join("/")).with_extension(extension))
        .find(|file| file.is_file());
    let Some(file) = file else { return Some(format!("{name}: there is no such module")) };
    let text = fs::read_to_string(&file).unwrap();
    let mut before = "";
    for line in text.lines() {
        if line.contains(&definition) {
            let is_test = extension == "py"
                || before.starts_with("#[test]")
                || before.starts_with("#[tokio::test");
            return (!is_test).then(|| format!("{name}: is no test"));
        }
        before = line.trim();
    }
    Some(format!("{name}: is not in {}", file.display()))
}

#[test]
fn every_test_that_is_named_exists() {
    for (document, least) in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let names = names(&text);
        assert!(names.len() >= *least, "only {} names were found in {document}", names.len());
        let missing: Vec<String> = names.into_iter().filter_map(missing).collect();
        assert!(missing.is_empty(), "{document} is wrong:\n{}", missing.join("\n"));
    }
}

#[test]
fn every_promise_has_a_test_or_says_what_is_missing() {
    let text = fs::read_to_string(root().join("SPECIFICATION.md")).unwrap();
    let sections: Vec<&str> = text.split("\n## ").skip(1).collect();
    for number in 1..=PROMISES {
        let start = format!("{number}. ");
        let section = sections.iter().find(|section| section.starts_with(&start));
        let section = section.unwrap_or_else(|| panic!("promise {number} is not there"));
        let kept = !names(section).is_empty() || section.contains("**Not yet.**");
        assert!(kept, "promise {number} has neither a test nor a word on what is missing");
    }
}

#[test]
fn names_that_are_wrong_are_found() {
    for wrong in [
        "posthouse_store::tests::contract::no_such_test",
        "posthouse_store::tests::contract::open",
        "posthouse_store::nowhere::one_writer",
        "posthouse::it::nowhere::one_writer",
        "conformance::test_stream::test_nothing",
    ] {
        assert!(missing(wrong).is_some(), "{wrong}");
    }
    assert_eq!(missing("posthouse::it::specification::names_that_are_wrong_are_found"), None);
    assert_eq!(
        names("`posthouse_store::a::b` and `State::fold` and posthouse_store::c::d").len(),
        1
    );
}
