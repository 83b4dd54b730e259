//! Reading a JSON object field by field, so that nothing in it is silently ignored.
//!
//! Every reader takes a field out; [`Fields::finish`] refuses what is left over. Each error
//! names the path of the field, what is wrong and what would be right.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::ApiError;

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
#[derive(Debug)]
pub struct Fields {
    path: String,
    fields: Map<String, Value>,
}

impl Fields {
    /// Opens an object that stands at `path` (empty for the body itself).
    ///
    /// # Errors
    /// 400 when `value` is no object.
    pub fn open(value: Value, path: impl Into<String>) -> Result<Self, ApiError> {
        let path = path.into();
        match value {
            Value::Object(fields) => Ok(Self { path, fields }),
            other => Err(wrong(&path, &format!("is {}", kind_of(&other)), "send an object")),
        }
    }

    /// Parses a whole body; an empty one counts as `{}`.
    ///
    /// # Errors
    /// 400 when the bytes are no JSON object.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self { path: String::new(), fields: Map::new() });
        }
        let value = serde_json::from_slice(body)
            .map_err(|error| ApiError::invalid(format!("Failed to parse request body: {error}")))?;
        Self::open(value, "")
    }

    /// The path of one of its fields, for an error about it.
    #[must_use]
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A 400 about one of its fields.
    #[must_use]
    pub fn wrong(&self, name: &str, what: &str, right: &str) -> ApiError {
        wrong(&self.path_of(name), what, right)
    }

    /// Whether the field was sent, null included.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// Takes a field of any type.
    pub fn any(&mut self, name: &str) -> Given<Value> {
        match self.fields.shift_remove(name) {
            None => Given::Absent,
            Some(Value::Null) => Given::Null,
            Some(value) => Given::Value(value),
        }
    }

    /// Takes a field that must be there and not null.
    ///
    /// # Errors
    /// 400 when it is missing or null.
    pub fn required(&mut self, name: &str, right: &str) -> Result<Value, ApiError> {
        match self.any(name) {
            Given::Value(value) => Ok(value),
            Given::Null => Err(self.wrong(name, "is null", right)),
            Given::Absent => Err(self.wrong(name, "is missing", right)),
        }
    }

    /// Takes a text whose length in characters lies in `length`.
    ///
    /// # Errors
    /// 400 when it is no text or its length is out of range.
    pub fn text(
        &mut self,
        name: &str,
        length: RangeInclusive<usize>,
    ) -> Result<Given<String>, ApiError> {
        let value = self.any(name);
        value.try_map(|value| text(value, &self.path_of(name), &length))
    }

    /// Takes a text that must be there.
    ///
    /// # Errors
    /// 400 when it is missing, null, no text, or its length is out of range.
    pub fn required_text(
        &mut self,
        name: &str,
        length: RangeInclusive<usize>,
    ) -> Result<String, ApiError> {
        let value = self.required(name, &format!("send {}", describe_text(&length)))?;
        text(value, &self.path_of(name), &length)
    }

    /// Takes a truth value.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn flag(&mut self, name: &str) -> Result<Given<bool>, ApiError> {
        let value = self.any(name);
        value.try_map(|value| match value {
            Value::Bool(flag) => Ok(flag),
            other => {
                Err(self.wrong(name, &format!("is {}", kind_of(&other)), "send true or false"))
            }
        })
    }

    /// Takes a whole number in `range`.
    ///
    /// # Errors
    /// 400 when it is none or out of range.
    pub fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Given<i64>, ApiError> {
        let value = self.any(name);
        let right = format!("send a whole number from {} to {}", range.start(), range.end());
        value.try_map(|value| match value.as_i64() {
            Some(number) if range.contains(&number) => Ok(number),
            Some(number) => Err(self.wrong(name, &format!("is {number}"), &right)),
            None => Err(self.wrong(name, &format!("is {}", kind_of(&value)), &right)),
        })
    }

    /// Takes a list with a number of entries in `length`.
    ///
    /// # Errors
    /// 400 when it is no list or its length is out of range.
    pub fn list(
        &mut self,
        name: &str,
        length: RangeInclusive<usize>,
    ) -> Result<Given<Vec<Value>>, ApiError> {
        let value = self.any(name);
        value.try_map(|value| match value {
            Value::Array(entries) if length.contains(&entries.len()) => Ok(entries),
            Value::Array(entries) => Err(self.wrong(
                name,
                &format!("has {} entries", entries.len()),
                &format!("send {} to {}", length.start(), length.end()),
            )),
            other => Err(self.wrong(name, &format!("is {}", kind_of(&other)), "send a list")),
        })
    }

    /// Takes an object.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn object(&mut self, name: &str) -> Result<Given<Self>, ApiError> {
        let value = self.any(name);
        let path = self.path_of(name);
        value.try_map(|value| Self::open(value, path))
    }

    /// Takes a text that must be one of `choices`.
    ///
    /// # Errors
    /// 400 in the hosted wording, with the choices.
    pub fn choice(
        &mut self,
        name: &str,
        choices: &[&'static str],
    ) -> Result<Given<&'static str>, ApiError> {
        let value = self.any(name);
        let path = self.path_of(name);
        value.try_map(|value| choose(&value, &path, choices))
    }

    /// Takes a choice that must be there, such as the `type` of a union's member.
    ///
    /// # Errors
    /// 400 when it is missing, null or not one of `choices`.
    pub fn required_choice(
        &mut self,
        name: &str,
        choices: &[&'static str],
    ) -> Result<&'static str, ApiError> {
        let value = self.required(name, &format!("send one of {}", choices.join(", ")))?;
        choose(&value, &self.path_of(name), choices)
    }

    /// Takes a field that exists in the API and that this version can't honour. `null`, `[]`
    /// and `{}` mean the same as leaving it out.
    ///
    /// # Errors
    /// 400 that names the field when it holds anything else.
    pub fn unsupported(&mut self, name: &str, why: &str) -> Result<(), ApiError> {
        match self.any(name) {
            Given::Absent | Given::Null => Ok(()),
            Given::Value(Value::Array(entries)) if entries.is_empty() => Ok(()),
            Given::Value(Value::Object(fields)) if fields.is_empty() => Ok(()),
            Given::Value(_) => Err(self.wrong(name, "is not supported by this version", why)),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// 400 in the hosted wording when a field is left that nobody has taken.
    pub fn finish(self) -> Result<(), ApiError> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => {
                let path = self.path_of(name);
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

fn describe_text(length: &RangeInclusive<usize>) -> String {
    format!("a text of {} to {} characters", length.start(), length.end())
}

fn text(value: Value, path: &str, length: &RangeInclusive<usize>) -> Result<String, ApiError> {
    let right = format!("send {}", describe_text(length));
    match value {
        Value::String(text) => {
            let count = text.chars().count();
            if length.contains(&count) {
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

fn choose(value: &Value, path: &str, choices: &[&'static str]) -> Result<&'static str, ApiError> {
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

    #[test]
    fn a_field_that_nobody_takes_is_refused_with_its_path() {
        let mut fields = Fields::open(json!({"a": 1, "b": 2}), "tools.0").unwrap();
        fields.any("a");
        assert_eq!(
            fields.finish().unwrap_err().message,
            "Failed to parse request body: unknown field \"tools.0.b\""
        );
    }

    #[test]
    fn lengths_count_characters_and_not_bytes() {
        let mut fields = Fields::open(json!({"a": "éé", "b": "ééé", "c": "", "d": 1}), "").unwrap();
        assert_eq!(fields.text("a", 1..=2).unwrap(), Given::Value("éé".into()));
        assert_eq!(
            fields.text("b", 1..=2).unwrap_err().message,
            "b: has 3 characters; send a text of 1 to 2 characters"
        );
        assert!(fields.text("c", 1..=2).unwrap_err().message.starts_with("c: is empty"));
        assert!(fields.text("d", 0..=2).unwrap_err().message.starts_with("d: is a number"));
        assert_eq!(fields.text("e", 1..=2).unwrap(), Given::Absent);
    }

    #[test]
    fn an_unsupported_field_may_be_empty() {
        let body = json!({"a": null, "b": [], "c": {}, "d": [1]});
        let mut fields = Fields::open(body, "").unwrap();
        for name in ["a", "b", "c", "absent"] {
            fields.unsupported(name, "").unwrap();
        }
        let error = fields.unsupported("d", "leave it out").unwrap_err();
        assert_eq!(error.message, "d: is not supported by this version; leave it out");
    }
}
