//! Images and documents as parts, and sentences for those that can't be sent.
//!
//! What the API takes: the pages on images, documents and file input methods of ai.google.dev.

use crate::{
    ModelSpec,
    content::{Piece, Source},
};

/// The types of images that models read.
const IMAGES: &[&str] = &["image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"];

/// The types of documents that models read.
const DOCUMENTS: &[&str] = &["application/pdf", "text/plain"];

/// What may stand inside a function's response, by the page on function calling.
const INSIDE_RESPONSES: &[&str] =
    &["image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"];

/// Why a piece can't be sent, as a sentence that takes its place; `None` if it can.
pub(super) fn missing(spec: &ModelSpec, piece: &Piece<'_>) -> Option<String> {
    let (what, taken, known, source) = match piece {
        Piece::Text(_) => return None,
        Piece::Image(source) => ("An image", spec.images, IMAGES, source),
        Piece::Document { source, .. } => ("A document", spec.documents, DOCUMENTS, source),
    };
    if !taken {
        return Some(format!("[{what} stood here. This model can't read it.]"));
    }
    match source {
        Source::Base64 { media_type, .. } if !known.contains(&usual(media_type).as_str()) => {
            Some(format!("[{what} of the type {media_type} stood here. No model here reads it.]"))
        }
        _ => None,
    }
}

/// Whether a piece that can be sent may stand inside a function's response. Those hold no
/// addresses of the world outside.
pub(super) fn fits_response(piece: &Piece<'_>) -> bool {
    match piece {
        Piece::Image(source) | Piece::Document { source, .. } => match source {
            Source::Base64 { media_type, .. } => {
                INSIDE_RESPONSES.contains(&usual(media_type).as_str())
            }
            Source::Url(_) => false,
        },
        Piece::Text(_) => false,
    }
}

/// Writes a piece as a part.
pub(super) fn write(out: &mut Vec<u8>, piece: &Piece<'_>) {
    match piece {
        Piece::Text(text) => text_part(out, text),
        Piece::Image(source) | Piece::Document { source, .. } => media(out, source),
    }
}

/// Writes a text part.
pub(super) fn text_part(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(br#"{"text":"#);
    string(out, text);
    out.push(b'}');
}

fn media(out: &mut Vec<u8>, source: &Source<'_>) {
    match source {
        Source::Base64 { media_type, data } => {
            out.extend_from_slice(br#"{"inlineData":{"mimeType":"#);
            string(out, &usual(media_type));
            out.extend_from_slice(br#","data":"#);
            string(out, data);
        }
        Source::Url(url) => {
            out.extend_from_slice(br#"{"fileData":{"#);
            if let Some(media_type) = guessed(url) {
                out.extend_from_slice(br#""mimeType":"#);
                string(out, media_type);
                out.push(b',');
            }
            out.extend_from_slice(br#""fileUri":"#);
            string(out, url);
        }
    }
    out.extend_from_slice(b"}}");
}

/// A type in its usual spelling.
fn usual(media_type: &str) -> String {
    let media_type = media_type.to_ascii_lowercase();
    if media_type == "image/jpg" { "image/jpeg".to_owned() } else { media_type }
}

/// The type that an address's ending tells. Nobody knows it otherwise; the official SDK guesses
/// by the ending, too.
fn guessed(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next()?;
    let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        _ => return None,
    })
}

/// Writes a JSON string.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    // A string has no map keys and memory takes every write, so this can't fail.
    let written = serde_json::to_writer(&mut *out, text);
    debug_assert!(written.is_ok());
}
