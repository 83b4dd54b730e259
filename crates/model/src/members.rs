//! The members of a JSON object in their order, raw, and text written as JSON.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of an object in their order, borrowed from it.
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl<'a> Members<'a> {
    /// Reads an object.
    pub(crate) fn of(object: &'a RawValue) -> Option<Self> {
        serde_json::from_str(object.get()).ok()
    }

    /// A member's value.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    /// A member's value, if it is not null.
    pub(crate) fn there(&self, name: &str) -> Option<&'a RawValue> {
        self.get(name).filter(|value| value.get() != "null")
    }

    /// A member's value, if it is a string.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text(self.get(name)?)
    }
}

/// A string that was read as JSON.
pub(crate) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Name<'_>>(value.get()).ok().map(|Name(text)| text)
}

/// The elements of an array; none of anything else.
pub(crate) fn elements(value: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(value.get()).unwrap_or_default()
}

/// The elements that are of a type; the others are left out.
pub(crate) fn readable<'a, T: Deserialize<'a>>(
    elements: Vec<&'a RawValue>,
) -> impl Iterator<Item = T> {
    elements.into_iter().filter_map(|element| serde_json::from_str(element.get()).ok())
}

/// Text as a JSON string.
pub(crate) fn string(text: &str) -> String {
    // A string has no map keys, so this can't fail.
    serde_json::to_string(text).unwrap_or_else(|_| r#""""#.to_owned())
}

/// An object of members, raw.
pub(crate) fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut json = String::from("{");
    for (name, value) in members {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&string(name));
        json.push(':');
        json.push_str(value);
    }
    json.push('}');
    json
}

/// Takes text that was put together as JSON.
pub(crate) fn raw(json: String) -> Box<RawValue> {
    let raw = RawValue::from_string(json);
    debug_assert!(raw.is_ok());
    // It is JSON; `null` stands in for the impossible.
    raw.unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Text as a JSON object, if it is one that [`is_object`] takes; the text itself, not another that
/// means the same.
pub(crate) fn object_in(text: &str) -> Option<Box<RawValue>> {
    let raw = RawValue::from_string(text.trim().to_owned()).ok()?;
    is_object(&raw).then_some(raw)
}

/// Whether a value is an object that everybody can read. JSON can spell half a character, but no
/// text can hold it, and a provider refuses every conversation in which it stands.
pub(crate) fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{') && has_whole_characters(value.get())
}

/// Whether the escapes in valid JSON spell no half of a surrogate pair.
fn has_whole_characters(json: &str) -> bool {
    let mut rest = json;
    // Outside of strings, JSON has no backslash.
    while let Some((_, escape)) = rest.split_once('\\') {
        let unit = |escape: &str| {
            let digits = escape.strip_prefix('u')?.get(..4)?;
            u32::from_str_radix(digits, 16).ok()
        };
        rest = match unit(escape) {
            Some(0xD800..=0xDBFF) => {
                let low = escape[5..].strip_prefix('\\');
                match low.filter(|low| matches!(unit(low), Some(0xDC00..=0xDFFF))) {
                    Some(low) => &low[5..],
                    None => return false,
                }
            }
            Some(0xDC00..=0xDFFF) => return false,
            // What is escaped is ASCII, and may be a backslash.
            _ => escape.get(1..).unwrap_or_default(),
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_whole_characters() {
        for whole in [
            "{}",
            r#" {"a":"\\ud800 \n"} "#,
            r#"{"a":"\ud83e\udd80"}"#,
            r#"{"\u00fc":["\u0000"]}"#,
            r#"{"a":"\\\ud83e\udd80é"}"#,
        ] {
            assert!(object_in(whole).is_some_and(|raw| raw.get() == whole.trim()), "{whole}");
        }
        for broken in [
            "[]",
            "{",
            r#""{}""#,
            r#"{"a":"\ud83e"}"#,
            r#"{"a":"\udd80\ud83e"}"#,
            r#"{"a":"\ud83e\n"}"#,
            r#"{"a":"\uD83Eé"}"#,
            r#"{"a":"\\\udd80"}"#,
        ] {
            assert!(object_in(broken).is_none(), "{broken}");
        }
    }
}
