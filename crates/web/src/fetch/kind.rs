//! What an answer holds, by what it says and by how it begins, and its text.
//!
//! Pure. What is neither text nor a PDF is refused by whoever asks.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// How much of an answer tells what it is, in bytes (as browsers: MIME Sniffing, 5.2; HTML, 13.2.3.2).
const BEGINNING: usize = 1445;

/// What is read in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Html,
    Text,
    Pdf,
}

/// Text under names that do not begin with `text/`.
const TEXTS: [&str; 22] = [
    "application/json",
    "application/json5",
    "application/jsonl",
    "application/x-jsonl",
    "application/ndjson",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/toml",
    "application/javascript",
    "application/x-javascript",
    "application/ecmascript",
    "application/typescript",
    "application/graphql",
    "application/sql",
    "application/x-sh",
    "application/x-tex",
    "application/x-latex",
    "application/rtf",
    "application/x-subrip",
    "application/markdown",
];

/// What an answer is. `declared` is its `Content-Type`; nothing for what can't be read.
pub(super) fn kind(declared: Option<&str>, body: &[u8]) -> Option<Kind> {
    let essence = declared.and_then(essence);
    match essence.as_deref() {
        None | Some("application/octet-stream" | "binary/octet-stream" | "application/unknown") => {
            sniff(body)
        }
        Some("application/pdf" | "application/x-pdf") => Some(Kind::Pdf),
        // Some send a PDF as anything.
        Some(_) if is_pdf(body) => Some(Kind::Pdf),
        Some("text/html" | "application/xhtml+xml") => Some(Kind::Html),
        Some(text)
            if text.starts_with("text/")
                || TEXTS.contains(&text)
                || (text.starts_with("application/")
                    && ["+json", "+xml", "+yaml"].iter().any(|end| text.ends_with(end))) =>
        {
            Some(Kind::Text)
        }
        Some(_) => None,
    }
}

/// Whether `Content-Type` says that it is a PDF.
pub(super) fn is_called_pdf(declared: Option<&str>) -> bool {
    declared.and_then(essence).is_some_and(|one| one == "application/pdf")
}

fn essence(declared: &str) -> Option<String> {
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.contains('/').then_some(essence)
}

fn is_pdf(body: &[u8]) -> bool {
    body.starts_with(b"%PDF-")
}

fn sniff(body: &[u8]) -> Option<Kind> {
    if is_pdf(body) {
        return Some(Kind::Pdf);
    }
    let beginning = body.get(..BEGINNING).unwrap_or(body);
    if Encoding::for_bom(beginning).is_none() {
        let odd = |byte: &u8| matches!(byte, 0..=8 | 11 | 14..=26 | 28..=31);
        if beginning.iter().any(odd) {
            return None;
        }
    }
    let text = String::from_utf8_lossy(beginning).trim_start().to_ascii_lowercase();
    let html = ["<!doctype html", "<html", "<head", "<body", "<title", "<meta"];
    Some(if html.iter().any(|one| text.starts_with(one)) { Kind::Html } else { Kind::Text })
}

/// The text of an answer: by its byte order mark, by `charset` of its `Content-Type`, by what HTML says
/// of itself, or by how it looks.
pub(super) fn text(declared: Option<&str>, kind: Kind, body: &[u8]) -> String {
    let named = declared.and_then(charset).and_then(|name| Encoding::for_label(name.as_bytes()));
    let said = || if kind == Kind::Html { said_in(body) } else { None };
    let looks = || if looks_like_utf_8(body) { UTF_8 } else { WINDOWS_1252 };
    let encoding = named.or_else(said).unwrap_or_else(looks);
    // It looks for the mark by itself.
    encoding.decode(body).0.into_owned()
}

/// A text that was cut within a letter is still UTF-8.
fn looks_like_utf_8(body: &[u8]) -> bool {
    std::str::from_utf8(body).map_or_else(|error| error.error_len().is_none(), |_| true)
}

fn charset(declared: &str) -> Option<&str> {
    declared.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    })
}

