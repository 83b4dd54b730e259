//! Points in time, as the log keeps them and as the wire shows them.

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    /// RFC 3339 in UTC with six fractional digits and `Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        // A hand-made formatter: this runs for every event that is shown.
        let days = self.0.div_euclid(86_400_000_000);
        let within = self.0.rem_euclid(86_400_000_000);
        let (year, month, day) = civil(days);
        let (seconds, micros) = (within / 1_000_000, within % 1_000_000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }

    /// The calendar day in UTC, `2026-11-20`.
    #[must_use]
    pub fn to_date(self) -> String {
        self.to_rfc3339().chars().take(10).collect()
    }

    /// Parses any RFC 3339 time, with or without an offset from UTC.
    ///
    /// # Errors
    /// `None` when `text` is no such time.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let instant: jiff::Timestamp = text.parse().ok()?;
        Some(Self(instant.as_microsecond()))
    }

    /// The time that lies `micros` later.
    #[must_use]
    pub fn plus(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

/// Days since 1970-01-01 to a date of the Gregorian calendar: the shift to a year that begins
/// in March puts the leap day last, so that one division by 1461 and 153 each is enough.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_calendar_library() {
        for seconds in (-5_000_000_000i64..9_000_000_000).step_by(7_654_321) {
            let at = Micros(seconds * 1_000_000 + 123_456);
            let peer = jiff::Timestamp::from_microsecond(at.0).unwrap();
            assert_eq!(Micros::parse(&at.to_rfc3339()), Some(at));
            assert_eq!(at.to_rfc3339(), format!("{peer:.6}"));
        }
    }

    #[test]
    fn offsets_are_honoured() {
        let utc = Micros::parse("2026-01-02T03:04:05Z");
        assert_eq!(Micros::parse("2026-01-02T05:04:05+02:00"), utc);
        assert_eq!(Micros::parse("yesterday"), None);
    }
}
