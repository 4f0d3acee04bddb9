use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value};

use super::tagged::string_enum;

/// When something happened, as the caller says. Nothing here reads a clock.
///
/// On the wire `{"kind":"unix_millis","value":-5}` or
/// `{"kind":"logical","value":12}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamp {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    UnixMillis(i64),
    /// A counter of the caller's own.
    Logical(u64),
}

string_enum! {
    /// The kinds of [`Timestamp`].
    enum Kind {
        /// Milliseconds.
        UnixMillis = "unix_millis",
        /// A counter.
        Logical = "logical",
    }
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "a timestamp object with `kind` and `value`")]
struct Wire {
    kind: Kind,
    value: Number,
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, value) = match *self {
            Self::UnixMillis(millis) => (Kind::UnixMillis, millis.into()),
            Self::Logical(tick) => (Kind::Logical, tick.into()),
        };
        Wire { kind, value }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let Wire { kind, value } = Wire::deserialize(reader)?;
        let wrong = || D::Error::custom(format_args!("`{value}` is not an integer that a {kind} timestamp can hold"));
        match kind {
            Kind::UnixMillis => value.as_i64().map(Self::UnixMillis).ok_or_else(wrong),
            Kind::Logical => value.as_u64().map(Self::Logical).ok_or_else(wrong),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnixMillis(millis) => write!(f, "unix_millis:{millis}"),
            Self::Logical(tick) => write!(f, "logical:{tick}"),
        }
    }
}

impl Timestamp {
    /// How this time stands to a threshold as the `time` provider takes it: an
    /// integer of the same clock, or an RFC 3339 date-time for milliseconds.
    /// `None` if the threshold is neither.
    pub fn against(self, threshold: &Value) -> Option<Ordering> {
        match (self, threshold) {
            (Self::Logical(now), threshold) => threshold.as_u64().map(|tick| now.cmp(&tick)),
            (Self::UnixMillis(now), Value::String(text)) => Instant::parse(text).map(|at| now.cmp(&at.unix_millis())),
            (Self::UnixMillis(now), threshold) => threshold.as_i64().map(|millis| now.cmp(&millis)),
        }
    }

    /// Milliseconds as a date and a time in UTC, for people. `None` for a
    /// counter, and before the year 0 or after 9999.
    pub fn utc(self) -> Option<String> {
        let Self::UnixMillis(millis) = self else { return None };
        let (year, month, day) = Date::from_days(millis.div_euclid(86_400_000));
        let of_day = millis.rem_euclid(86_400_000);
        let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
        let fraction = of_day % 1_000;
        (0..=9999)
            .contains(&year)
            .then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z"))
    }

    /// The type and value of the anchor that the `time` provider gives.
    pub fn anchor(self) -> (&'static str, String) {
        match self {
            Self::UnixMillis(millis) => ("trigger_time_unix_millis", millis.to_string()),
            Self::Logical(tick) => ("trigger_time_logical", tick.to_string()),
        }
    }
}

/// The text is in none of the forms of a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time\nhint: write `logical:1`, `unix_millis:1710000000000` or `2024-03-09T16:00:00Z`")]
pub struct BadTimestamp(String);

/// `logical:1`, `unix_millis:1710000000000`, or RFC 3339 cut to milliseconds.
impl FromStr for Timestamp {
    type Err = BadTimestamp;

    fn from_str(text: &str) -> Result<Self, BadTimestamp> {
        let parsed = match text.split_once(':') {
            Some(("logical", tick)) => tick.parse().ok().map(Self::Logical),
            Some(("unix_millis", millis)) => millis.parse().ok().map(Self::UnixMillis),
            _ => Instant::parse(text).map(|instant| Self::UnixMillis(instant.unix_millis())),
        };
        let in_range = |time: &Self| match *time {
            Self::UnixMillis(millis) => millis.unsigned_abs() <= crate::canon::INTEGER_MAX,
            Self::Logical(tick) => tick <= crate::canon::INTEGER_MAX,
        };
        parsed.filter(in_range).ok_or_else(|| BadTimestamp(text.to_owned()))
    }
}

