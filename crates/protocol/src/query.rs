//! Reading the query of a request key by key, so that nothing in it is silently ignored.
//!
//! Lists come as `types[]=a&types[]=b` or `types=a&types=b`, ranges as `created_at[gte]=…`.
//! The key `beta`, which older clients send, means nothing.

use std::ops::RangeInclusive;

use crate::{
    ApiError, Micros,
    fields::wrong,
    page::{Cursor, Order},
};

/// The keys of a query that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

/// Bounds on a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are the API's own")]
pub struct TimeRange {
    pub gt: Option<Micros>,
    pub gte: Option<Micros>,
    pub lt: Option<Micros>,
    pub lte: Option<Micros>,
}

impl TimeRange {
    /// The earliest time inside, inclusive.
    #[must_use]
    pub fn first(&self) -> Option<Micros> {
        self.gte.max(self.gt.map(|at| at.plus(1)))
    }

    /// The latest time inside, inclusive.
    #[must_use]
    pub fn last(&self) -> Option<Micros> {
        match (self.lte, self.lt.map(|at| at.plus(-1))) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Whether a time lies inside.
    #[must_use]
    pub fn contains(&self, at: Micros) -> bool {
        self.first().is_none_or(|first| at >= first) && self.last().is_none_or(|last| at <= last)
    }

    /// Whether there is any bound.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses bounds that leave out the time at which a cursor stands.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn admit(&self, cursor: Option<&Cursor>, name: &str) -> Result<(), ApiError> {
        match cursor {
            Some(cursor) if !self.contains(Micros(cursor.position.number)) => Err(wrong(
                name,
                "leaves out the page's position",
                "send the bounds that the page was asked for with",
            )),
            _ => Ok(()),
        }
    }
}

impl Query {
    /// Reads the part of an address after its question mark.
    ///
    /// # Errors
    /// 400 when it is not percent-encoded UTF-8.
    pub fn parse(raw: Option<&str>) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for part in raw.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if name != "beta" {
                pairs.push((name, value));
            }
        }
        Ok(Self { pairs })
    }

    /// Takes all values of a key, with and without brackets, in the order in which they came.
    pub fn many(&mut self, name: &str) -> Vec<String> {
        self.pairs
            .extract_if(.., |(key, _)| key.strip_suffix("[]").unwrap_or(key) == name)
            .map(|(_, value)| value)
            .collect()
    }

    /// Takes the value of a key; an empty one counts as absent.
    ///
    /// # Errors
    /// 400 when the key comes more than once.
    pub fn one(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        let mut values: Vec<_> =
            self.pairs.extract_if(.., |(key, _)| key == name).map(|(_, value)| value).collect();
        if values.len() > 1 {
            return Err(wrong(name, &format!("is sent {} times", values.len()), "send it once"));
        }
        Ok(values.pop().filter(|value| !value.is_empty()))
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// 400 when it is none or out of range.
    pub fn integer(
        &mut self,
        name: &str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            let right = format!("send a whole number from {} to {}", range.start(), range.end());
            wrong(name, &format!("is {text}"), &right)
        })
    }

    /// Takes `limit`, the number of entries on a page. What is out of range is refused, not cut.
    ///
    /// # Errors
    /// 400 when it is no number from 1 to `most`.
    pub fn limit(&mut self, default: usize, most: usize) -> Result<usize, ApiError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let given = self.integer("limit", 1..=most)?;
        Ok(given.and_then(|given| usize::try_from(given).ok()).unwrap_or(default))
    }

    /// Takes a truth value; absent is false.
    ///
    /// # Errors
    /// 400 when it is neither `true` nor `false`.
    pub fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.one(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(wrong(name, &format!("is {other}"), "send true or false")),
        }
    }

    /// Takes `order`.
    ///
    /// # Errors
    /// 400 when it is neither `asc` nor `desc`.
    pub fn order(&mut self, default: Order) -> Result<Order, ApiError> {
        match self.one("order")?.as_deref() {
            None => Ok(default),
            Some("asc") => Ok(Order::Asc),
            Some("desc") => Ok(Order::Desc),
            Some(other) => Err(wrong("order", &format!("is {other}"), "send asc or desc")),
        }
    }

    /// Takes values of a key that must each be one of `choices`.
    ///
    /// # Errors
    /// 400 with the choices.
    pub fn choices(&mut self, name: &str, choices: &[&str]) -> Result<Vec<String>, ApiError> {
        let values = self.many(name);
        match values.iter().find(|value| !choices.contains(&value.as_str())) {
            None => Ok(values),
            Some(value) => Err(wrong(
                name,
                &format!("{value:?} is not a valid value"),
                &format!("send one of {}", choices.join(", ")),
            )),
        }
    }

    /// Takes the bounds `name[gt]`, `name[gte]`, `name[lt]` and `name[lte]`.
    ///
    /// # Errors
    /// 400 when one is no RFC 3339 time.
    pub fn times(&mut self, name: &str) -> Result<TimeRange, ApiError> {
        let mut bound = |suffix: &str| {
            let name = format!("{name}[{suffix}]");
            let Some(text) = self.one(&name)? else { return Ok(None) };
            // A plus sign that a client forgot to encode has become a space.
            let time = Micros::parse(&text.replace(' ', "+"));
            time.map(Some)
                .ok_or_else(|| wrong(&name, &format!("is {text:?}"), "send an RFC 3339 time"))
        };
        Ok(TimeRange { gt: bound("gt")?, gte: bound("gte")?, lt: bound("lt")?, lte: bound("lte")? })
    }

    /// Takes `page`, the cursor of a page of the list `kind`.
    ///
    /// # Errors
    /// 400 in the hosted wording.
    pub fn page(&mut self, kind: &str, order: Order) -> Result<Option<Cursor>, ApiError> {
        self.one("page")?.map(|text| Cursor::decode(&text, kind, order)).transpose()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// 400 that names a key that nobody has taken.
    pub fn finish(self) -> Result<(), ApiError> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => Err(wrong(name, "is no parameter of this request", "leave it out")),
        }
    }
}

