//! Content blocks of users and tools, read for wires that have other words for them.
//!
//! The blocks are in the shape of the Managed Agents API. What can't be read is text.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Says to a model that sees no images where one was.
pub const NO_IMAGE: &str = "[There was an image here. This model can't see images.]";

/// Says to a model that reads no documents where one was.
pub const NO_DOCUMENT: &str = "[There was a document here. This model can't read documents.]";

/// One piece of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text, also what a text document or a search result says; never empty.
    Text(Cow<'a, str>),
    /// An image.
    Image(Source<'a>),
    /// A document that is no text.
    Document {
        /// Where it is.
        source: Source<'a>,
        /// Its title.
        title: Option<Cow<'a, str>>,
    },
}

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source<'a> {
    /// Here, in base64.
    Base64 {
        /// `image/png`, `application/pdf`, …
        media_type: Cow<'a, str>,
        /// The bytes in base64.
        data: Cow<'a, str>,
    },
    /// At an address.
    Url(Cow<'a, str>),
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    /// An object for images and documents, a text for search results.
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    title: Option<Cow<'a, str>>,
    #[serde(borrow)]
    context: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireSource<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    media_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<Cow<'a, str>>,
    #[serde(borrow)]
    url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// How deep blocks are read inside of blocks. The API has one level: what a document or a search
/// result holds.
const DEEPEST: usize = 4;

/// The pieces of a content: a JSON array of blocks, or a plain string.
#[must_use]
pub fn pieces(content: &RawValue) -> Vec<Piece<'_>> {
    pieces_within(content, DEEPEST)
}

fn pieces_within(content: &RawValue, deepest: usize) -> Vec<Piece<'_>> {
    let raw = content.get();
    if let Ok(text) = serde_json::from_str::<Cow<'_, str>>(raw) {
        return text_piece(text).into_iter().collect();
    }
    let Ok(blocks) = serde_json::from_str::<Vec<&RawValue>>(raw) else {
        return text_piece(Cow::Borrowed(raw)).into_iter().collect();
    };
    blocks.into_iter().flat_map(|block| piece(block, deepest)).collect()
}