/// A point in time read from an RFC 3339 date-time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    seconds: i64,
    nanos: u32,
}

impl Instant {
    /// Reads a date-time by the rules of the reference system's contract, §4.5, which decide
    /// comparisons and so must not change with a library: four-digit year, two
    /// digits elsewhere, any one byte between date and time, digits beyond nine
    /// of the fraction ignored, `Z`, `z` or `±hh:mm`. Second 60 only as the
    /// last second of a month in UTC, where it counts as 59.999999999.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let digits = |from: usize, to: usize| number(bytes.get(from..to)?);
        let literal = |at: usize, byte: u8| (bytes.get(at) == Some(&byte)).then_some(());
        let year = digits(0, 4)?;
        literal(4, b'-')?;
        let month = digits(5, 7)?;
        literal(7, b'-')?;
        let day = digits(8, 10)?;
        bytes.get(10)?;
        let hour = digits(11, 13)?;
        literal(13, b':')?;
        let minute = digits(14, 16)?;
        literal(16, b':')?;
        let second = digits(17, 19)?;
        let (nanos, at) = fraction(bytes, 19)?;
        let offset = offset(&bytes[at..])?;
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let days = Date::new(year, month, day)?.days;
        let leap = second == 60;
        let second = if leap { 59 } else { second };
        let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset;
        if !leap {
            return Some(Self { seconds, nanos });
        }
        let next = Date::from_days((seconds + 1).div_euclid(86_400));
        let last_of_month = (seconds + 1).rem_euclid(86_400) == 0 && next.2 == 1;
        last_of_month.then_some(Self { seconds, nanos: 999_999_999 })
    }

    /// Milliseconds since 1970, rounded down.
    pub fn unix_millis(self) -> i64 {
        self.seconds * 1_000 + i64::from(self.nanos / 1_000_000)
    }
}

fn number(bytes: &[u8]) -> Option<i64> {
    if bytes.iter().all(u8::is_ascii_digit) { std::str::from_utf8(bytes).ok()?.parse().ok() } else { None }
}

fn fraction(bytes: &[u8], at: usize) -> Option<(u32, usize)> {
    if bytes.get(at) != Some(&b'.') {
        return Some((0, at));
    }
    let count = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let kept = &bytes[at + 1..at + 1 + count.min(9)];
    let nanos = number(kept).filter(|_| count > 0)? * 10_i64.pow(9 - kept.len() as u32);
    Some((nanos as u32, at + 1 + count))
}

/// Seconds east of UTC.
fn offset(bytes: &[u8]) -> Option<i64> {
    match bytes {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            let seconds = hours * 3_600 + minutes * 60;
            let signed = if *sign == b'-' { -seconds } else { seconds };
            (hours <= 23 && minutes <= 59).then_some(signed)
        }
        _ => None,
    }
}

/// A day in the proleptic Gregorian calendar, years 0 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Since 1970-01-01.
    days: i64,
}