/// `<meta charset=…>`, or the same in `<meta content=…>` or an XML declaration, at the beginning.
fn said_in(body: &[u8]) -> Option<&'static Encoding> {
    let beginning =
        String::from_utf8_lossy(body.get(..BEGINNING).unwrap_or(body)).to_ascii_lowercase();
    let value = |(_, value): (&str, &str)| {
        let value = value.trim_start().strip_prefix('=')?.trim_start();
        let value = value.trim_start_matches(['"', '\'']);
        let end = |letter: char| {
            !(letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | ':' | '.'))
        };
        Encoding::for_label(value.split(end).next()?.as_bytes())
    };
    let of_meta = beginning.split("<meta").skip(1).find_map(|meta| {
        meta.split('>').next().unwrap_or_default().split_once("charset").and_then(value)
    });
    let of_xml = || {
        let declaration = beginning.trim_start().strip_prefix("<?xml")?.split('>').next()?;
        declaration.split_once("encoding").and_then(value)
    };
    let encoding = of_meta.or_else(of_xml)?;
    // What could be read so far is not of two bytes a letter (HTML, 13.2.3.2).
    let is_wide = encoding == encoding_rs::UTF_16LE || encoding == encoding_rs::UTF_16BE;
    Some(if is_wide { UTF_8 } else { encoding })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_by_name_and_by_how_they_begin() {
        for (declared, body, expected) in [
            (Some("text/html; charset=utf-8"), "x", Some(Kind::Html)),
            (Some("TEXT/HTML"), "x", Some(Kind::Html)),
            (Some("application/xhtml+xml"), "x", Some(Kind::Html)),
            (Some("text/plain"), "<html>", Some(Kind::Text)),
            (Some("text/markdown"), "# x", Some(Kind::Text)),
            (Some("application/ld+json"), "{}", Some(Kind::Text)),
            (Some("application/rss+xml"), "<rss>", Some(Kind::Text)),
            (Some("application/pdf"), "?", Some(Kind::Pdf)),
            (Some("text/html"), "%PDF-1.7", Some(Kind::Pdf)),
            (Some("application/octet-stream"), "%PDF-1.7", Some(Kind::Pdf)),
            (Some("application/octet-stream"), "plain", Some(Kind::Text)),
            (Some("application/octet-stream"), "\u{0}\u{1}", None),
            (Some("image/png"), "x", None),
            (Some("image/svg+xml"), "<svg>", None),
            (Some("video/mp4"), "x", None),
            (Some("application/zip"), "PK\u{3}\u{4}", None),
            (Some("application/vnd.ms-excel"), "x", None),
            (Some("nonsense"), "{}", Some(Kind::Text)),
            (None, "  <!DOCTYPE HTML><p>", Some(Kind::Html)),
            (None, "<HTML>", Some(Kind::Html)),
            (None, "plain", Some(Kind::Text)),
            (None, "", Some(Kind::Text)),
            (None, "GIF89a\u{1}\u{0}", None),
        ] {
            assert_eq!(kind(declared, body.as_bytes()), expected, "{declared:?} {body:?}");
        }
    }

    #[test]
    fn letters_are_read_in_the_encoding_that_counts() {
        let html = Kind::Html;
        for (declared, kind, body, expected) in [
            (None, Kind::Text, &b"\xc3\xbc"[..], "ü"),
            (None, Kind::Text, b"\xfc", "ü"),
            (Some("text/plain; charset=ISO-8859-1"), Kind::Text, b"\xfc", "ü"),
            (Some("text/plain; Charset=\"koi8-r\""), Kind::Text, b"\xc1", "а"),
            (Some("text/plain; charset=iso-8859-1"), Kind::Text, b"\xef\xbb\xbf\xc3\xbc", "ü"),
            (Some("text/plain; charset=nonsense"), Kind::Text, b"\xc3\xbc", "ü"),
            (None, Kind::Text, b"\xff\xfea\0", "a"),
            (None, html, b"<meta charset='koi8-r'>\xc1", "<meta charset='koi8-r'>а"),
            (
                None,
                html,
                b"<META http-equiv=a content=\"text/html; charset=koi8-r\">\xc1",
                "<META http-equiv=a content=\"text/html; charset=koi8-r\">а",
            ),
            (
                None,
                html,
                b"<?xml version='1' encoding='koi8-r'?>\xc1",
                "<?xml version='1' encoding='koi8-r'?>а",
            ),
            (None, html, b"<meta charset=utf-16>\xc3\xbc", "<meta charset=utf-16>ü"),
            (None, Kind::Text, b"\xc3\xbc\xc3", "ü\u{fffd}"),
        ] {
            assert_eq!(text(declared, kind, body), expected, "{declared:?} {body:?}");
        }
    }
}