/// All that is text in a content, with a blank line between its blocks.
#[must_use]
pub fn text(pieces: &[Piece<'_>]) -> String {
    let texts = pieces.iter().filter_map(|piece| match piece {
        Piece::Text(text) => Some(&**text),
        Piece::Image(_) | Piece::Document { .. } => None,
    });
    texts.collect::<Vec<_>>().join("\n\n")
}

fn text_piece(text: Cow<'_, str>) -> Option<Piece<'_>> {
    (!text.is_empty()).then_some(Piece::Text(text))
}

fn piece(raw: &RawValue, deepest: usize) -> Vec<Piece<'_>> {
    let unreadable = || text_piece(Cow::Borrowed(raw.get())).into_iter().collect();
    let Some(deepest) = deepest.checked_sub(1) else { return unreadable() };
    let source = |raw| source(raw, deepest);
    let Ok(block) = serde_json::from_str::<Block<'_>>(raw.get()) else { return unreadable() };
    match &*block.kind {
        "text" => block.text.and_then(text_piece).into_iter().collect(),
        "image" => match block.source.and_then(source) {
            Some(Found::At(source)) => vec![Piece::Image(source)],
            _ => unreadable(),
        },
        "document" => {
            let title = block.title.filter(|title| !title.is_empty());
            let mut pieces: Vec<Piece<'_>> =
                block.context.and_then(text_piece).into_iter().collect();
            match block.source.and_then(source) {
                Some(Found::At(source)) => pieces.push(Piece::Document { source, title }),
                Some(Found::Text(text)) => pieces.extend(titled(title, text)),
                Some(Found::Content(inner)) => {
                    pieces.extend(title.and_then(text_piece));
                    pieces.extend(inner);
                }
                None => return unreadable(),
            }
            pieces
        }
        "search_result" => {
            let place = block
                .source
                .and_then(|source| serde_json::from_str::<Cow<'_, str>>(source.get()).ok());
            let says = block
                .content
                .map(|content| text(&pieces_within(content, deepest)))
                .unwrap_or_default();
            let title = block.title.unwrap_or_default();
            let head = [title, place.unwrap_or_default()];
            let head: Vec<_> =
                head.iter().filter(|line| !line.is_empty()).map(|line| &**line).collect();
            titled(Some(Cow::Owned(head.join("\n"))), Cow::Owned(says)).into_iter().collect()
        }
        _ => unreadable(),
    }
}

fn titled<'a>(title: Option<Cow<'a, str>>, text: Cow<'a, str>) -> Option<Piece<'a>> {
    match title {
        Some(title) if !title.is_empty() && !text.is_empty() => {
            text_piece(Cow::Owned(format!("{title}\n\n{text}")))
        }
        Some(title) if text.is_empty() => text_piece(title),
        _ => text_piece(text),
    }
}

enum Found<'a> {
    At(Source<'a>),
    Text(Cow<'a, str>),
    Content(Vec<Piece<'a>>),
}

fn source(raw: &RawValue, deepest: usize) -> Option<Found<'_>> {
    let source: WireSource<'_> = serde_json::from_str(raw.get()).ok()?;
    Some(match &*source.kind {
        "base64" => {
            Found::At(Source::Base64 { media_type: source.media_type?, data: source.data? })
        }
        "url" => Found::At(Source::Url(source.url?)),
        "text" => Found::Text(source.data?),
        "content" => Found::Content(pieces_within(source.content?, deepest)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Vec<String> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        pieces(&raw).iter().map(|piece| format!("{piece:?}")).collect()
    }

    #[test]
    fn every_kind_of_block_is_read() {
        let json = r#"[
            {"type":"text","text":"a \"b\""},
            {"type":"text","text":""},
            {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}},
            {"type":"image","source":{"type":"url","url":"https://example.com/a.png"}},
            {"type":"document","title":"T","source":{"type":"text","media_type":"text/plain","data":"d"}},
            {"type":"document","title":"P","context":"c","source":{"type":"base64","media_type":"application/pdf","data":"BB=="}},
            {"type":"document","source":{"type":"content","content":[{"type":"text","text":"in"}]}},
            {"type":"search_result","source":"https://example.com","title":"S","content":[{"type":"text","text":"x"},{"type":"text","text":"y"}]}
        ]"#;
        let expected = [
            r#"Text("a \"b\"")"#,
            r#"Image(Base64 { media_type: "image/png", data: "AA==" })"#,
            r#"Image(Url("https://example.com/a.png"))"#,
            r#"Text("T\n\nd")"#,
            r#"Text("c")"#,
            r#"Document { source: Base64 { media_type: "application/pdf", data: "BB==" }, title: Some("P") }"#,
            r#"Text("in")"#,
            r#"Text("S\nhttps://example.com\n\nx\n\ny")"#,
        ];
        assert_eq!(read(json), expected);
    }

    #[test]
    fn what_is_not_known_is_text() {
        assert_eq!(read(r#""plain""#), [r#"Text("plain")"#]);
        let unknown = r#"[{"type":"new","x":1}]"#;
        assert_eq!(read(unknown), [format!("Text({:?})", r#"{"type":"new","x":1}"#)]);
        assert_eq!(read("[]"), Vec::<String>::new());
    }

    #[test]
    fn blocks_inside_of_blocks_without_end_are_text() {
        let open = r#"{"type":"document","source":{"type":"content","content":["#;
        let deep = format!("[{}{}]", open.repeat(20_000), "]}}".repeat(20_000));
        let read = read(&deep);
        assert_eq!(read.len(), 1);
        assert!(read[0].starts_with("Text(\"{\\\"type\\\":"), "{:.60}", read[0]);
    }
}
