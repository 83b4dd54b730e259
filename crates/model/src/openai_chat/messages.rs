//! Users' content and tools' results as messages of Chat Completions.
//!
//! Results are text. An image or a document in a result is shown in the user's message behind
//! the results, under a line that says which call it belongs to. What a server or a model can't
//! take is a sentence that says so.

use std::borrow::Cow;

use super::servers::{Documents, Quirks};
use crate::{
    ModelSpec,
    content::{self, Piece, Source},
    members::{object, string},
    portable::{self, ResultOf},
};

/// A part of a user's message.
pub(super) enum Part<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// A part that is no text, as JSON.
    Raw(String),
}

/// A user's message; `None` when there is nothing in it.
pub(super) fn user(parts: &[Part<'_>]) -> Option<String> {
    if parts.is_empty() {
        return None;
    }
    let texts: Option<Vec<&str>> = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => Some(&**text),
            Part::Raw(_) => None,
        })
        .collect();
    // A plain string is what every server reads.
    let content = if let Some(texts) = texts {
        string(&texts.join("\n\n"))
    } else {
        let parts = parts.iter().map(|part| match part {
            Part::Text(text) => {
                Cow::Owned(object([("type", r#""text""#), ("text", &*string(text))]))
            }
            Part::Raw(part) => Cow::Borrowed(&**part),
        });
        format!("[{}]", parts.collect::<Vec<_>>().join(","))
    };
    Some(object([("role", r#""user""#), ("content", &*content)]))
}

/// The parts of a user's content.
pub(super) fn parts<'a>(
    quirks: &Quirks,
    spec: &ModelSpec,
    pieces: Vec<Piece<'a>>,
) -> Vec<Part<'a>> {
    pieces.into_iter().map(|piece| part(quirks, spec, piece)).collect()
}

fn part<'a>(quirks: &Quirks, spec: &ModelSpec, piece: Piece<'a>) -> Part<'a> {
    match piece {
        Piece::Text(text) => Part::Text(text),
        Piece::Image(source) => match address(&source, quirks.fetches_images) {
            Some(url) if spec.images => Part::Raw(object([
                ("type", r#""image_url""#),
                ("image_url", &*object([("url", &*string(&url))])),
            ])),
            _ => Part::Text(missing("an image", &source, "see").into()),
        },
        Piece::Document { source, title } => {
            let sent = document(quirks.documents, &source, title.as_deref());
            match sent.filter(|_| spec.documents) {
                Some(sent) => Part::Raw(sent),
                None => {
                    let what = match &title {
                        Some(title) => format!("the document {title:?}"),
                        None => "a document".to_owned(),
                    };
                    Part::Text(missing(&what, &source, "read").into())
                }
            }
        }
    }
}

fn document(how: Documents, source: &Source<'_>, title: Option<&str>) -> Option<String> {
    match how {
        Documents::None => None,
        Documents::File { fetches } => {
            let data = string(&address(source, fetches)?);
            let name = string(title.unwrap_or("document.pdf"));
            let file = object([("filename", &*name), ("file_data", &*data)]);
            Some(object([("type", r#""file""#), ("file", &*file)]))
        }
        Documents::Url => {
            let url = string(&address(source, true)?);
            let name = title.map(string);
            let name = name.as_deref().map(|name| ("document_name", name));
            let members = [("type", r#""document_url""#), ("document_url", &*url)];
            Some(object(members.into_iter().chain(name)))
        }
    }
}

/// What stands in the place of an address; `None` for one that the server does not fetch.
fn address<'a>(source: &'a Source<'a>, fetches: bool) -> Option<Cow<'a, str>> {
    match source {
        Source::Base64 { media_type, data } => {
            Some(Cow::Owned(format!("data:{media_type};base64,{data}")))
        }
        Source::Url(url) => fetches.then_some(Cow::Borrowed(&**url)),
    }
}

fn missing(what: &str, source: &Source<'_>, verb: &str) -> String {
    let place = match source {
        Source::Base64 { .. } => String::new(),
        Source::Url(url) => format!(" ({url})"),
    };
    format!("[Here stood {what}{place}, which you can't {verb}.]")
}

/// A result's message, and what of it the user's message behind it has to show.
pub(super) fn result<'a>(
    quirks: &Quirks,
    spec: &ModelSpec,
    ResultOf { call_id, result }: &'a ResultOf<'a>,
) -> (String, Vec<Part<'a>>) {
    let (texts, shown): (Vec<_>, Vec<_>) = parts(quirks, spec, content::pieces(&result.content))
        .into_iter()
        .partition(|part| matches!(part, Part::Text(_)));
    let mut said: Vec<Cow<'_, str>> = Vec::new();
    if result.is_error {
        // The dialect has no mark for it.
        said.push("The tool failed:".into());
    }
    said.extend(texts.into_iter().filter_map(|part| match part {
        Part::Text(text) => Some(text),
        Part::Raw(_) => None,
    }));
    let mut moved = Vec::new();
    if !shown.is_empty() {
        said.push(
            "[What is no text of this result is shown in the next message of the user.]".into(),
        );
        moved.push(Part::Text(
            format!("[Of the result of the call {call_id} ({}):]", result.name).into(),
        ));
        moved.extend(shown);
    }
    if said.is_empty() {
        // Some servers refuse a result without text.
        said.push("[The tool gave nothing.]".into());
    }
    let (id, said) = (string(call_id), string(&said.join("\n\n")));
    let name = string(&portable::tool_name(&result.name, super::replay::LONGEST_NAME));
    let name = quirks.names_results.then_some(("name", &*name));
    let members = [("role", r#""tool""#), ("tool_call_id", &*id)].into_iter();
    (object(members.chain(name).chain([("content", &*said)])), moved)
}
