//! The tool `grep`: lines by a regular expression. It reads regular files alone, and holds one
//! piece of one of them at a time.

use std::{
    collections::VecDeque, fs::File, io::Read as _, os::fd::OwnedFd, path::Path, time::Instant,
};

use globset::GlobMatcher;
use regex::bytes::{Regex, RegexBuilder};
use rustix::{
    fs::{FileType, Mode, OFlags, fstat, openat},
    io::Errno,
};
use serde_json::Value;

use super::{
    Answer, INTERRUPTED, Outcome, Stop,
    glob::{compile, prefix_of, unfinished},
    input::Input,
    place::{Place, is_kernel_files, why},
    walk::{Cut, Found, LONGEST, Next, walk},
};

/// Bytes of a result.
const LONGEST_RESULT: usize = 100 << 10;

/// Characters of a line that are shown, and how many of them stand before a late match.
const LONGEST_SHOWN: usize = 500;
const BEFORE_MATCH: usize = 100;

/// Bytes of a line that are searched. The rest of a longer one is passed over.
const LONGEST_LINE: usize = 1 << 20;

/// The most lines of context on each side.
const MOST_CONTEXT: u64 = 100;

/// Bytes of lines that are held because they may become context.
const CONTEXT_HELD: usize = 4 << 10;

/// Memory of a compiled expression.
const LARGEST_PATTERN: usize = 8 << 20;

pub(crate) fn run(place: &Place, input: &Value, stop: &Stop) -> Answer {
    let known = ["pattern", "path", "glob", "head_limit", "context"];
    let input = Input::new("grep", input, &known)?;
    let pattern = RegexBuilder::new(input.text("pattern")?)
        .size_limit(LARGEST_PATTERN)
        .dfa_size_limit(LARGEST_PATTERN)
        .build()
        .map_err(|error| format!("pattern: {error}"))?;
    let base = input.optional_path("path")?;
    let only = input.optional_text("glob")?.map(|glob| compile("glob", glob)).transpose()?;
    let context = input.count("context")?;
    if context > MOST_CONTEXT {
        return Err(format!("context: {context}; at most {MOST_CONTEXT} lines are shown"));
    }
    let limit = match input.count("head_limit")? {
        0 => u64::MAX,
        limit => limit,
    };
    let context = usize::try_from(context).unwrap_or(0);
    let mut search = Search {
        pattern,
        context,
        left: limit,
        text: String::new(),
        full: None,
        deadline: Instant::now() + LONGEST,
        stop,
    };

    let shown = base.unwrap_or(".");
    let opened = place
        .open(&place.absolute(shown), OFlags::RDONLY)
        .map_err(|error| format!("path: {}", why(shown, error)))?;
    let stat = fstat(&opened).map_err(|error| format!("path: {}", why(shown, error)))?;
    let note = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        if is_kernel_files(&opened) {
            return Err(format!("path: {shown} holds files of the kernel"));
        }
        let prefix = prefix_of(base);
        below(&mut search, opened, &prefix, only.as_ref(), stop)
    } else {
        drop(opened);
        // Once more, with what is said of files that can't be read.
        let (file, _) = place.open_file(shown).map_err(|error| format!("path: {error}"))?;
        match search.file(file, shown) {
            Looked::Binary => {
                return Ok(Outcome::text(format!("No matches found ({shown} is a binary file)")));
            }
            Looked::Failed(error) => return Err(format!("path: {shown}: {error}")),
            Looked::Whole => None,
        }
    };
    if stop.is_stopped() {
        return Err(INTERRUPTED.to_owned());
    }
    let mut text = search.text;
    if text.is_empty() {
        text.push_str("No matches found\n");
    }
    if let Some(full) = search.full {
        text.push_str(full);
        text.push('\n');
    } else if let Some(note) = note {
        text.push_str(&note);
        text.push('\n');
    }
    text.pop();
    Ok(Outcome::text(text))
}

/// Searches all files below a folder. Gives what is to be said at the end.
fn below(
    search: &mut Search<'_>,
    folder: OwnedFd,
    prefix: &Path,
    only: Option<&GlobMatcher>,
    stop: &Stop,
) -> Option<String> {
    let mut unread = 0_u64;
    let visit = |found: &Found<'_>| {
        if found.is_link || only.is_some_and(|only| !only.is_match(found.path)) {
            return Next::More;
        }
        let path = prefix.join(found.path);
        let looked = match open_regular(found) {
            Ok(Some(file)) => search.file(file, &path.to_string_lossy()),
            Ok(None) => Looked::Whole,
            Err(_) => Looked::Failed(String::new()),
        };
        unread += u64::from(matches!(looked, Looked::Failed(_)));
        if search.full.is_some() { Next::Enough } else { Next::More }
    };
    let skip = |name: &std::ffi::OsStr| name == ".git" || name == "node_modules";
    match walk(folder, stop, skip, visit) {
        Err(cut @ (Cut::TooLong | Cut::TooMuch)) => Some(unfinished(cut).to_owned()),
        _ if unread > 0 => Some(format!("[{unread} files could not be read]")),
        _ => None,
    }
}

