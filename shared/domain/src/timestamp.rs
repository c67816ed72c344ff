//! A moment in UTC whose text sorts.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment in UTC with millisecond precision, from year 0000 to 9999.
///
/// Its text form is RFC 3339 of one fixed width, `2026-11-24T09:30:00.000Z`, so that stored timestamps sort
/// as text. That form is a storage format: keys of both tables contain it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

/// The text is not a timestamp of the expected form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 timestamp of the years 0000 to 9999")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// Before anything in this system: 1970-01-01T00:00:00Z.
    pub const EARLIEST: Timestamp = Timestamp(DateTime::UNIX_EPOCH);

    /// The moment `millis` milliseconds after 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// [`InvalidTimestamp`] outside the years 0000 to 9999.
    pub fn from_unix_millis(millis: i64) -> Result<Timestamp, InvalidTimestamp> {
        Timestamp::try_from(DateTime::from_timestamp_millis(millis).ok_or(InvalidTimestamp)?)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// Reads any RFC 3339 timestamp, whatever its offset and precision; finer than a millisecond is cut.
    ///
    /// # Errors
    /// [`InvalidTimestamp`]: tell whoever wrote the text.
    pub fn parse_rfc3339(text: &str) -> Result<Timestamp, InvalidTimestamp> {
        let moment = DateTime::parse_from_rfc3339(text).map_err(|_| InvalidTimestamp)?;
        Timestamp::try_from(moment.with_timezone(&Utc))
    }

    /// This moment moved by `millis` milliseconds (negative: earlier), held within the years 0000 to 9999.
    #[must_use]
    pub fn plus_millis(self, millis: i64) -> Timestamp {
        self.0
            .checked_add_signed(TimeDelta::milliseconds(millis))
            .and_then(|moment| Timestamp::try_from(moment).ok())
            .unwrap_or(self)
    }

    /// Milliseconds from `earlier` to this moment; negative if `earlier` is the later one.
    #[must_use]
    pub fn millis_since(self, earlier: Timestamp) -> i64 {
        self.unix_millis().saturating_sub(earlier.unix_millis())
    }
}

impl TryFrom<DateTime<Utc>> for Timestamp {
    type Error = InvalidTimestamp;

    fn try_from(moment: DateTime<Utc>) -> Result<Timestamp, InvalidTimestamp> {
        let whole = DateTime::from_timestamp_millis(moment.timestamp_millis()).ok_or(InvalidTimestamp)?;
        if (0..=9999).contains(&whole.year()) {
            Ok(Timestamp(whole))
        } else {
            Err(InvalidTimestamp)
        }
    }
}

/// Writes all digits at once: every row, key and answer has timestamps in it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, time) = (self.0.date_naive(), self.0.time());
        let digit = |number: u32, of: u32| b'0' + u8::try_from(number / of % 10).unwrap_or_default();
        let year = u32::try_from(date.year()).map_err(|_| fmt::Error)?;
        let (month, day) = (date.month(), date.day());
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        let millis = self.0.timestamp_subsec_millis();
        #[rustfmt::skip]
        let text = [
            digit(year, 1_000), digit(year, 100), digit(year, 10), digit(year, 1), b'-',
            digit(month, 10), digit(month, 1), b'-',
            digit(day, 10), digit(day, 1), b'T',
            digit(hour, 10), digit(hour, 1), b':',
            digit(minute, 10), digit(minute, 1), b':',
            digit(second, 10), digit(second, 1), b'.',
            digit(millis, 100), digit(millis, 10), digit(millis, 1), b'Z',
        ];
        f.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// Reads the stored form only: the fixed width, in UTC. A moment has many texts in RFC 3339; only this one sorts.
impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Timestamp, InvalidTimestamp> {
        #[rustfmt::skip]
        let [
            y0, y1, y2, y3, b'-', o0, o1, b'-', d0, d1, b'T',
            h0, h1, b':', m0, m1, b':', s0, s1, b'.', f0, f1, f2, b'Z',
        ] = *text.as_bytes() else {
            return Err(InvalidTimestamp);
        };
        let year = i32::try_from(number(&[y0, y1, y2, y3])?).map_err(|_| InvalidTimestamp)?;
        let (month, day) = (number(&[o0, o1])?, number(&[d0, d1])?);
        let (hour, minute, second) = (number(&[h0, h1])?, number(&[m0, m1])?, number(&[s0, s1])?);
        let millis = number(&[f0, f1, f2])?;
        let moment = NaiveDate::from_ymd_opt(year, month, day)
            .and_then(|date| date.and_hms_milli_opt(hour, minute, second, millis))
            .ok_or(InvalidTimestamp)?;
        Ok(Timestamp(moment.and_utc()))
    }
}

/// The number that these digits are.
fn number(digits: &[u8]) -> Result<u32, InvalidTimestamp> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Ok(number * 10 + u32::from(digit - b'0')),
        _ => Err(InvalidTimestamp),
    })
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        crate::text::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_form_is_read_back_and_nothing_else_is() {
        for text in [
            "2026-11-24T09:30:00.000Z",
            "0000-01-01T00:00:00.000Z",
            "9999-12-31T23:59:59.999Z",
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "2026-11-24",
            "2026-11-24T09:30:00Z",
            "2026-11-24T09:30:00.000+00:00",
            "2026-11-24T09:30:60.000Z",
            "2026-02-30T09:30:00.000Z",
            "2026-11-24T09:30:00,000Z",
            "2026-11-24T09:30:00.00éZ",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(InvalidTimestamp), "{text}");
        }
    }

    #[test]
    fn any_rfc3339_is_taken_from_people() {
        #[track_caller]
        fn check(text: &str, stored: &str) {
            assert_eq!(Timestamp::parse_rfc3339(text).unwrap().to_string(), stored);
        }
        check("2026-11-24T09:30:00Z", "2026-11-24T09:30:00.000Z");
        check("2026-11-24T10:30:00.123999+01:00", "2026-11-24T09:30:00.123Z");
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), Err(InvalidTimestamp));
        assert_eq!(Timestamp::parse_rfc3339("2026-11-24"), Err(InvalidTimestamp));
    }

    #[test]
    fn text_order_is_time_order() {
        let moments = [-1, 0, 999, 1_000, 1_764_000_000_000_i64];
        let texts: Vec<String> = moments
            .iter()
            .map(|m| Timestamp::from_unix_millis(*m).unwrap().to_string())
            .collect();
        assert!(texts.is_sorted(), "{texts:?}");
    }

    #[test]
    fn milliseconds_are_counted_from_1970() {
        let moment = Timestamp::from_unix_millis(1_764_000_000_123).unwrap();
        assert_eq!(moment.to_string(), "2025-11-24T16:00:00.123Z");
        assert_eq!(moment.unix_millis(), 1_764_000_000_123);
    }

    #[test]
    fn distance_is_negative_to_what_is_later() {
        let moment = Timestamp::EARLIEST.plus_millis(5_000);
        assert_eq!(moment.millis_since(Timestamp::EARLIEST), 5_000);
        assert_eq!(Timestamp::EARLIEST.millis_since(moment), -5_000);
    }

    #[test]
    fn moving_stops_at_the_ends_of_the_calendar() {
        let end: Timestamp = "9999-12-31T23:59:59.999Z".parse().unwrap();
        assert_eq!(end.plus_millis(1), end);
        assert_eq!(end.plus_millis(-1).to_string(), "9999-12-31T23:59:59.998Z");
    }

    #[test]
    fn years_beyond_the_fixed_width_are_refused() {
        assert_eq!(
            Timestamp::from_unix_millis(253_402_300_800_000),
            Err(InvalidTimestamp)
        );
        assert_eq!(Timestamp::from_unix_millis(i64::MAX), Err(InvalidTimestamp));
    }
}
