//! Reading a JSON object field by field, so that nothing in it is silently ignored.
//!
//! Every reader takes a field out, by the row that describes it in [`crate::schema`], which has
//! its limits; [`Fields::finish`] refuses what is left over. Each error names the path of the
//! field, what is wrong and what would be right.

use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::{
    ApiError, Micros,
    id::IdKind,
    schema::{Absent, Field, Kind, LATER, Null, Shape, Table, Union},
};

/// A field that may be absent, null, or have a value. On most fields the three differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Given<T> {
    /// The field was not sent.
    #[default]
    Absent,
    /// The field was sent as `null`.
    Null,
    /// The field has a value.
    Value(T),
}

impl<T> Given<T> {
    /// The value, when there is one; absent and null are the same here.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }

    /// Changes the value, keeps absent and null.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn try_map<U, E>(self, change: impl FnOnce(T) -> Result<U, E>) -> Result<Given<U>, E> {
        Ok(match self {
            Self::Absent => Given::Absent,
            Self::Null => Given::Null,
            Self::Value(value) => Given::Value(change(value)?),
        })
    }
}

/// The fields of one object, and where in the body it stands.
#[derive(Debug, PartialEq)]
pub struct Fields {
    path: String,
    fields: Map<String, Value>,
    /// The names that readers have asked for, to be held against the object's table.
    asked: Vec<&'static str>,
}

impl Fields {
    /// Opens an object that stands at `path` (empty for the body itself).
    ///
    /// # Errors
    /// 400 when `value` is no object.
    pub fn open(value: Value, path: impl Into<String>) -> Result<Self, ApiError> {
        let path = path.into();
        match value {
            Value::Object(fields) => Ok(Self { path, fields, asked: Vec::new() }),
            other => Err(wrong(&path, &format!("is {}", kind_of(&other)), "send an object")),
        }
    }

