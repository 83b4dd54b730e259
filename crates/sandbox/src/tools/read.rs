//! The tool `read`: text with numbered lines, images, PDF files and notebooks.
//!
//! It reads regular files alone and never waits for one, and holds no more of a file than it
//! may show.

use std::{
    fs::File,
    io::{self, Read as _},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Answer, INTERRUPTED, Outcome, Stop,
    input::Input,
    notebook,
    place::{Place, why_io},
};

/// Bytes of text that one call gives.
pub(crate) const LONGEST_TEXT: usize = 256 << 10;

/// Bytes of an image, a PDF file and a notebook.
const LONGEST_IMAGE: usize = 5 << 20;
const LONGEST_PDF: usize = 20 << 20;
const LONGEST_NOTEBOOK: usize = 5 << 20;

/// Bytes of one line that are shown.
const LONGEST_LINE: usize = 16 << 10;

/// Bytes that say what a file is.
const BEGINNING: usize = 8 << 10;

pub(crate) fn run(place: &Place, input: &Value, stop: &Stop) -> Answer {
    let input = Input::new("read", input, &["file_path", "view_range"])?;
    let name = input.path("file_path")?;
    let range = input.pair("view_range")?.map(check_range).transpose()?;
    let (mut file, _) = place.open_file(name)?;
    let failed = |error: io::Error| why_io(name, &error);

    let mut beginning = Vec::new();
    file.by_ref().take(BEGINNING as u64).read_to_end(&mut beginning).map_err(failed)?;
    if beginning.is_empty() {
        return Ok(Outcome::text("(the file is empty)"));
    }
    if let Some(media) = media_of(&beginning) {
        if range.is_some() {
            return Err(format!("view_range: {name} is {media}, not text; leave it out"));
        }
        return whole_block(name, media, beginning, file, stop);
    }
    if beginning.contains(&0) {
        return Err(format!("{name}: is a binary file; text, images and PDF files can be read"));
    }
    let notebook = name.len() > 6 && name.get(name.len() - 6..).is_some_and(is_notebook);
    if notebook && range.is_none() {
        let bytes = rest_of(file, beginning, LONGEST_NOTEBOOK, stop).map_err(failed)?;
        let bytes = bytes.ok_or_else(|| {
            let error = too_large(name, "a notebook", LONGEST_NOTEBOOK);
            format!("{error}; with view_range it is read as plain JSON")
        })?;
        // What is no notebook in spite of its name is text.
        if let Some(text) = notebook::readable(&bytes) {
            return if text.len() > LONGEST_TEXT {
                Err(too_long(name, "The notebook"))
            } else {
                Ok(Outcome::text(text))
            };
        }
        let text = lines(name, &bytes[..], (1, 0), stop)?;
        return Ok(Outcome::text(text));
    }
    let source = beginning.as_slice().chain(file);
    Ok(Outcome::text(lines(name, source, range.unwrap_or((1, 0)), stop)?))
}

fn is_notebook(end: &str) -> bool {
    end.eq_ignore_ascii_case(".ipynb")
}

/// First and last line; a last one of 0 is the end.
fn check_range((first, last): (i64, i64)) -> Result<(u64, u64), String> {
    let first = u64::try_from(first)
        .ok()
        .filter(|first| *first > 0)
        .ok_or_else(|| format!("view_range: begins with {first}; lines are counted from 1"))?;
    let last = u64::try_from(last).unwrap_or(0);
    if last != 0 && last < first {
        return Err(format!(
            "view_range: ends with {last}, before it begins with {first}; the last line is to be \
             {first} or more, or 0 for the end"
        ));
    }
    Ok((first, last))
}

/// What a file is that is no text, by its first bytes.
fn media_of(beginning: &[u8]) -> Option<&'static str> {
    let starts = |magic: &[u8]| beginning.starts_with(magic);
    if starts(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if starts(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        Some("image/gif")
    } else if starts(b"RIFF") && beginning.get(8..12) == Some(b"WEBP") {
        Some("image/webp")
    } else if starts(b"%PDF-") {
        Some("application/pdf")
    } else {
        None
    }
}

