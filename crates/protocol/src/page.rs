//! Pages of lists: opaque cursors, and the JSON around a page's entries.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::ApiError;

const PREFIX: &str = "page_";

/// In which direction a list runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
}

/// Where in a list a page begins. The two parts mean what the list wants them to: a time and
/// an id, a version, a place in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The part that sorts first.
    #[serde(rename = "n")]
    pub number: i64,
    /// The part that settles ties; empty where there are none.
    #[serde(rename = "i", default, skip_serializing_if = "String::is_empty")]
    pub id: String,
}

/// What a cursor says. Clients never look inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Which list it belongs to.
    #[serde(rename = "k")]
    pub kind: String,
    /// The order of that list.
    #[serde(rename = "o")]
    pub order: Order,
    /// Whether the page lies before the position (in the list's order) and not after it.
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    pub backward: bool,
    /// The entry next to the page, which is not part of it.
    #[serde(flatten)]
    pub position: Position,
}

impl Cursor {
    /// The cursor of the page that follows `position`.
    #[must_use]
    pub fn after(kind: &str, order: Order, position: Position) -> Self {
        Self { kind: kind.to_owned(), order, backward: false, position }
    }

    /// The cursor of the page that comes before `position`.
    #[must_use]
    pub fn before(kind: &str, order: Order, position: Position) -> Self {
        Self { kind: kind.to_owned(), order, backward: true, position }
    }

    /// The text that clients send back.
    #[must_use]
    pub fn encode(&self) -> String {
        // A struct of texts and numbers always has a JSON form.
        let json = serde_json::to_vec(self).unwrap_or_default();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }

    /// Reads what a client sent back to the list `kind` in `order`.
    ///
    /// # Errors
    /// 400 in the hosted wording.
    pub fn decode(text: &str, kind: &str, order: Order) -> Result<Self, ApiError> {
        let cursor = Self::read(text).filter(|cursor| cursor.kind == kind);
        let cursor = cursor.ok_or_else(|| ApiError::invalid("invalid page cursor"))?;
        if cursor.order != order {
            return Err(ApiError::invalid("page token order does not match request"));
        }
        Ok(cursor)
    }

    fn read(text: &str) -> Option<Self> {
        let json = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

/// One page of a list, whose entries are the JSON texts of things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries in the order of the list.
    pub data: Vec<T>,
    /// The cursor of the page after this one, when there is one.
    pub next_page: Option<String>,
    /// For lists that can be read backward: the cursor of the page before this one.
    /// `None` leaves the field out, `Some(None)` is null.
    pub prev_page: Option<Option<String>>,
}

impl<T> Page<T> {
    /// A page of a list that is read forward only.
    #[must_use]
    pub fn forward(data: Vec<T>, next_page: Option<String>) -> Self {
        Self { data, next_page, prev_page: None }
    }

    /// A page of a list that is read both ways.
    #[must_use]
    pub fn both_ways(data: Vec<T>, next_page: Option<String>, prev_page: Option<String>) -> Self {
        Self { data, next_page, prev_page: Some(prev_page) }
    }

    /// Makes a forward page of rows that were asked for with one more than `limit`: that one
    /// tells whether there is a next page and is not shown.
    #[must_use]
    pub fn cut<R>(
        mut rows: Vec<R>,
        limit: usize,
        cursor: impl FnOnce(&R) -> Cursor,
        show: impl FnMut(R) -> T,
    ) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_page = if more { rows.last().map(|row| cursor(row).encode()) } else { None };
        Self::forward(rows.into_iter().map(show).collect(), next_page)
    }
}

impl<T: AsRef<str>> Page<T> {
    /// The page on the wire.
    #[must_use]
    pub fn to_json(&self) -> String {
        let size: usize = self.data.iter().map(|entry| entry.as_ref().len() + 1).sum();
        let mut json = String::with_capacity(size + 256);
        json.push_str("{\"data\":[");
        for (index, entry) in self.data.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            json.push_str(entry.as_ref());
        }
        json.push_str("],\"next_page\":");
        push_cursor(&mut json, self.next_page.as_deref());
        if let Some(before) = &self.prev_page {
            json.push_str(",\"prev_page\":");
            push_cursor(&mut json, before.as_deref());
        }
        json.push('}');
        json
    }
}

/// Cursors are made of letters that need no escape.
fn push_cursor(json: &mut String, cursor: Option<&str>) {
    match cursor {
        None => json.push_str("null"),
        Some(cursor) => {
            json.push('"');
            json.push_str(cursor);
            json.push('"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        Cursor::after("agents", Order::Desc, Position { number: 7, id: "agent_1".into() })
    }

    #[test]
    fn a_cursor_comes_back_as_it_was_made() {
        let text = cursor().encode();
        assert!(text.starts_with("page_"));
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
        assert_eq!(Cursor::decode(&text, "agents", Order::Desc).unwrap(), cursor());
        let before = Cursor { backward: true, ..cursor() };
        assert_eq!(Cursor::decode(&before.encode(), "agents", Order::Desc).unwrap(), before);
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        let fail = |text: &str, kind| Cursor::decode(text, kind, Order::Desc).unwrap_err().message;
        let text = cursor().encode();
        for garbage in ["", "page_", "page_!!", "7", "page_e30", &text[5..]] {
            assert_eq!(fail(garbage, "agents"), "invalid page cursor");
        }
        assert_eq!(fail(&text, "environments"), "invalid page cursor");
        let error = Cursor::decode(&text, "agents", Order::Asc).unwrap_err();
        assert_eq!(error.message, "page token order does not match request");
    }

    #[test]
    fn a_page_is_cut_where_more_follows() {
        let at =
            |n: &i64| Cursor::after("x", Order::Asc, Position { number: *n, id: String::new() });
        let page = Page::cut(vec![1, 2, 3], 2, at, |n| n.to_string());
        assert_eq!(page.data, ["1", "2"]);
        assert_eq!(page.next_page, Some(at(&2).encode()));
        let page = Page::cut(vec![1, 2], 2, at, |n| n.to_string());
        assert_eq!(page.to_json(), "{\"data\":[1,2],\"next_page\":null}");
        let page = Page::both_ways(vec!["{}"], Some("page_a".into()), None);
        assert_eq!(page.to_json(), "{\"data\":[{}],\"next_page\":\"page_a\",\"prev_page\":null}");
    }
}