    /// Parses a whole body; an empty one counts as `{}`.
    ///
    /// # Errors
    /// 400 when the bytes are no JSON object.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Self::open(Value::Object(Map::new()), "");
        }
        let value = serde_json::from_slice(body)
            .map_err(|error| ApiError::invalid(format!("Failed to parse request body: {error}")))?;
        Self::open(value, "")
    }

    /// The path of one of its fields, for an error about it.
    #[must_use]
    pub fn path_of(&self, field: &Field) -> String {
        match self.path.as_str() {
            "" => field.name.to_owned(),
            path => format!("{path}.{}", field.name),
        }
    }

    /// A 400 about one of its fields.
    #[must_use]
    pub fn wrong(&self, field: &Field, what: &str, right: &str) -> ApiError {
        wrong(&self.path_of(field), what, right)
    }

    /// A 400 that says of a field's value what would be right.
    fn amiss(&self, field: &Field, what: &str) -> ApiError {
        self.wrong(field, what, &field.what_is_right())
    }

    /// Whether a field was sent as null.
    #[must_use]
    pub fn is_null(&self, field: &Field) -> bool {
        self.fields.get(field.name) == Some(&Value::Null)
    }

    /// Whether a field holds a list without entries.
    #[must_use]
    pub fn is_empty_list(&self, field: &Field) -> bool {
        self.fields.get(field.name).and_then(Value::as_array).is_some_and(Vec::is_empty)
    }

    /// Whether a field holds that text.
    #[must_use]
    pub fn holds(&self, name: &str, text: &str) -> bool {
        self.fields.get(name).is_some_and(|value| value == text)
    }

    /// Takes a field of any type. Null comes out as what the field's row says that it means.
    ///
    /// # Errors
    /// 400 when it is missing and must not be, or null and must not be.
    pub fn any(&mut self, field: &Field) -> Result<Given<Value>, ApiError> {
        self.asked.push(field.name);
        match (self.fields.shift_remove(field.name), field.null) {
            (None, _) if field.absent == Absent::Required => Err(self.amiss(field, "is missing")),
            (None, _) | (Some(Value::Null), Null::AsAbsent) => Ok(Given::Absent),
            (Some(Value::Null), Null::Refused) => Err(self.amiss(field, "is null")),
            (Some(Value::Null), Null::Clears) => Ok(Given::Null),
            (Some(value), _) => Ok(Given::Value(value)),
        }
    }

    /// What must be there, as one of the readers has found it.
    fn there<T>(&self, field: &Field, given: Given<T>) -> Result<T, ApiError> {
        given.value().ok_or_else(|| self.amiss(field, "is missing"))
    }

    /// Takes a field of any type that must be there.
    ///
    /// # Errors
    /// 400 when it is missing or null.
    pub fn required(&mut self, field: &Field) -> Result<Value, ApiError> {
        let given = self.any(field)?;
        self.there(field, given)
    }

    /// Takes a text.
    ///
    /// # Errors
    /// Those of [`Fields::any`]; 400 when it is no text or its length is out of range.
    pub fn text(&mut self, field: &Field) -> Result<Given<String>, ApiError> {
        let value = self.any(field)?;
        value.try_map(|value| text(value, &self.path_of(field), field))
    }

    /// Takes a text that must be there.
    ///
    /// # Errors
    /// Those of [`Fields::text`].
    pub fn required_text(&mut self, field: &Field) -> Result<String, ApiError> {
        let given = self.text(field)?;
        self.there(field, given)
    }

    /// Takes a text that nobody is to see. No error quotes it.
    ///
    /// # Errors
    /// Those of [`Fields::text`].
    pub fn secret(&mut self, field: &Field) -> Result<Given<SecretString>, ApiError> {
        self.text(field)?.try_map(|text| Ok(text.into()))
    }

    /// Takes an id that must be there.
    ///
    /// # Errors
    /// Those of [`Fields::any`]; 400 when it can't be an id of that kind.
    pub fn id(&mut self, field: &Field) -> Result<String, ApiError> {
        let value = self.required(field)?;
        id(value, &self.path_of(field), field.kind)
    }

    /// Takes a time.
    ///
    /// # Errors
    /// Those of [`Fields::any`]; 400 when it is no RFC 3339 time.
    pub fn time(&mut self, field: &Field) -> Result<Given<Micros>, ApiError> {
        let value = self.any(field)?;
        value.try_map(|value| match value.as_str() {
            Some(text) => Micros::parse(text)
                .ok_or_else(|| self.wrong(field, &format!("is {text:?}"), &field.kind.right())),
            None => Err(self.amiss(field, &format!("is {}", kind_of(&value)))),
        })
    }

    /// Takes a truth value.
    ///
    /// # Errors
    /// Those of [`Fields::any`]; 400 when it is none.
    pub fn flag(&mut self, field: &Field) -> Result<Given<bool>, ApiError> {
        let value = self.any(field)?;
        value.try_map(|value| match value {
            Value::Bool(flag) => Ok(flag),
            other => {
                Err(self.wrong(field, &format!("is {}", kind_of(&other)), &field.kind.right()))
            }
        })
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// Those of [`Fields::any`]; 400 when it is none or out of range.
    pub fn integer(&mut self, field: &Field) -> Result<Given<i64>, ApiError> {
        let value = self.any(field)?;
        let right = field.kind.right();
        value.try_map(|value| match value.as_i64() {
            Some(number) if field.bounds().contains(&number) => Ok(number),
            Some(number) => Err(self.wrong(field, &format!("is {number}"), &right)),
            None if value.is_number() => Err(self.wrong(field, &format!("is {value}"), &right)),
            None => Err(self.wrong(field, &format!("is {}", kind_of(&value)), &right)),
        })
    }

    /// Takes a list.
    ///
    /// # Errors
    /// Those of [`Fields::any`]; 400 when it is no list or its length is out of range.
    pub fn list(&mut self, field: &Field) -> Result<Given<Vec<Value>>, ApiError> {
        let value = self.any(field)?;
        let length = field.lengths();
        value.try_map(|value| match value {
            Value::Array(entries) if length.contains(&entries.len()) => Ok(entries),
            Value::Array(entries) => Err(self.wrong(
                field,
                &format!("has {} entries", entries.len()),
                &format!("send {} to {}", length.start(), length.end()),
            )),
            other => Err(self.amiss(field, &format!("is {}", kind_of(&other)))),
        })
    }

    /// Takes an object.
    ///
    /// # Errors
    /// Those of [`Fields::any`]; 400 when it is none.
    pub fn object(&mut self, field: &Field) -> Result<Given<Self>, ApiError> {
        let value = self.any(field)?;
        let path = self.path_of(field);
        value.try_map(|value| Self::open(value, path))
    }

    /// Takes a text that must be one of the field's choices.
    ///
    /// # Errors
    /// Those of [`Fields::any`]; 400 in the hosted wording, with the choices, and for a choice
    /// that this version does not honour.
    pub fn choice(&mut self, field: &Field) -> Result<Given<&'static str>, ApiError> {
        let value = self.any(field)?;
        let (taken, later) = field.choices();
        value.try_map(|value| {
            let path = self.path_of(field);
            let chosen = choose(&value, &path, &[taken, later].concat())?;
            match later.contains(&chosen) {
                false => Ok(chosen),
                true => {
                    let right = field.right.map_or_else(
                        || format!("send {}, or leave it out", taken.join(" or ")),
                        str::to_owned,
                    );
                    Err(wrong(&path, &format!("{chosen} {LATER}"), &right))
                }
            }
        })
    }

    /// Takes a choice that must be there.
    ///
    /// # Errors
    /// Those of [`Fields::choice`].
    pub fn required_choice(&mut self, field: &Field) -> Result<&'static str, ApiError> {
        let given = self.choice(field)?;
        self.there(field, given)
    }

    /// Takes the tag of a union.
    ///
    /// # Errors
    /// 400 when it is missing, null, or that of no member, which names all; 400 when this version
    /// refuses the member.
    pub fn tag(&mut self, union: &Union) -> Result<&'static str, ApiError> {
        let field = Field::new(union.tag, Kind::Choice { taken: &[], later: &[] }, "").required();
        let tags = union.tags();
        let right = format!("send one of {}", tags.join(", "));
        let path = self.path_of(&field);
        self.asked.push(union.tag);
        let value = match self.fields.shift_remove(union.tag) {
            None => return Err(wrong(&path, "is missing", &right)),
            Some(Value::Null) => return Err(wrong(&path, "is null", &right)),
            Some(value) => value,
        };
        let tag = choose(&value, &path, &tags)?;
        match union.member(tag).map(|member| &member.shape) {
            Some(Shape::Refused { what, right }) => {
                Err(wrong(&path, &format!("{tag} {what}"), right))
            }
            _ => Ok(tag),
        }
    }

    /// Takes a field that exists in the API and that this version can't honour. `null`, `[]`
    /// and `{}` mean the same as leaving it out.
    ///
    /// # Errors
    /// 400 that names the field when it holds anything else.
    pub fn later(&mut self, field: &Field) -> Result<(), ApiError> {
        match self.any(field)? {
            Given::Absent | Given::Null => Ok(()),
            Given::Value(Value::Array(entries)) if entries.is_empty() => Ok(()),
            Given::Value(Value::Object(fields)) if fields.is_empty() => Ok(()),
            Given::Value(_) => Err(self.amiss(field, LATER)),
        }
    }

    /// Ends the reading of an object that `table` describes.
    ///
    /// # Errors
    /// 400 in the hosted wording when a field is left that nobody has taken.
    ///
    /// # Panics
    /// In debug builds, when what was asked for is not what the table has.
    pub fn finish(self, table: &Table) -> Result<(), ApiError> {
        debug_assert!(
            table.fields.iter().all(|field| self.asked.contains(&field.name))
                && self.asked.iter().all(|name| table.field(name).is_some()),
            "{} has other fields than {:?}",
            table.name,
            self.asked
        );
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => {
                let path = match self.path.as_str() {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                Err(ApiError::invalid(format!(
                    "Failed to parse request body: unknown field \"{path}\""
                )))
            }
        }
    }
}

