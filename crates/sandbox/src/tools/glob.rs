//! The tool `glob`: files by a pattern, newest first. It opens no file.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    path::{Path, PathBuf},
};

use globset::{GlobBuilder, GlobMatcher};
use rustix::{
    fs::{AtFlags, statat},
    io::Errno,
};
use serde_json::Value;

use super::{
    Answer, INTERRUPTED, Outcome, Stop,
    input::Input,
    place::{Place, is_kernel_files, why},
    walk::{Cut, Found, Next, walk},
};

/// Paths that one call gives.
const MOST: usize = 200;

/// Letters of a pattern.
const LONGEST_PATTERN: usize = 4096;

pub(crate) fn run(place: &Place, input: &Value, stop: &Stop) -> Answer {
    let input = Input::new("glob", input, &["pattern", "path"])?;
    let pattern = compile("pattern", input.text("pattern")?)?;
    let base = input.optional_path("path")?;
    let prefix = prefix_of(base);
    let folder = place.open_folder(base.unwrap_or(".")).map_err(|error| wrong_base(base, error))?;
    if is_kernel_files(&folder) {
        return Err(format!("path: {} holds files of the kernel", base.unwrap_or(".")));
    }
    let mut newest: BinaryHeap<Reverse<(_, _, Reverse<PathBuf>)>> = BinaryHeap::new();
    let mut count: usize = 0;
    let visit = |found: &Found<'_>| {
        if !pattern.is_match(found.path) {
            return Next::More;
        }
        let Ok(stat) = statat(found.folder, found.name, AtFlags::SYMLINK_NOFOLLOW) else {
            return Next::More;
        };
        count += 1;
        let age = (stat.st_mtime, stat.st_mtime_nsec);
        newest.push(Reverse((age.0, age.1, Reverse(found.path.to_owned()))));
        if newest.len() > MOST {
            newest.pop();
        }
        Next::More
    };
    let note = match walk(folder, stop, |_| false, visit) {
        Ok(()) => None,
        Err(Cut::Stopped) => return Err(INTERRUPTED.to_owned()),
        Err(cut) => Some(unfinished(cut)),
    };
    let found = newest.into_sorted_vec();
    let mut lines: Vec<String> = found
        .iter()
        .map(|Reverse((_, _, Reverse(path)))| prefix.join(path).to_string_lossy().into_owned())
        .collect();
    if lines.is_empty() {
        lines.push("No files found".to_owned());
    }
    if count > MOST {
        lines.push(format!("[{} more files, older than these]", count - MOST));
    }
    lines.extend(note.map(str::to_owned));
    Ok(Outcome::text(lines.join("\n")))
}

/// What stands in front of each result: the path as it was asked for.
pub(crate) fn prefix_of(base: Option<&str>) -> PathBuf {
    // Components leave out `.` in the middle and slashes at the end.
    let base = Path::new(base.unwrap_or("."));
    base.components().filter(|part| *part != std::path::Component::CurDir).collect()
}

/// What is wrong with where to look.
pub(crate) fn wrong_base(base: Option<&str>, error: Errno) -> String {
    let base = base.unwrap_or(".");
    match error {
        Errno::NOTDIR => format!("path: {base} is not a folder; glob looks in folders"),
        error => format!("path: {}", why(base, error)),
    }
}

/// What is said when a walk did not come to its end.
pub(crate) fn unfinished(cut: Cut) -> &'static str {
    match cut {
        Cut::Stopped => INTERRUPTED,
        Cut::TooMuch => "[not everything was searched: there is too much; give a path]",
        Cut::TooLong => "[not everything was searched: it took too long; give a path]",
    }
}

/// A pattern for paths below where the search begins. One without a slash finds names anywhere.
pub(crate) fn compile(field: &str, pattern: &str) -> Result<GlobMatcher, String> {
    if pattern.is_empty() {
        return Err(format!("{field}: empty; a pattern such as **/*.rs is needed"));
    }
    if pattern.len() > LONGEST_PATTERN {
        return Err(format!("{field}: too long; at most {LONGEST_PATTERN} bytes are taken"));
    }
    if pattern.starts_with('/') {
        return Err(format!("{field}: absolute; give the folder as path and a pattern below it"));
    }
    if pattern.split('/').any(|part| part == "..") {
        return Err(format!("{field}: holds ..; give the folder as path and a pattern below it"));
    }
    let mut relative = pattern;
    while let Some(rest) = relative.strip_prefix("./") {
        relative = rest.trim_start_matches('/');
    }
    let whole = if relative.contains('/') { relative.to_owned() } else { format!("**/{relative}") };
    GlobBuilder::new(&whole)
        .literal_separator(true)
        .backslash_escape(true)
        .empty_alternates(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| format!("{field}: {}: {}", pattern, error.kind()))
}
