//! Files: the resource, its name, its type and its life. Nothing here reads a clock or a disk.

use serde::Serialize;

use crate::{ApiError, Micros, Timestamp, fields::wrong, schema::files::EXPIRES_IN};

/// How many characters a name may have.
const LONGEST_NAME: usize = 255;

/// How many bytes a type may have.
const LONGEST_TYPE: usize = 255;

/// What nobody knows more about.
pub const UNKNOWN_TYPE: &str = "application/octet-stream";

/// A file, as the wire shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "file")]
pub struct File {
    /// `file_…`.
    pub id: String,
    /// One path component.
    pub filename: String,
    /// What is in it.
    pub mime_type: String,
    /// Its length in bytes.
    pub size_bytes: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its content goes.
    pub expires_at: Option<Timestamp>,
    /// Whether its content can be fetched.
    pub downloadable: bool,
    /// Where it belongs to; nothing for what was uploaded.
    pub scope: Option<Scope>,
}

/// Where a file belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Scope {
    /// A session: the file is its copy of another one, or was made by it.
    Session {
        /// The session.
        id: String,
    },
}

/// The name that a file gets. `given` is what the client calls it, perhaps with a path.
///
/// # Errors
/// 400 when its last component is too long or has characters that names can't have.
pub fn filename(given: Option<&str>, mime_type: &str) -> Result<String, ApiError> {
    let given = given.unwrap_or_default();
    let name = given.rsplit(['/', '\\']).next().unwrap_or_default();
    if name.is_empty() {
        let ending = ENDINGS.iter().find(|(_, known)| *known == essence(mime_type));
        return Ok(match ending {
            Some((ending, _)) => format!("unnamed.{ending}"),
            None => "unnamed".to_owned(),
        });
    }
    let right = "send 1 to 255 characters without < > : \" | ? * \\ / and control characters";
    let count = name.chars().count();
    if count > LONGEST_NAME {
        return Err(wrong("file.filename", &format!("has {count} characters"), right));
    }
    if let Some(letter) = name.chars().find(|letter| is_forbidden(*letter)) {
        return Err(wrong("file.filename", &format!("contains {letter:?}"), right));
    }
    if name == "." || name == ".." {
        return Err(wrong("file.filename", &format!("is {name:?}"), right));
    }
    Ok(name.to_owned())
}

/// The name that a file gets which a session has brought forth: the last component of its path,
/// with `_` for what names can't have, cut where it is too long. Never refuses.
#[must_use]
pub fn output_filename(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let tame = |letter: char| match letter {
        '/' | '\\' => '_',
        letter if is_forbidden(letter) => '_',
        letter => letter,
    };
    match name {
        "" | "." | ".." => "unnamed".to_owned(),
        name => name.chars().take(LONGEST_NAME).map(tame).collect(),
    }
}

fn is_forbidden(letter: char) -> bool {
    matches!(letter, '<' | '>' | ':' | '"' | '|' | '?' | '*') || u32::from(letter) < 0x20
}

/// The type that a file gets: what the client says, or else what its beginning and its name tell.
///
/// # Errors
/// 400 when the client says something that is no type.
pub fn mime_type(given: Option<&str>, head: &[u8], name: &str) -> Result<String, ApiError> {
    let Some(given) = given.map(str::trim).filter(|given| !given.is_empty()) else {
        return Ok(sniff(head, name).to_owned());
    };
    let is_token = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+'*%`|~".contains(&byte);
        !text.is_empty() && text.bytes().all(fits)
    };
    let good = given.len() <= LONGEST_TYPE
        && given.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        && essence(given).split_once('/').is_some_and(|(one, two)| is_token(one) && is_token(two));
    match good {
        true => Ok(given.to_owned()),
        false => {
            let right = "send one such as text/plain, or leave it out";
            Err(wrong("file", &format!("the type {given:?} is none"), right))
        }
    }
}

/// When a file expires that is made at `at` with that `expires_in_seconds`.
///
/// # Errors
/// 400 when it is no whole number of seconds in range.
pub fn expiry(text: &str, at: Micros) -> Result<Micros, ApiError> {
    let life = EXPIRES_IN.bounds();
    let seconds = text.trim().parse::<i64>().ok().filter(|seconds| life.contains(seconds));
    let seconds = seconds.ok_or_else(|| {
        wrong(EXPIRES_IN.name, &format!("is {:?}", text.trim()), &EXPIRES_IN.kind.right())
    })?;
    Ok(at.plus(seconds * 1_000_000))
}