/// A 400 about the field at `path`.
#[must_use]
pub fn wrong(path: &str, what: &str, right: &str) -> ApiError {
    let place = if path.is_empty() { "request body" } else { path };
    ApiError::invalid(format!("{place}: {what}; {right}"))
}

/// What JSON calls a value.
#[must_use]
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Reads a text that stands at `path`.
pub(crate) fn text(value: Value, path: &str, field: &Field) -> Result<String, ApiError> {
    let right = field.kind.right();
    match value {
        Value::String(text) => {
            let count = text.chars().count();
            if field.lengths().contains(&count) {
                Ok(text)
            } else if text.is_empty() {
                Err(wrong(path, "is empty", &right))
            } else {
                Err(wrong(path, &format!("has {count} characters"), &right))
            }
        }
        other => Err(wrong(path, &format!("is {}", kind_of(&other)), &right)),
    }
}

/// Reads an id that stands at `path`.
///
/// # Errors
/// 400 when it can't be an id of that kind.
pub fn id(value: Value, path: &str, kind: Kind) -> Result<String, ApiError> {
    match (value, kind) {
        (Value::String(id), Kind::Id(of)) if of.is_well_formed(&id) => Ok(id),
        (Value::String(id), kind) => {
            Err(wrong(path, &format!("{id:?} is no such id"), &kind.right()))
        }
        (other, kind) => Err(wrong(path, &format!("is {}", kind_of(&other)), &kind.right())),
    }
}

