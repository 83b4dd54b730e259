//! Tables of files, as clients send them.

use super::{Field, Kind, Table};

/// The content of a file.
pub const FILE: Field = Field::new(
    "file",
    Kind::Bytes,
    "The content. Its part's filename and content type name the file and say what is in it.",
)
.required()
.rule(
    "A filename of 1 to 255 characters without < > : \" | ? * and control characters, of which \
     only what follows the last slash counts. The configuration bounds the size.",
);
/// How long it lives.
pub const EXPIRES_IN: Field = Field::new(
    "expires_in_seconds",
    Kind::Integer { least: 3_600, most: 7_776_000 },
    "How long its content lives, from an hour to ninety days; for good when it is left out.",
)
.example("86400");

/// A new file, as a form.
pub static UPLOAD: Table = Table {
    name: "FileUploadParams",
    about: "A new file, as multipart/form-data.",
    fields: &[FILE, EXPIRES_IN],
};
