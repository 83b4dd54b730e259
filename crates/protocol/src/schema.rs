//! What bodies, queries and answers consist of: one table for each, with all limits and what
//! absent and null mean.
//!
//! The readers ([`crate::Fields`], [`crate::query::Query`]) take their limits and words from here,
//! `openapi.json` is made of it, and tests walk it. Nothing here reads anything.

pub mod agents;
pub mod answers;
pub mod cases;
pub mod content;
pub mod credentials;
pub mod environments;
pub mod events;
pub mod files;
pub mod json;
pub mod lists;
pub mod log;
pub mod own;
pub mod resources;
pub mod servers;
pub mod sessions;
pub mod tools;
pub mod vaults;
pub mod web;

use crate::id::IdKind;

/// One member of an object, or one key of a query.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name on the wire.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// What it means that it was not sent.
    pub absent: Absent,
    /// What null means.
    pub null: Null,
    /// What an error says would be right, where the kind does not tell enough.
    pub right: Option<&'static str>,
    /// A rule that the kind does not tell: what keeps the kind may still be refused.
    pub rule: Option<&'static str>,
    /// A value that is taken, as JSON; empty where the kind has one of its own.
    pub example: &'static str,
    /// What it is, for the reader of a document.
    pub about: &'static str,
}

/// What a field may hold. Lengths of texts are in characters, those of lists in entries.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A text.
    #[expect(missing_docs, reason = "the bounds of its length, both included")]
    Text { least: usize, most: usize },
    /// A whole number.
    #[expect(missing_docs, reason = "its bounds, both included")]
    Integer { least: i64, most: i64 },
    /// Any number; in answers alone.
    Number,
    /// `true` or `false`.
    Flag,
    /// One of some texts.
    Choice {
        /// Those that are taken.
        taken: &'static [&'static str],
        /// Those that the API knows and this version refuses.
        later: &'static [&'static str],
    },
    /// The id of such a thing.
    Id(IdKind),
    /// RFC 3339 with microseconds and `Z`; in answers.
    Time,
    /// RFC 3339 with any offset; in bodies.
    SentTime,
    /// In a query, the bounds `name[gt]`, `name[gte]`, `name[lt]` and `name[lte]`.
    Times,
    /// In a query, the opaque text that an earlier page has named.
    Cursor,
    /// A list.
    #[expect(missing_docs, reason = "what it consists of, and the bounds of its length")]
    List { of: &'static Kind, least: usize, most: usize },
    /// The caller's own pairs of texts; [`crate::metadata`] has their limits.
    Pairs(Pairs),
    /// An object.
    Object(&'static Table),
    /// One of some objects, told apart by one field.
    Union(&'static Union),
    /// One of some forms.
    Forms(&'static [Kind]),
    /// A JSON Schema of type `object`.
    Schema,
    /// An object with whatever members.
    Free,
    /// What `openapi.json` has under that name, written by hand.
    Named(&'static str),
    /// Bytes: a part of a form.
    Bytes,
    /// Anything.
    Any,
    /// Null, and nothing else; in answers.
    Nothing,
    /// What the API has and this version can't honour: null, `[]` and `{}` mean the same as
    /// leaving it out, all else is refused.
    Later,
}

/// What it means that a field was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It has to be there. In answers: it always is.
    Required,
    /// What was there stays. In answers: it may be missing.
    Keeps,
    /// The same as this JSON.
    Means(&'static str),
    /// What is told elsewhere holds, which may be refused.
    Depends,
}

/// What null means in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Null {
    /// It is refused. In answers: it never is null.
    Refused,
    /// The same as leaving the field out.
    AsAbsent,
    /// It takes away what was there. In answers: it may be null.
    Clears,
}

/// Which pairs a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// Those of a new thing.
    New,
    /// A change in which null removes a key.
    Patch,
    /// A change in which null and the empty text remove a key.
    PatchOrEmpty,
}

/// The fields of an object, or the keys of a query.
#[derive(Debug)]
pub struct Table {
    /// Its name in `openapi.json`.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Its fields, in the order in which documents show them.
    pub fields: &'static [Field],
}

/// Objects that one of their fields tells apart.
#[derive(Debug)]
pub struct Union {
    /// Its name in `openapi.json`.
    pub name: &'static str,
    /// The field that tells them apart.
    pub tag: &'static str,
    /// The values of that field, in the order in which errors name them.
    pub members: &'static [Member],
}

/// One of the objects of a union.
#[derive(Debug)]
pub struct Member {
    /// The value of the tag.
    pub tag: &'static str,
    /// What it consists of, or why it is refused.
    pub shape: Shape,
}

/// What a member of a union consists of.
#[derive(Debug)]
pub enum Shape {
    /// These fields, the tag among them.
    Taken(&'static Table),
    /// The API has it, and it is refused.
    Refused {
        /// What is wrong with it.
        what: &'static str,
        /// What would be right.
        right: &'static str,
    },
}

/// What is said of everything that the API has and this version lacks.
pub const LATER: &str = "is not supported by this version";

/// What takes no fields, or no query.
pub static EMPTY: Table = Table { name: "Empty", about: "Nothing.", fields: &[] };

impl Table {
    /// The field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Union {
    /// All values of the tag.
    #[must_use]
    pub fn tags(&self) -> Vec<&'static str> {
        self.members.iter().map(|member| member.tag).collect()
    }

    /// The member of that tag.
    #[must_use]
    pub fn member(&self, tag: &str) -> Option<&'static Member> {
        self.members.iter().find(|member| member.tag == tag)
    }
}

impl Member {
    /// A member that is taken.
    #[must_use]
    pub const fn taken(tag: &'static str, table: &'static Table) -> Self {
        Self { tag, shape: Shape::Taken(table) }
    }

    /// A member that this version refuses.
    #[must_use]
    pub const fn later(tag: &'static str, right: &'static str) -> Self {
        Self { tag, shape: Shape::Refused { what: LATER, right } }
    }

    /// A member that is refused for a reason of its own.
    #[must_use]
    pub const fn refused(tag: &'static str, what: &'static str, right: &'static str) -> Self {
        Self { tag, shape: Shape::Refused { what, right } }
    }
}

impl Kind {
    /// One of these texts.
    #[must_use]
    pub const fn choice(taken: &'static [&'static str]) -> Self {
        Self::Choice { taken, later: &[] }
    }

    /// What an error says would be right.
    #[must_use]
    pub fn right(&self) -> String {
        match self {
            Self::Text { least, most: usize::MAX } => {
                format!("send a text of at least {least} characters")
            }
            Self::Text { least, most } => format!("send a text of {least} to {most} characters"),
            Self::Integer { least, most } => format!("send a whole number from {least} to {most}"),
            Self::Number => "send a number".into(),
            Self::Flag => "send true or false".into(),
            Self::Choice { taken, later } => {
                let all: Vec<_> = taken.iter().chain(*later).copied().collect();
                format!("send one of {}", all.join(", "))
            }
            Self::Id(kind) => format!("send an id that begins with {}_", kind.prefix()),
            Self::Time | Self::SentTime | Self::Times => "send an RFC 3339 time".into(),
            Self::Cursor => "send the cursor that a page has named".into(),
            Self::List { .. } => "send a list".into(),
            Self::Pairs(_) => "send an object of texts".into(),
            Self::Object(_) => "send an object".into(),
            Self::Union(union) => {
                format!("send an object with a {} of {}", union.tag, union.tags().join(", "))
            }
            Self::Forms(forms) => {
                let forms: Vec<_> = forms.iter().map(Self::right).collect();
                forms.join(", or ")
            }
            Self::Schema => "send a JSON Schema of type object".into(),
            Self::Bytes => "send the file as a part of that name".into(),
            Self::Free => "send an object".into(),
            Self::Any | Self::Named(_) => "send a value".into(),
            Self::Nothing | Self::Later => "leave it out".into(),
        }
    }
}

