//! [`Input`]: reads a call's input field by field, and refuses what is left over.
//!
//! Nothing is converted: a number in quotes is not a number.

use serde_json::{Map, Value};

/// The input of one call.
pub(crate) struct Input<'a>(&'a Map<String, Value>);

impl<'a> Input<'a> {
    /// Checks that the input is an object and holds none but the fields in `known`.
    pub(crate) fn new(tool: &str, input: &'a Value, known: &[&str]) -> Result<Self, String> {
        let Value::Object(fields) = input else {
            return Err(format!("input: not an object; {tool} takes {}", known.join(", ")));
        };
        if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            let name: String = name.chars().take(100).collect();
            return Err(format!("{name}: unknown field; {tool} takes {}", known.join(", ")));
        }
        Ok(Self(fields))
    }

    /// A field that is there and not null.
    fn value(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text that has to be there.
    pub(crate) fn text(&self, name: &str) -> Result<&'a str, String> {
        self.optional_text(name)?.ok_or_else(|| format!("{name}: missing; a string is needed"))
    }

    /// A text that may be there.
    pub(crate) fn optional_text(&self, name: &str) -> Result<Option<&'a str>, String> {
        self.value(name)
            .map(|value| value.as_str().ok_or_else(|| refuse(name, value, "a string")))
            .transpose()
    }

    /// The path of a file that has to be there.
    pub(crate) fn path(&self, name: &str) -> Result<&'a str, String> {
        checked_path(name, self.text(name)?)
    }

    /// A path that may be there.
    pub(crate) fn optional_path(&self, name: &str) -> Result<Option<&'a str>, String> {
        self.optional_text(name)?.map(|path| checked_path(name, path)).transpose()
    }

    /// Yes or no; no when it is missing.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, String> {
        self.value(name).map_or(Ok(false), |value| {
            value.as_bool().ok_or_else(|| refuse(name, value, "true or false"))
        })
    }

    /// A whole number of 0 or more; 0 when it is missing.
    pub(crate) fn count(&self, name: &str) -> Result<u64, String> {
        self.value(name).map_or(Ok(0), |value| {
            whole(value)
                .and_then(|number| u64::try_from(number).ok())
                .ok_or_else(|| refuse(name, value, "a whole number of 0 or more"))
        })
    }

    /// Two whole numbers.
    pub(crate) fn pair(&self, name: &str) -> Result<Option<(i64, i64)>, String> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let numbers = value.as_array().map(|list| list.iter().map(whole).collect::<Vec<_>>());
        match numbers.as_deref() {
            Some(&[Some(first), Some(last)]) => Ok(Some((first, last))),
            _ => Err(refuse(name, value, "two whole numbers, as in [1, 50]")),
        }
    }
}

fn checked_path<'a>(name: &str, path: &'a str) -> Result<&'a str, String> {
    if path.is_empty() {
        return Err(format!("{name}: empty; a path is needed"));
    }
    if path.contains('\0') {
        return Err(format!("{name}: holds a NUL; a path has none"));
    }
    Ok(path)
}

/// A whole number, also when it was written as `5.0`.
#[expect(clippy::cast_possible_truncation, reason = "the fraction and the range are checked")]
fn whole(value: &Value) -> Option<i64> {
    let float = || {
        value
            .as_f64()
            .filter(|number| number.fract() == 0.0 && number.abs() < 9e15)
            .map(|n| n as i64)
    };
    value.as_i64().or_else(float)
}

fn refuse(name: &str, value: &Value, right: &str) -> String {
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    // A number that was refused may still be a number: then its value is what is wrong.
    match value {
        Value::Number(number) => format!("{name}: is {number}; {right} is needed"),
        _ => format!("{name}: is {is}; {right} is needed"),
    }
}