/// Percent-decoding, with `+` for a space as forms have it.
fn decode(text: &str) -> Result<String, ApiError> {
    let fail = || wrong("query", &format!("{text:?} is not percent-encoded"), "encode it as UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    let value = char::from(rest.next()?).to_digit(16)?;
                    u8::try_from(value).ok()
                };
                let high = digit().ok_or_else(fail)?;
                high * 16 + digit().ok_or_else(fail)?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| fail())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Query {
        Query::parse(Some(raw)).unwrap()
    }

    #[test]
    fn lists_come_with_and_without_brackets() {
        let mut query = query("types[]=a&types%5B%5D=b&types=c&limit=3&beta=true");
        assert_eq!(query.many("types"), ["a", "b", "c"]);
        assert_eq!(query.limit(20, 100).unwrap(), 3);
        query.finish().unwrap();
    }

    #[test]
    fn limits_are_not_clamped() {
        for raw in ["limit=0", "limit=101", "limit=x", "limit=-1", "limit=1&limit=2"] {
            assert!(query(raw).limit(20, 100).is_err(), "{raw}");
        }
        assert_eq!(query("").limit(20, 100).unwrap(), 20);
        assert_eq!(query("limit=100").limit(20, 100).unwrap(), 100);
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = query("colour=red").finish().unwrap_err();
        assert_eq!(error.message, "colour: is no parameter of this request; leave it out");
        query("beta=true").finish().unwrap();
    }

    #[test]
    fn bounds_are_times_with_any_offset() {
        let raw = "created_at[gte]=2026-01-01T00%3A00%3A00%2B00%3A00&created_at%5Blt%5D=\
                   2026-01-02T02:00:00+02:00";
        let mut query = query(raw);
        let range = query.times("created_at").unwrap();
        query.finish().unwrap();
        assert_eq!(range.first(), Micros::parse("2026-01-01T00:00:00Z"));
        assert_eq!(range.last(), Micros::parse("2026-01-01T23:59:59.999999Z"));
        assert!(Query::parse(Some("created_at[gt]=x")).unwrap().times("created_at").is_err());
        let outside = crate::page::Position { number: 0, id: String::new() };
        let cursor = Cursor::after("x", Order::Asc, outside);
        assert!(range.admit(Some(&cursor), "created_at").is_err());
        assert!(TimeRange::default().admit(Some(&cursor), "created_at").is_ok());
    }

    #[test]
    fn what_is_not_percent_encoded_is_refused() {
        for raw in ["a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert!(Query::parse(Some(raw)).is_err(), "{raw}");
        }
        assert_eq!(query("a=%C3%A9+b").one("a").unwrap().as_deref(), Some("é b"));
        assert!(query("f=yes").flag("f").is_err());
    }
}
