//! The journal of tool calls: what a crash leaves to know of them.
//!
//! One file for each session, outside of everything that its tools can see. The helper writes
//! `started` before a tool's first instruction and `finished` with the result after its last;
//! only the server reads. A journal speaks for one life of the machine: what the page cache held
//! when the power went is not known.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::tools::Outcome;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first one: the life of the machine.
    Boot(String),
    Started(String),
    Finished(String, Outcome),
}

/// What a journal knows of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// It has ended, with this outcome.
    Finished(Outcome),
    /// It was started, and nobody knows what came of it; or the journal is gone, or of another
    /// life of the machine.
    Unknown,
    /// It never ran.
    NeverRan,
}

/// The name of this life of the machine.
///
/// # Errors
/// When the kernel does not say.
pub fn boot() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Opens a journal to be written, and begins it anew when it is of another life.
///
/// # Errors
/// Those of the file system.
pub(crate) fn open(path: &Path, boot: &str) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    if first_line(&file)?.is_none_or(|first| first != boot) {
        begin(&file, boot)?;
    } else if !ends_with_a_line(&file)? {
        // What was cut must not swallow what comes next.
        (&file).write_all(b"\n")?;
    }
    Ok(file)
}

/// Forgets all calls: none is open any more.
///
/// # Errors
/// Those of the file system.
pub(crate) fn clear(path: &Path, boot: &str) -> io::Result<()> {
    let file = OpenOptions::new().append(true).open(path)?;
    begin(&file, boot)
}

fn begin(file: &File, boot: &str) -> io::Result<()> {
    file.set_len(0)?;
    append(file, &Line::Boot(boot.to_owned()))
}

fn ends_with_a_line(file: &File) -> io::Result<bool> {
    let mut last = [0];
    let length = file.metadata()?.len();
    Ok(length > 0 && file.read_at(&mut last, length - 1)? == 1 && last == *b"\n")
}

fn first_line(file: &File) -> io::Result<Option<String>> {
    let mut line = String::new();
    BufReader::new(file.try_clone()?).read_line(&mut line)?;
    Ok(match serde_json::from_str(&line) {
        Ok(Line::Boot(boot)) => Some(boot),
        _ => None,
    })
}

/// Says that a tool is about to run.
pub(crate) fn started(file: &File, call: &str) -> io::Result<()> {
    append(file, &Line::Started(call.to_owned()))
}

/// Says what has come of it.
pub(crate) fn finished(file: &File, call: &str, outcome: &Outcome) -> io::Result<()> {
    append(file, &Line::Finished(call.to_owned(), outcome.clone()))
}

fn append(mut file: &File, line: &Line) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    file.write_all(&bytes)
}

/// Looks a call up. No helper may be alive that could still write.
#[must_use]
pub fn find(path: &Path, boot: &str, call: &str) -> Found {
    let Ok(file) = File::open(path) else { return Found::Unknown };
    let mut lines = BufReader::new(file).split(b'\n').map_while(Result::ok);
    let parse = |line: Vec<u8>| serde_json::from_slice::<Line>(&line).ok();
    match lines.next().and_then(parse) {
        Some(Line::Boot(of)) if of == boot => {}
        _ => return Found::Unknown,
    }
    let mut found = Found::NeverRan;
    // A line that was cut stands for a tool that was not done.
    for line in lines.filter_map(parse) {
        match line {
            Line::Started(of) if of == call => found = Found::Unknown,
            Line::Finished(of, outcome) if of == call => found = Found::Finished(outcome),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome() -> Outcome {
        Outcome { content: json!([{ "type": "text", "text": "a\nb" }]), is_error: false }
    }

    #[test]
    fn a_journal_tells_what_ran_what_did_not_and_what_nobody_knows() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal");
        assert_eq!(find(&path, "now", "a"), Found::Unknown);
        let file = open(&path, "now").unwrap();
        started(&file, "a").unwrap();
        started(&file, "b").unwrap();
        finished(&file, "a", &outcome()).unwrap();
        assert_eq!(find(&path, "now", "a"), Found::Finished(outcome()));
        assert_eq!(find(&path, "now", "b"), Found::Unknown);
        assert_eq!(find(&path, "now", "c"), Found::NeverRan);
        assert_eq!(find(&path, "later", "c"), Found::Unknown);
        // Opened again in the same life it goes on, in another it begins anew.
        drop(open(&path, "now").unwrap());
        assert_eq!(find(&path, "now", "b"), Found::Unknown);
        drop(open(&path, "later").unwrap());
        assert_eq!(find(&path, "later", "b"), Found::NeverRan);
        clear(&path, "later").unwrap();
        assert_eq!(find(&path, "later", "a"), Found::NeverRan);
    }

    #[test]
    fn a_result_that_was_cut_is_unknown() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("journal");
        let file = open(&path, "now").unwrap();
        started(&file, "a").unwrap();
        (&file).write_all(br#"{"finished":["a",{"content":[{"ty"#).unwrap();
        assert_eq!(find(&path, "now", "a"), Found::Unknown);
        let again = open(&path, "now").unwrap();
        started(&again, "b").unwrap();
        assert_eq!(find(&path, "now", "a"), Found::Unknown);
        assert_eq!(find(&path, "now", "b"), Found::Unknown);
        std::fs::write(&path, b"").unwrap();
        assert_eq!(find(&path, "now", "a"), Found::Unknown);
    }
}