impl Field {
    /// A field that may be left out or null, which means null.
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self {
            name,
            kind,
            absent: Absent::Means("null"),
            null: Null::AsAbsent,
            right: None,
            rule: None,
            example: "",
            about,
        }
    }

    /// A text.
    #[must_use]
    pub const fn text(name: &'static str, least: usize, most: usize, about: &'static str) -> Self {
        Self::new(name, Kind::Text { least, most }, about)
    }

    /// One of some texts.
    #[must_use]
    pub const fn choice(
        name: &'static str,
        taken: &'static [&'static str],
        about: &'static str,
    ) -> Self {
        Self::new(name, Kind::choice(taken), about)
    }

    /// The tag of a union's member.
    #[must_use]
    pub const fn tag(taken: &'static [&'static str]) -> Self {
        Self::choice("type", taken, "Tells what this is.").required()
    }

    /// What this version can't honour.
    #[must_use]
    pub const fn later(name: &'static str, about: &'static str) -> Self {
        let field = Self::new(name, Kind::Later, about);
        Self { right: Some("leave it out"), ..field }
    }

    /// The same, with what an error says would be right.
    #[must_use]
    pub const fn right(self, right: &'static str) -> Self {
        Self { right: Some(right), ..self }
    }

    /// The same, and it has to be there; null is refused.
    #[must_use]
    pub const fn required(self) -> Self {
        Self { absent: Absent::Required, null: Null::Refused, ..self }
    }

    /// The same, and leaving it out means that.
    #[must_use]
    pub const fn means(self, json: &'static str) -> Self {
        Self { absent: Absent::Means(json), ..self }
    }

    /// The same, and leaving it out keeps what was there.
    #[must_use]
    pub const fn keeps(self) -> Self {
        Self { absent: Absent::Keeps, ..self }
    }

    /// The same, with what null means.
    #[must_use]
    pub const fn null(self, null: Null) -> Self {
        Self { null, ..self }
    }

    /// In an answer: the same, and it may be null.
    #[must_use]
    pub const fn or_null(self) -> Self {
        Self { null: Null::Clears, ..self }
    }

    /// In an answer: the same, and it may be missing.
    #[must_use]
    pub const fn optional(self) -> Self {
        Self { absent: Absent::Keeps, ..self }
    }

    /// The same, with a rule that the kind does not tell.
    #[must_use]
    pub const fn rule(self, rule: &'static str) -> Self {
        Self { rule: Some(rule), ..self }
    }

    /// The same, with a value that is taken, as JSON.
    #[must_use]
    pub const fn example(self, json: &'static str) -> Self {
        Self { example: json, ..self }
    }

    /// What an error says would be right.
    #[must_use]
    pub fn what_is_right(&self) -> String {
        let right = self.right.map_or_else(|| self.kind.right(), str::to_owned);
        // Of a field that has no null, the other way to say nothing is told.
        match (self.absent, self.null) {
            (Absent::Required, _) | (_, Null::AsAbsent | Null::Clears) => right,
            (_, Null::Refused) => format!("{right}, or leave it out"),
        }
    }

    /// The bounds of a text's or a list's length; empty for other kinds, so that a reader of
    /// another kind than the table's takes nothing, which the tests that walk the tables find.
    #[must_use]
    #[expect(clippy::reversed_empty_ranges, reason = "nothing lies in it")]
    pub fn lengths(&self) -> std::ops::RangeInclusive<usize> {
        match self.kind {
            Kind::Text { least, most } | Kind::List { least, most, .. } => least..=most,
            _ => 1..=0,
        }
    }

    /// The bounds of a whole number; empty for other kinds, as with [`Field::lengths`].
    #[must_use]
    #[expect(clippy::reversed_empty_ranges, reason = "nothing lies in it")]
    pub fn bounds(&self) -> std::ops::RangeInclusive<i64> {
        match self.kind {
            Kind::Integer { least, most } => least..=most,
            _ => 1..=0,
        }
    }

    /// The whole number that leaving the field out means; 0 where it means none.
    #[must_use]
    pub fn default_integer(&self) -> i64 {
        match self.absent {
            Absent::Means(json) => json.parse().unwrap_or_default(),
            Absent::Required | Absent::Keeps | Absent::Depends => 0,
        }
    }

    /// The choices of a field that has some.
    #[must_use]
    pub fn choices(&self) -> (&'static [&'static str], &'static [&'static str]) {
        match self.kind {
            Kind::Choice { taken, later } => (taken, later),
            _ => (&[], &[]),
        }
    }
}