/// Opens what the listing called a regular file, if it still is one.
fn open_regular(found: &Found<'_>) -> Result<Option<File>, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(found.folder, found.name, flags, Mode::empty())?;
    let stat = fstat(&file)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(regular.then(|| File::from(file)))
}

/// How the look into a file has ended.
enum Looked {
    Whole,
    Binary,
    Failed(String),
}

/// A search, over as many files as there are.
struct Search<'a> {
    pattern: Regex,
    context: usize,
    /// How many matching lines may still be shown.
    left: u64,
    text: String,
    /// Why nothing more is shown.
    full: Option<&'static str>,
    deadline: Instant,
    stop: &'a Stop,
}

/// Where a search stands in one file.
#[derive(Default)]
struct InFile {
    number: u64,
    /// The last line that was shown.
    shown: u64,
    /// Lines before this one that may become context.
    before: VecDeque<(u64, Vec<u8>)>,
    /// How many lines after a match are still to be shown.
    after: usize,
    /// Whether anything of this file was shown.
    any: bool,
}

impl Search<'_> {
    fn file(&mut self, mut file: File, path: &str) -> Looked {
        let began = self.text.len();
        let mut state = InFile::default();
        let mut chunk = vec![0; 64 << 10];
        // The end of what was read, without its newline yet.
        let mut open: Vec<u8> = Vec::new();
        loop {
            if self.stop.is_stopped() {
                return Looked::Whole;
            }
            if Instant::now() > self.deadline {
                self.full = Some(unfinished(Cut::TooLong));
                return Looked::Whole;
            }
            let count = match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Looked::Failed(error.to_string()),
            };
            let read = &chunk[..count];
            if read.contains(&0) {
                // Nothing of a binary file is shown, wherever it turns out to be one.
                self.text.truncate(began);
                return Looked::Binary;
            }
            for part in read.split_inclusive(|byte| *byte == b'\n') {
                match part.strip_suffix(b"\n") {
                    Some(line) if open.is_empty() => self.line(line, path, &mut state),
                    Some(line) => {
                        extend(&mut open, line);
                        self.line(&open, path, &mut state);
                        open.clear();
                    }
                    None => extend(&mut open, part),
                }
                if self.full.is_some() {
                    return Looked::Whole;
                }
            }
        }
        if !open.is_empty() {
            self.line(&open, path, &mut state);
        }
        Looked::Whole
    }

    fn line(&mut self, line: &[u8], path: &str, state: &mut InFile) {
        state.number += 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.pattern.find(line) {
            Some(found) => {
                if self.left == 0 {
                    self.full = Some("[more lines match; head_limit is reached]");
                    return;
                }
                self.left -= 1;
                let first = state.before.front().map_or(state.number, |(number, _)| *number);
                if self.context > 0
                    && !self.text.is_empty()
                    && (!state.any || first > state.shown + 1)
                {
                    self.push("--\n");
                }
                for (number, before) in std::mem::take(&mut state.before) {
                    self.show(path, number, '-', &before, 0);
                }
                self.show(path, state.number, ':', line, found.start());
                state.any = true;
                state.shown = state.number;
                state.after = self.context;
            }
            None if state.after > 0 => {
                self.show(path, state.number, '-', line, 0);
                state.shown = state.number;
                state.after -= 1;
            }
            None if self.context > 0 => {
                if state.before.len() == self.context {
                    state.before.pop_front();
                }
                state
                    .before
                    .push_back((state.number, line[..line.len().min(CONTEXT_HELD)].to_vec()));
            }
            None => {}
        }
    }

    fn show(&mut self, path: &str, number: u64, mark: char, line: &[u8], at: usize) {
        let text = cut(line, at);
        self.push(&format!("{path}{mark}{number}{mark}{text}\n"));
    }

    fn push(&mut self, text: &str) {
        if self.full.is_some() {
            return;
        }
        if self.text.len() + text.len() > LONGEST_RESULT {
            self.full = Some("[cut at 100 KiB; narrow the pattern or the path]");
            return;
        }
        self.text.push_str(text);
    }
}

/// Adds to a line as much of `more` as is searched.
fn extend(line: &mut Vec<u8>, more: &[u8]) {
    let room = LONGEST_LINE.saturating_sub(line.len()).min(more.len());
    line.extend_from_slice(&more[..room]);
}

/// A line as it is shown: a long one around what was found at byte `at`.
fn cut(line: &[u8], at: usize) -> String {
    let from = if at > LONGEST_SHOWN - BEFORE_MATCH { at - BEFORE_MATCH } else { 0 };
    // Four bytes are the longest character.
    let to = line.len().min(from + 4 * LONGEST_SHOWN);
    let window = String::from_utf8_lossy(&line[from..to]);
    let mut shown: String = window.chars().take(LONGEST_SHOWN).collect();
    let all = to == line.len() && shown.len() == window.len();
    if from > 0 {
        shown = format!("[…]{}", shown.trim_start_matches('\u{fffd}'));
    }
    if !all {
        shown.push_str("[…]");
    }
    shown
}
