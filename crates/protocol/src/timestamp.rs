//! A point in time in the form in which the wire shows it.
//!
//! [`Micros`] is what the log counts with; this is the same value as RFC 3339 text in JSON.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Micros;

/// A time that is RFC 3339 with microseconds and `Z` in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub Micros);

impl From<Micros> for Timestamp {
    fn from(at: Micros) -> Self {
        Self(at)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Micros::parse(&text)
            .map(Self)
            .ok_or_else(|| de::Error::custom(format_args!("{text:?} is no RFC 3339 time")))
    }
}
