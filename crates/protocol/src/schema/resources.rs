//! Tables of what is mounted into sessions, as clients send it.

use super::{Field, Kind, Member, Table, Union};
use crate::{id::IdKind, resource::MOST};

const A_RESOURCE: &Kind = &Kind::Union(&RESOURCE);

/// What is mounted into a new session.
pub const RESOURCES: Field = Field::new(
    "resources",
    Kind::List { of: A_RESOURCE, least: 0, most: MOST },
    "What is mounted into the session.",
)
.means("[]")
.example("[]");

/// What can be mounted.
pub static RESOURCE: Union = Union {
    name: "SessionResourceParams",
    tag: "type",
    members: &[
        Member::taken("file", &FILE),
        Member::later("github_repository", "send file"),
        Member::later("memory_store", "send file"),
    ],
};

/// The file that is mounted.
pub const FILE_ID: Field = Field::new(
    "file_id",
    Kind::Id(IdKind::File),
    "A file that was uploaded; the session gets a copy with an id of its own.",
)
.required()
.rule("A file that there is.")
.example(r#""file_000000000000000000000001""#);
/// Where it appears.
pub const MOUNT_PATH: Field = Field::text(
    "mount_path",
    1,
    4096,
    "Where it appears, below /mnt/session/uploads. Left out: the id that was uploaded.",
)
.rule(
    "Components of at most 255 bytes, no control characters, no slash at its end, not out of \
     /mnt/session/uploads, and not at, above or below another resource.",
)
.example(r#""data/input.csv""#);

/// A file.
pub static FILE: Table = Table {
    name: "FileResourceParams",
    about: "A file, mounted for reading.",
    fields: &[Field::tag(&["file"]), FILE_ID, MOUNT_PATH],
};

/// The token of a repository.
pub const TOKEN: Field =
    Field::text("authorization_token", 1, 4096, "Another token of a repository.")
        .required()
        .rule("Only a github_repository has one, and this version mounts none.")
        .example(r#""token""#);

/// A change of a resource.
pub static UPDATE: Table = Table {
    name: "ResourceUpdateParams",
    about: "Another token of a repository.",
    fields: &[TOKEN],
};
