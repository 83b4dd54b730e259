//! Tables of content blocks, as clients send them. What was sent is also what is shown.

use super::{Field, Kind, Member, Table, Union};

/// The most blocks that a place takes.
pub const MOST_BLOCKS: usize = 1000;

/// The longest text that a body has room for is no limit of its own.
const ANY_LENGTH: usize = usize::MAX;

const MESSAGE_KIND: &Kind = &Kind::Union(&MESSAGE_BLOCK);
const RESULT_KIND: &Kind = &Kind::Union(&RESULT_BLOCK);
const SYSTEM_KIND: &Kind = &Kind::Union(&SYSTEM_BLOCK);

/// The content of a message.
pub const MESSAGE: Field = Field::new(
    "content",
    Kind::List { of: MESSAGE_KIND, least: 1, most: MOST_BLOCKS },
    "The content blocks.",
)
.required()
.right("send a list of content blocks")
.example(r#"[{"type": "text", "text": "Hello"}]"#);

/// The content of a tool's result.
pub const RESULT: Field = Field {
    kind: Kind::List { of: RESULT_KIND, least: 0, most: MOST_BLOCKS },
    ..Field::new("content", Kind::Any, "What came of the call.")
        .means("[]")
        .right("send a list of content blocks")
        .example(r#"[{"type": "text", "text": "42"}]"#)
};

/// The content of a message of the system.
pub const SYSTEM: Field =
    Field { kind: Kind::List { of: SYSTEM_KIND, least: 1, most: MOST_BLOCKS }, ..MESSAGE };

/// The content of a search result, which may be missing.
pub const FOUND: Field =
    Field { about: "What was found.", ..SYSTEM.keeps().null(super::Null::AsAbsent) };

/// What a message consists of.
pub static MESSAGE_BLOCK: Union = Union {
    name: "MessageBlock",
    tag: "type",
    members: &[
        Member::taken("text", &TEXT),
        Member::taken("image", &IMAGE),
        Member::taken("document", &DOCUMENT),
        Member::refused(
            "redacted",
            "is a block that only the server makes",
            "send the content itself or leave the block out",
        ),
    ],
};

/// What a tool's result consists of.
pub static RESULT_BLOCK: Union = Union {
    name: "ResultBlock",
    tag: "type",
    members: &[
        Member::taken("text", &TEXT),
        Member::taken("image", &IMAGE),
        Member::taken("document", &DOCUMENT),
        Member::taken("search_result", &SEARCH_RESULT),
    ],
};

/// What a message of the system consists of.
pub static SYSTEM_BLOCK: Union =
    Union { name: "SystemBlock", tag: "type", members: &[Member::taken("text", &TEXT)] };

/// The text of a block.
pub const TEXT_FIELD: Field =
    Field::text("text", 1, ANY_LENGTH, "The text.").required().example(r#""Hello""#);

/// A text.
pub static TEXT: Table =
    Table { name: "TextBlock", about: "A text.", fields: &[Field::tag(&["text"]), TEXT_FIELD] };

/// Where an image comes from.
pub const IMAGE_SOURCE_FIELD: Field =
    Field::new("source", Kind::Union(&IMAGE_SOURCE), "The image itself, or where it is.")
        .required()
        .right("send an object with a type")
        .example(r#"{"type": "base64", "media_type": "image/png", "data": "aGk="}"#);

/// An image.
pub static IMAGE: Table = Table {
    name: "ImageBlock",
    about: "An image.",
    fields: &[Field::tag(&["image"]), IMAGE_SOURCE_FIELD],
};

/// Where a document comes from.
pub const DOCUMENT_SOURCE_FIELD: Field = Field {
    kind: Kind::Union(&DOCUMENT_SOURCE),
    about: "The document itself, or where it is.",
    example: r#"{"type": "text", "media_type": "text/plain", "data": "Once upon a time"}"#,
    ..IMAGE_SOURCE_FIELD
};
/// The title of a document.
pub const TITLE: Field =
    Field::text("title", 0, 500, "Its title.").optional().example(r#""A tale""#);
/// What there is to know of a document.
pub const CONTEXT: Field = Field::text("context", 0, 100_000, "What there is to know of it.")
    .optional()
    .example(r#""From the archive""#);

/// A document.
pub static DOCUMENT: Table = Table {
    name: "DocumentBlock",
    about: "A document.",
    fields: &[Field::tag(&["document"]), DOCUMENT_SOURCE_FIELD, TITLE, CONTEXT],
};

/// Where a search result was found.
pub const SOURCE: Field = Field::text("source", 1, 2048, "Where it was found.")
    .required()
    .example(r#""https://example.com""#);
/// The title of a search result.
pub const RESULT_TITLE: Field =
    Field::text("title", 0, 500, "Its title.").required().example(r#""Example""#);
/// Whether a search result may be cited.
pub const CITATIONS_FIELD: Field =
    Field::new("citations", Kind::Object(&CITATIONS), "Whether it may be cited.")
        .optional()
        .example(r#"{"enabled": true}"#);
/// Whether it may be cited.
pub const CITED: Field =
    Field::new("enabled", Kind::Flag, "Whether it may be cited.").optional().example("true");

/// Whether a search result may be cited.
pub static CITATIONS: Table =
    Table { name: "Citations", about: "Whether it may be cited.", fields: &[CITED] };

/// A search result.
pub static SEARCH_RESULT: Table = Table {
    name: "SearchResultBlock",
    about: "Something that a search has found.",
    fields: &[Field::tag(&["search_result"]), SOURCE, RESULT_TITLE, FOUND, CITATIONS_FIELD],
};

const FILE: Member = Member::later("file", "send the data as base64");

/// Where an image comes from.
pub static IMAGE_SOURCE: Union = Union {
    name: "ImageSource",
    tag: "type",
    members: &[Member::taken("base64", &BASE64), Member::taken("url", &URL), FILE],
};

/// Where a document comes from.
pub static DOCUMENT_SOURCE: Union = Union {
    name: "DocumentSource",
    tag: "type",
    members: &[
        Member::taken("base64", &BASE64),
        Member::taken("text", &PLAIN),
        Member::taken("url", &URL),
        FILE,
    ],
};

/// What the data is.
pub const MEDIA_TYPE: Field =
    Field::text("media_type", 1, 255, "What the data is.").required().example(r#""image/png""#);
/// The data.
pub const DATA: Field =
    Field::text("data", 1, ANY_LENGTH, "The data.").required().example(r#""aGk=""#);
/// What a text is.
pub const PLAIN_TYPE: Field =
    Field::choice("media_type", &["text/plain"], "What the data is.").optional();
/// Where it is.
pub const URL_FIELD: Field = Field::text("url", 1, 8192, "Where it is.")
    .required()
    .rule("It begins with https:// or http://.")
    .example(r#""https://example.com/a.png""#);

/// Data in base64.
pub static BASE64: Table = Table {
    name: "Base64Source",
    about: "Data in base64.",
    fields: &[Field::tag(&["base64"]), MEDIA_TYPE, DATA],
};
/// A plain text.
pub static PLAIN: Table = Table {
    name: "PlainTextSource",
    about: "A plain text.",
    fields: &[Field::tag(&["text"]), PLAIN_TYPE, DATA],
};
/// An address.
pub static URL: Table = Table {
    name: "UrlSource",
    about: "An address, from which the model's provider fetches it.",
    fields: &[Field::tag(&["url"]), URL_FIELD],
};