impl Date {
    /// Reads a date by the rules of the reference system's contract, §4.5: three integers
    /// around two hyphens, padding as the author likes, a leading `+` allowed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-').map(|part| {
            let digits = part.strip_prefix('+').unwrap_or(part);
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.trim_start_matches('0')).filter(|digits| digits.len() <= 4)
        });
        let mut next = || match parts.next()? {
            Some("") => Some(0),
            Some(digits) => digits.parse().ok(),
            None => None,
        };
        let date = Self::new(next()?, next()?, next()?);
        if parts.next().is_some() { None } else { date }
    }

    fn new(year: i64, month: i64, day: i64) -> Option<Self> {
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let length = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 => 28 + i64::from(leap),
            _ => return None,
        };
        if !(1..=length).contains(&day) || !(0..=9999).contains(&year) {
            return None;
        }
        // Days from civil: years begin in March, so that the leap day is last.
        let shifted = year - i64::from(month <= 2);
        let era = shifted.div_euclid(400);
        let of_era = shifted.rem_euclid(400);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
        Some(Self { days })
    }

    /// Year, month and day of a count of days since 1970-01-01.
    fn from_days(days: i64) -> (i64, i64, i64) {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let civil = if month < 10 { month + 3 } else { month - 9 };
        (year + era * 400 + i64::from(civil <= 2), civil, day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<i64> {
        Instant::parse(text).map(Instant::unix_millis)
    }

    #[test]
    fn reads_date_times_as_the_contract_says() {
        assert_eq!(millis("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(millis("2024-03-09T16:00:00Z"), Some(1_710_000_000_000));
        assert_eq!(millis("2024-03-09 17:00:00+01:00"), Some(1_710_000_000_000));
        assert_eq!(millis("2024-03-09x16:00:00.1239999999z"), Some(1_710_000_000_123));
        assert_eq!(millis("0000-02-29T00:00:00Z"), Some(-62_162_121_600_000));
        assert_eq!(millis("1969-12-31T23:59:59.999-00:00"), Some(-1));
        assert_eq!(millis("2016-12-31T23:59:60Z"), Some(1_483_228_799_999));
        assert_eq!(millis("2017-01-01T00:59:60+01:00"), Some(1_483_228_799_999));
        for wrong in [
            "2016-12-31T22:59:60Z",
            "2016-12-30T23:59:60Z",
            "2024-03-09T24:00:00Z",
            "2024-02-30T00:00:00Z",
            "2024-03-09T16:00:00",
            "2024-03-09T16:00:00.Z",
            "2024-03-09T16:00Z",
            "2024-3-9T16:00:00Z",
            "2024-03-09T16:00:00+24:00",
            "2024-03-09T16:00:00+0100",
            "2024-03-09T16:00:00Z ",
            "",
            "+024-03-09T16:00:00Z",
            "2024-03-09T16:00:61Z",
        ] {
            assert_eq!(millis(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn reads_dates_as_the_contract_says() {
        let date = |text| Date::parse(text);
        assert_eq!(date("2024-1-2"), date("2024-01-02"));
        assert_eq!(date("00002024-01-02"), date("+2024-+1-+02"));
        assert!(date("2024-02-29") > date("2024-02-28"));
        assert!(date("0-1-1").is_some());
        for wrong in [
            "2023-02-29",
            "-1-01-01",
            "10000-01-01",
            "2024-01",
            "2024-01-02-03",
            " 2024-01-02",
            "2024-13-01",
            "2024--1",
            "2024-00-01",
        ] {
            assert_eq!(date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_for_people_is_read_back_as_the_same_time() {
        for millis in [0, -1, 1, 951_782_400_000, 1_710_000_000_123, -62_167_219_200_000, 253_402_300_799_999] {
            let text = Timestamp::UnixMillis(millis).utc().unwrap();
            assert_eq!(Instant::parse(&text).map(Instant::unix_millis), Some(millis), "{text}");
        }
        for millis in [-62_167_219_200_001, 253_402_300_800_000, i64::MIN, i64::MAX] {
            assert_eq!(Timestamp::UnixMillis(millis).utc(), None, "{millis}");
        }
        assert_eq!(Timestamp::Logical(1).utc(), None);
    }

    #[test]
    fn civil_days_go_both_ways() {
        for days in (-719_528..2_932_897).step_by(97) {
            let (year, month, day) = Date::from_days(days);
            assert_eq!(Date::new(year, month, day), Some(Date { days }));
        }
    }

    #[test]
    fn reads_times_as_commands_take_them() {
        assert_eq!("logical:1".parse(), Ok(Timestamp::Logical(1)));
        assert_eq!("unix_millis:-5".parse(), Ok(Timestamp::UnixMillis(-5)));
        assert_eq!("2024-03-09T16:00:00Z".parse(), Ok(Timestamp::UnixMillis(1_710_000_000_000)));
        for wrong in ["1", "logical:-1", "logical:9007199254740992", "now", "unix_millis:1.5"] {
            assert!(wrong.parse::<Timestamp>().is_err(), "{wrong}");
        }
    }
}