fn whole_block(name: &str, media: &str, beginning: Vec<u8>, file: File, stop: &Stop) -> Answer {
    let (kind, longest) = match media {
        "application/pdf" => ("document", LONGEST_PDF),
        _ => ("image", LONGEST_IMAGE),
    };
    let bytes = rest_of(file, beginning, longest, stop).map_err(|error| why_io(name, &error))?;
    let bytes = bytes.ok_or_else(|| too_large(name, media, longest))?;
    let content = json!([{
        "type": kind,
        "source": { "type": "base64", "media_type": media, "data": STANDARD.encode(bytes) },
    }]);
    Ok(Outcome { content, is_error: false })
}

/// All of a file, unless it is longer than `longest`.
fn rest_of(
    file: File,
    mut bytes: Vec<u8>,
    longest: usize,
    stop: &Stop,
) -> io::Result<Option<Vec<u8>>> {
    let mut chunk = vec![0; 64 << 10];
    let mut file = file;
    loop {
        if stop.is_stopped() {
            return Err(io::Error::other(INTERRUPTED));
        }
        let count = read_some(&mut file, &mut chunk)?;
        if count == 0 {
            return Ok(Some(bytes));
        }
        if bytes.len() + count > longest {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk[..count]);
    }
}

/// Reads once; a signal is no error.
fn read_some(source: &mut impl io::Read, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn too_large(name: &str, media: &str, longest: usize) -> String {
    format!("{name}: has more than {} MiB, the most that can be read of {media}", longest >> 20)
}

fn too_long(name: &str, what: &str) -> String {
    format!(
        "{name}: {what} has more than {} KiB; read a part of it with view_range, as in [1, 200]",
        LONGEST_TEXT >> 10
    )
}

/// One line while it is read: only its beginning is held.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    left_out: usize,
    begun: bool,
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        self.begun = true;
        let room = LONGEST_LINE.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..room]);
        self.left_out += bytes.len() - room;
    }

    /// Adds the line to a text with its number, and begins a new one.
    fn end(&mut self, number: u64, text: &mut String) -> Result<(), ()> {
        let mut line = std::mem::take(self);
        if line.left_out > 0 {
            // The cut must not be inside of a character.
            let whole = match std::str::from_utf8(&line.bytes) {
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                _ => line.bytes.len(),
            };
            line.left_out += line.bytes.len() - whole;
            line.bytes.truncate(whole);
        }
        let line_text = std::str::from_utf8(&line.bytes).map_err(drop)?;
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{number}\t{line_text}"));
        if line.left_out > 0 {
            text.push_str(&format!(" [{} more bytes in this line]", line.left_out));
        }
        Ok(())
    }
}

/// The lines of a range, each with its number.
fn lines(
    name: &str,
    mut source: impl io::Read,
    (first, last): (u64, u64),
    stop: &Stop,
) -> Result<String, String> {
    let mut chunk = vec![0; 64 << 10];
    let mut text = String::new();
    let mut line = Line::default();
    let mut number: u64 = 1;
    // Bytes of the lines that are in the text already.
    let mut shown: usize = 0;
    let not_text = |()| format!("{name}: is no UTF-8 text; text, images and PDF files can be read");
    'file: loop {
        if stop.is_stopped() {
            return Err(INTERRUPTED.to_owned());
        }
        let count = read_some(&mut source, &mut chunk).map_err(|error| why_io(name, &error))?;
        if count == 0 {
            break;
        }
        for part in chunk[..count].split_inclusive(|byte| *byte == b'\n') {
            let wanted = number >= first;
            let ended = part.ends_with(b"\n");
            if wanted {
                line.push(part.strip_suffix(b"\n").unwrap_or(part));
                if shown + line.bytes.len() > LONGEST_TEXT {
                    let what = if first == 1 && last == 0 { "The file" } else { "This range" };
                    return Err(too_long(name, what));
                }
            }
            if ended {
                if wanted {
                    shown += line.bytes.len() + 1;
                    line.end(number, &mut text).map_err(not_text)?;
                }
                if number == last {
                    line = Line::default();
                    break 'file;
                }
                number += 1;
            }
        }
    }
    if line.begun {
        line.end(number, &mut text).map_err(not_text)?;
        number += 1;
    }
    if text.is_empty() {
        return Err(format!(
            "view_range: begins with {first}; {name} has {} lines",
            number.saturating_sub(1)
        ));
    }
    Ok(text)
}
