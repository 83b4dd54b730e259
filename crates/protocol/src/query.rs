//! Reading the query of a request key by key, by the rows that describe them in [`crate::schema`], so
//! that nothing in it is silently ignored.
//!
//! Lists come as `types[]=a&types[]=b` or `types=a&types=b`, ranges as `created_at[gte]=…`.
//! The key `beta`, which older clients send, means nothing.

use crate::{
    ApiError, Micros,
    fields::wrong,
    page::{Cursor, Order},
    schema::{Absent, Field, Kind, Table},
};

/// The keys of a query that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
    /// The names that readers have asked for, to be held against the query's table.
    asked: Vec<&'static str>,
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

    /// Whether there is no bound.
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
            Some(cursor) if !self.contains(Micros(cursor.position.number)) => {
                Err(Self::out_of_bounds(name))
            }
            _ => Ok(()),
        }
    }

    /// A 400 about bounds that leave out the place at which a cursor stands.
    #[must_use]
    pub fn out_of_bounds(name: &str) -> ApiError {
        let right = "send the bounds that the page was asked for with";
        wrong(name, "leaves out the page's position", right)
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
        Ok(Self { pairs, asked: Vec::new() })
    }

    /// Takes all values of a key, with and without brackets, in the order in which they came.
    pub fn many(&mut self, field: &Field) -> Vec<String> {
        self.asked.push(field.name);
        self.pairs
            .extract_if(.., |(key, _)| key.strip_suffix("[]").unwrap_or(key) == field.name)
            .map(|(_, value)| value)
            .collect()
    }

    /// Takes the value of a key; an empty one counts as absent.
    ///
    /// # Errors
    /// 400 when the key comes more than once.
    fn single(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        let mut values: Vec<_> =
            self.pairs.extract_if(.., |(key, _)| key == name).map(|(_, value)| value).collect();
        if values.len() > 1 {
            return Err(wrong(name, &format!("is sent {} times", values.len()), "send it once"));
        }
        Ok(values.pop().filter(|value| !value.is_empty()))
    }

    /// Takes a text; an empty one counts as absent.
    ///
    /// # Errors
    /// 400 when the key comes more than once.
    pub fn one(&mut self, field: &Field) -> Result<Option<String>, ApiError> {
        self.asked.push(field.name);
        self.single(field.name)
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// 400 when it is none or out of range.
    pub fn integer(&mut self, field: &Field) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.one(field)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| field.bounds().contains(number));
        let number =
            number.ok_or_else(|| wrong(field.name, &format!("is {text}"), &field.kind.right()))?;
        Ok(Some(number))
    }

    /// Takes a number of entries, or what the row says where none is sent. What is out of range
    /// is refused, not cut.
    ///
    /// # Errors
    /// Those of [`Query::integer`].
    pub fn limit(&mut self, field: &Field) -> Result<usize, ApiError> {
        let limit = self.integer(field)?.unwrap_or_else(|| field.default_integer());
        Ok(usize::try_from(limit).unwrap_or_default())
    }

    /// Takes a truth value; absent is false.
    ///
    /// # Errors
    /// 400 when it is neither `true` nor `false`.
    pub fn flag(&mut self, field: &Field) -> Result<bool, ApiError> {
        match self.one(field)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(wrong(field.name, &format!("is {other}"), &field.kind.right())),
        }
    }

    /// Takes the order of a list, or what the row says where none is sent.
    ///
    /// # Errors
    /// 400 when it is neither `asc` nor `desc`.
    pub fn order(&mut self, field: &Field) -> Result<Order, ApiError> {
        match self.one(field)?.as_deref() {
            None if field.absent == Absent::Means("\"desc\"") => Ok(Order::Desc),
            None | Some("asc") => Ok(Order::Asc),
            Some("desc") => Ok(Order::Desc),
            Some(other) => Err(wrong(field.name, &format!("is {other}"), "send asc or desc")),
        }
    }

    /// Takes values of a key that must each be one of the row's choices. `also` lets others in.
    ///
    /// # Errors
    /// 400 with the choices, or when there are more than the row allows.
    pub fn choices(
        &mut self,
        field: &Field,
        also: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, ApiError> {
        let values = self.many(field);
        let most = *field.lengths().end();
        if values.len() > most {
            let what = format!("has {} entries", values.len());
            return Err(wrong(field.name, &what, &format!("send at most {most}")));
        }
        let choices = match field.kind {
            Kind::List { of: Kind::Choice { taken, .. }, .. } => *taken,
            _ => &[],
        };
        let known = |value: &str| choices.contains(&value) || also(value);
        match values.iter().find(|value| !known(value)) {
            None => Ok(values),
            Some(value) => Err(wrong(
                field.name,
                &format!("{value:?} is not a valid value"),
                &format!("send one of {}", choices.join(", ")),
            )),
        }
    }

    /// Takes the bounds `name[gt]`, `name[gte]`, `name[lt]` and `name[lte]`.
    ///
    /// # Errors
    /// 400 when one is no RFC 3339 time, or comes twice.
    pub fn times(&mut self, field: &Field) -> Result<TimeRange, ApiError> {
        self.asked.push(field.name);
        let mut bound = |suffix: &str| {
            let name = format!("{}[{suffix}]", field.name);
            let Some(text) = self.single(&name)? else { return Ok(None) };
            // A plus sign that a client forgot to encode has become a space.
            let time = Micros::parse(&text.replace(' ', "+"));
            time.map(Some).ok_or_else(|| wrong(&name, &format!("is {text:?}"), &field.kind.right()))
        };
        Ok(TimeRange { gt: bound("gt")?, gte: bound("gte")?, lt: bound("lt")?, lte: bound("lte")? })
    }

    /// Takes the cursor of a page of the list `kind`.
    ///
    /// # Errors
    /// 400 in the hosted wording.
    pub fn page(
        &mut self,
        field: &Field,
        kind: &str,
        order: Order,
    ) -> Result<Option<Cursor>, ApiError> {
        self.one(field)?.map(|text| Cursor::decode(&text, kind, order)).transpose()
    }

    /// Ends the reading of a query that `table` describes.
    ///
    /// # Errors
    /// 400 that names a key that nobody has taken.
    ///
    /// # Panics
    /// In debug builds, when what was asked for is not what the table has.
    pub fn finish(self, table: &Table) -> Result<(), ApiError> {
        debug_assert!(
            table.fields.iter().all(|field| self.asked.contains(&field.name))
                && self.asked.iter().all(|name| table.field(name).is_some()),
            "{} has other keys than {:?}",
            table.name,
            self.asked
        );
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
    use crate::schema::{EMPTY, lists};

    fn query(raw: &str) -> Query {
        Query::parse(Some(raw)).unwrap()
    }

    #[test]
    fn lists_come_with_and_without_brackets() {
        static TABLE: Table =
            Table { name: "Test", about: "", fields: &[lists::EVENT_TYPES, lists::LIMIT_100] };
        let mut query = query("types[]=a&types%5B%5D=b&types=c&limit=3&beta=true");
        assert_eq!(query.many(&lists::EVENT_TYPES), ["a", "b", "c"]);
        assert_eq!(query.limit(&lists::LIMIT_100).unwrap(), 3);
        query.finish(&TABLE).unwrap();
    }

    #[test]
    fn limits_are_not_clamped() {
        let limit = |raw| query(raw).limit(&lists::LIMIT_100);
        for raw in ["limit=0", "limit=101", "limit=x", "limit=-1", "limit=1&limit=2"] {
            assert!(limit(raw).is_err(), "{raw}");
        }
        assert_eq!(limit("").unwrap(), 20);
        assert_eq!(limit("limit=100").unwrap(), 100);
        let many = ["statuses[]=idle"; 101].join("&");
        assert_eq!(
            query(&many).choices(&lists::STATUSES, |_| false).unwrap_err().message,
            "statuses: has 101 entries; send at most 100"
        );
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = query("colour=red").finish(&EMPTY).unwrap_err();
        assert_eq!(error.message, "colour: is no parameter of this request; leave it out");
        query("beta=true").finish(&EMPTY).unwrap();
    }

    #[test]
    fn bounds_are_times_with_any_offset() {
        let raw = "created_at[gte]=2026-01-01T00%3A00%3A00%2B00%3A00&created_at%5Blt%5D=\
                   2026-01-02T02:00:00+02:00";
        static TABLE: Table = Table { name: "Test", about: "", fields: &[lists::CREATED] };
        let mut bounds = query(raw);
        let range = bounds.times(&lists::CREATED).unwrap();
        bounds.finish(&TABLE).unwrap();
        assert_eq!(range.first(), Micros::parse("2026-01-01T00:00:00Z"));
        assert_eq!(range.last(), Micros::parse("2026-01-01T23:59:59.999999Z"));
        assert!(query("created_at[gt]=x").times(&lists::CREATED).is_err());
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
        let mut scope = query("scope_id=%C3%A9+b");
        assert_eq!(scope.one(&lists::SCOPE).unwrap().as_deref(), Some("é b"));
        assert!(query("include_archived=yes").flag(&lists::ARCHIVED).is_err());
    }
}