/// What a content is, told by its first bytes and, where those leave it open, by its name.
#[must_use]
pub fn sniff(head: &[u8], name: &str) -> &'static str {
    let by_name = name.rsplit_once('.').and_then(|(_, ending)| {
        let ending = ending.to_ascii_lowercase();
        ENDINGS.iter().find(|(known, _)| *known == ending).map(|(_, mime_type)| *mime_type)
    });
    let magic = MAGIC
        .iter()
        .find(|(offset, bytes, _)| head.get(*offset..).is_some_and(|rest| rest.starts_with(bytes)));
    match magic {
        // Office documents are ZIP files; what is in them their names alone tell.
        Some((_, _, ZIP)) => by_name.filter(|one| is_zip(one)).unwrap_or(ZIP),
        Some((_, _, mime_type)) => mime_type,
        None if is_text(head) => by_name.filter(|one| is_written(one)).unwrap_or("text/plain"),
        // What has no magic bytes is what its name says, unless it ought to have some.
        None => by_name.filter(|one| !is_written(one) && !has_magic(one)).unwrap_or(UNKNOWN_TYPE),
    }
}

const ZIP: &str = "application/zip";

/// Where a kind's magic bytes stand, and which they are.
const MAGIC: &[(usize, &[u8], &str)] = &[
    (0, b"%PDF-", "application/pdf"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBPVP8", "image/webp"),
    (0, b"PK\x03\x04", ZIP),
    (0, b"PK\x05\x06", ZIP),
    (0, b"\x1f\x8b\x08", "application/gzip"),
    (0, b"\xfd7zXZ\x00", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (257, b"ustar", "application/x-tar"),
    (0, b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (0, b"PAR1", "application/vnd.apache.parquet"),
    (0, b"\x7fELF", "application/x-executable"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"OggS", "audio/ogg"),
    (8, b"WAVEfmt ", "audio/wav"),
    (4, b"ftyp", "video/mp4"),
];

/// Endings of names and what they stand for; the first ending of a type is the usual one.
const ENDINGS: &[(&str, &str)] = &[
    ("txt", "text/plain"),
    ("log", "text/plain"),
    ("md", "text/markdown"),
    ("csv", "text/csv"),
    ("tsv", "text/tab-separated-values"),
    ("html", "text/html"),
    ("htm", "text/html"),
    ("css", "text/css"),
    ("js", "text/javascript"),
    ("py", "text/x-python"),
    ("rs", "text/x-rust"),
    ("json", "application/json"),
    ("jsonl", "application/jsonl"),
    ("xml", "application/xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("toml", "application/toml"),
    ("svg", "image/svg+xml"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("zip", ZIP),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("epub", "application/epub+zip"),
    ("gz", "application/gzip"),
    ("xz", "application/x-xz"),
    ("zst", "application/zstd"),
    ("tar", "application/x-tar"),
    ("parquet", "application/vnd.apache.parquet"),
    ("sqlite", "application/vnd.sqlite3"),
    ("mp3", "audio/mpeg"),
    ("ogg", "audio/ogg"),
    ("wav", "audio/wav"),
    ("mp4", "video/mp4"),
    ("wasm", "application/wasm"),
];

fn is_zip(mime_type: &str) -> bool {
    mime_type.contains("openxmlformats") || mime_type.ends_with("+zip")
}

fn is_written(mime_type: &str) -> bool {
    mime_type.starts_with("text/")
        || ["json", "jsonl", "xml", "yaml", "toml"].iter().any(|one| mime_type.ends_with(one))
}

fn has_magic(mime_type: &str) -> bool {
    is_zip(mime_type) || MAGIC.iter().any(|(_, _, known)| *known == mime_type)
}

/// Whether the beginning of a content is text: UTF-8, perhaps cut within a letter, without the
/// control characters that no text has.
fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !valid.bytes().any(|byte| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b))
}

/// A type without its parameters.
fn essence(mime_type: &str) -> &str {
    mime_type.split(';').next().unwrap_or_default().trim()
}

/// The value of `Content-Disposition` for a download: always ASCII, and nothing in it can end it
/// early (RFC 6266, RFC 8187).
#[must_use]
pub fn content_disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|letter| match letter {
            '"' | '\\' | '%' => '_',
            ' '..='~' => letter,
            _ => '_',
        })
        .collect();
    if plain == name {
        return format!("attachment; filename=\"{plain}\"");
    }
    let mut encoded = String::with_capacity(name.len() * 3);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

/// The answer to a delete.
#[must_use]
pub fn deleted(id: &str) -> serde_json::Value {
    serde_json::json!({ "id": id, "type": "file_deleted" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_is_shown_in_full() {
        let file = File {
            id: "file_1".into(),
            filename: "a.txt".into(),
            mime_type: "text/plain".into(),
            size_bytes: 3,
            created_at: Micros(1_763_600_000_000_000).into(),
            expires_at: None,
            downloadable: false,
            scope: Some(Scope::Session { id: "sesn_1".into() }),
        };
        assert_eq!(
            serde_json::to_value(&file).unwrap(),
            json!({
                "type": "file", "id": "file_1", "filename": "a.txt", "mime_type": "text/plain",
                "size_bytes": 3, "created_at": "2025-11-20T00:53:20.000000Z", "expires_at": null,
                "downloadable": false, "scope": { "type": "session", "id": "sesn_1" },
            })
        );
    }

    #[test]
    fn a_name_is_the_last_component() {
        for (given, name) in [
            (Some("a.txt"), "a.txt"),
            (Some("../../etc/passwd"), "passwd"),
            (Some("C:\\Users\\me\\Ä b.txt"), "Ä b.txt"),
            (Some(".hidden"), ".hidden"),
            (Some("a/"), "unnamed.csv"),
            (Some(""), "unnamed.csv"),
            (None, "unnamed.csv"),
        ] {
            assert_eq!(filename(given, "text/csv; charset=utf-8").unwrap(), name, "{given:?}");
        }
        assert_eq!(filename(None, "application/x-unheard").unwrap(), "unnamed");
        assert!(filename(Some(&"ü".repeat(255)), "").is_ok());
        let long = "x".repeat(256);
        for bad in ["a:b", "a\"b", "a\u{0}b", "a\nb", "<a", "what?", "x/..", ".", &long] {
            let message = filename(Some(bad), "").unwrap_err().message;
            assert!(message.starts_with("file.filename: "), "{message}");
        }
    }

    #[test]
    fn outputs_always_get_a_name_that_could_have_been_sent() {
        for (path, name) in [
            ("nested/child.txt", "child.txt"),
            ("a:b\"c\\d\n.txt", "a_b_c_d_.txt"),
            ("x/..", "unnamed"),
            ("", "unnamed"),
        ] {
            assert_eq!(output_filename(path), name);
            assert_eq!(filename(Some(name), "").unwrap(), name);
        }
        assert_eq!(output_filename(&"\u{fc}".repeat(300)), "\u{fc}".repeat(255));
    }

    #[test]
    fn a_type_is_what_is_said_or_what_is_seen() {
        let given = |given: &str| mime_type(Some(given), b"%PDF-1.7", "a.pdf");
        assert_eq!(given("text/csv").unwrap(), "text/csv");
        assert_eq!(given(" text/csv; charset=utf-8 ").unwrap(), "text/csv; charset=utf-8");
        assert_eq!(given("").unwrap(), "application/pdf");
        for bad in ["text", "text/", "a b/c", "text/plain\r\nx: y", "ü/x", "/", &"x/y".repeat(90)]
        {
            assert!(given(bad).unwrap_err().message.starts_with("file: the type "), "{bad}");
        }
        assert_eq!(mime_type(None, b"", "x").unwrap(), "text/plain");
    }

    #[test]
    fn contents_are_known_by_their_first_bytes_and_then_by_their_names() {
        for (head, name, mime_type) in [
            (&b"%PDF-1.7"[..], "x.txt", "application/pdf"),
            (b"\x89PNG\r\n\x1a\n....", "", "image/png"),
            (b"RIFF....WEBPVP8 ", "x", "image/webp"),
            (b"PK\x03\x04....", "x", "application/zip"),
            (b"PK\x03\x04....", "x.EPUB", "application/epub+zip"),
            (b"PK\x03\x04....", "x.txt", "application/zip"),
            (b"a,b\n1,2\n", "x.csv", "text/csv"),
            (b"a,b\n1,2\n", "x.CSV", "text/csv"),
            (b"{}", "x.json", "application/json"),
            (b"<svg/>", "x.svg", "image/svg+xml"),
            (b"hello", "x.pdf", "text/plain"),
            (b"hello", "x", "text/plain"),
            ("gr\u{fc}\u{df}e".as_bytes(), "x", "text/plain"),
            // Cut in the middle of a letter.
            (b"gr\xc3", "x", "text/plain"),
            (b"gr\xc3\xff", "x", UNKNOWN_TYPE),
            (b"\x00asm", "x.wasm", "application/wasm"),
            (b"\x00\x01", "x.txt", UNKNOWN_TYPE),
            (b"\x00\x01", "x.png", UNKNOWN_TYPE),
            (b"\x00\x01", "x", UNKNOWN_TYPE),
        ] {
            assert_eq!(sniff(head, name), mime_type, "{head:?} {name}");
        }
    }

    #[test]
    fn a_life_is_an_hour_to_ninety_days() {
        let at = Micros(5);
        assert_eq!(expiry("3600", at).unwrap(), Micros(3_600_000_005));
        assert_eq!(expiry(" 7776000\n", at).unwrap(), Micros(7_776_000_000_005));
        for bad in ["3599", "7776001", "-1", "1e4", "3600.0", "", "x", "99999999999999999999"] {
            let message = expiry(bad, at).unwrap_err().message;
            assert!(message.starts_with("expires_in_seconds: is "), "{message}");
            assert!(message.contains("3600 to 7776000"));
        }
    }

    #[test]
    fn a_disposition_can_not_be_broken_out_of() {
        assert_eq!(content_disposition("a b.txt"), "attachment; filename=\"a b.txt\"");
        assert_eq!(
            content_disposition("ä\"\r\n\\%;.txt"),
            "attachment; filename=\"______;.txt\"; \
             filename*=UTF-8''%C3%A4%22%0D%0A%5C%25%3B.txt"
        );
    }
}