/// Takes a list of ids of which none may be there twice; absent and null are none.
///
/// # Errors
/// Those of [`Fields::list`]; 400 when an entry can't be an id of that kind, or is there twice.
pub fn ids(fields: &mut Fields, field: &Field, of: IdKind) -> Result<Vec<String>, ApiError> {
    let place = fields.path_of(field);
    let mut ids: Vec<String> = Vec::new();
    for (index, value) in fields.list(field)?.value().unwrap_or_default().into_iter().enumerate() {
        let path = format!("{place}[{index}]");
        let id = id(value, &path, Kind::Id(of))?;
        if let Some(first) = ids.iter().position(|one| *one == id) {
            let what = format!("is the same as {place}[{first}]");
            return Err(wrong(&path, &what, "name each one once"));
        }
        ids.push(id);
    }
    Ok(ids)
}

/// Reads a text that stands at `path` and must be one of `choices`.
pub(crate) fn choose(
    value: &Value,
    path: &str,
    choices: &[&'static str],
) -> Result<&'static str, ApiError> {
    let Some(text) = value.as_str() else {
        return Err(wrong(
            path,
            &format!("is {}", kind_of(value)),
            &format!("send one of {}", choices.join(", ")),
        ));
    };
    choices.iter().find(|choice| **choice == text).copied().ok_or_else(|| {
        ApiError::invalid(format!(
            "Failed to parse request: {path}: {text:?} is not a valid value; expected one of {}",
            choices.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const A: Field = Field::text("a", 1, 2, "");
    const B: Field = Field::text("b", 1, 2, "");

    #[test]
    fn a_field_that_nobody_takes_is_refused_with_its_path() {
        static TABLE: Table = Table { name: "Test", about: "", fields: &[A] };
        let mut fields = Fields::open(json!({"a": 1, "b": 2}), "tools.0").unwrap();
        fields.any(&A).unwrap();
        assert_eq!(
            fields.finish(&TABLE).unwrap_err().message,
            "Failed to parse request body: unknown field \"tools.0.b\""
        );
    }

    #[should_panic(expected = "Test has other fields than [\"b\"]")]
    #[test]
    fn a_reader_and_its_table_do_not_drift_apart() {
        static TABLE: Table = Table { name: "Test", about: "", fields: &[A] };
        let mut fields = Fields::parse(b"").unwrap();
        fields.any(&B).unwrap();
        let _ = fields.finish(&TABLE);
    }

    #[test]
    fn lengths_count_characters_and_not_bytes() {
        let body = json!({"a": "éé", "b": "ééé", "c": "", "d": 1});
        let mut fields = Fields::open(body, "").unwrap();
        let named = |name| Field { name, ..A };
        assert_eq!(fields.text(&A).unwrap(), Given::Value("éé".into()));
        assert_eq!(
            fields.text(&B).unwrap_err().message,
            "b: has 3 characters; send a text of 1 to 2 characters"
        );
        assert!(fields.text(&named("c")).unwrap_err().message.starts_with("c: is empty"));
        assert!(fields.text(&named("d")).unwrap_err().message.starts_with("d: is a number"));
        assert_eq!(fields.text(&named("e")).unwrap(), Given::Absent);
    }

    #[test]
    fn null_means_what_the_row_says() {
        let read = |field: Field| Fields::parse(br#"{"a": null}"#).unwrap().text(&field);
        assert_eq!(read(A).unwrap(), Given::Absent);
        assert_eq!(read(A.keeps().null(Null::Clears)).unwrap(), Given::Null);
        let refused = read(A.keeps().null(Null::Refused)).unwrap_err().message;
        assert_eq!(refused, "a: is null; send a text of 1 to 2 characters, or leave it out");
        let refused = read(A.required()).unwrap_err().message;
        assert_eq!(refused, "a: is null; send a text of 1 to 2 characters");
        let missing = Fields::parse(b"").unwrap().text(&A.required()).unwrap_err().message;
        assert_eq!(missing, "a: is missing; send a text of 1 to 2 characters");
    }

    #[test]
    fn what_is_not_supported_may_be_empty() {
        let body = json!({"a": null, "b": [], "c": {}, "d": [1]});
        let mut fields = Fields::open(body, "").unwrap();
        for name in ["a", "b", "c", "absent"] {
            fields.later(&Field::later(name, "")).unwrap();
        }
        let error = fields.later(&Field::later("d", "")).unwrap_err();
        assert_eq!(error.message, "d: is not supported by this version; leave it out");
    }
}
