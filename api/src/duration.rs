//! Go's durations, as configuration files and flags spell them: `15s`, `1m30s`, `0.5h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A `metav1.Duration`: nanoseconds, possibly negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(i64);

impl GoDuration {
    /// So many seconds.
    pub const fn from_secs(seconds: u32) -> Self {
        Self(seconds as i64 * SECOND)
    }

    /// Whether it is zero or less.
    pub const fn is_zero_or_less(self) -> bool {
        self.0 <= 0
    }

    /// Whether it is less than zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// As `std` has it; a negative one is zero.
    pub const fn to_std(self) -> Duration {
        Duration::from_nanos(if self.0 < 0 { 0 } else { self.0.unsigned_abs() })
    }
}

/// As `time.ParseDuration` refuses it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a number with a unit, or too long a time.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number alone.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that is none.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// All of it.
        text: String,
    },
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError::Invalid(text.to_owned());
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if unsigned == "0" {
            return Ok(Self(0));
        }
        let mut rest = unsigned;
        let mut total = 0_i64;
        while !rest.is_empty() || unsigned.is_empty() {
            let number = rest.find(|c: char| c != '.' && !c.is_ascii_digit());
            let (number, tail) = rest.split_at(number.unwrap_or(rest.len()));
            let end = tail.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let part = nanoseconds(number, unit, text)?;
            total = total.checked_add(part).ok_or_else(invalid)?;
            rest = tail;
        }
        Ok(Self(if negative { -total } else { total }))
    }
}

/// One number with its unit. The fraction is cut below a nanosecond.
fn nanoseconds(number: &str, unit: &str, text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(invalid());
    }
    let scale = match unit {
        "" => return Err(DurationError::MissingUnit(text.to_owned())),
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        unit => {
            let (unit, text) = (unit.to_owned(), text.to_owned());
            return Err(DurationError::UnknownUnit { unit, text });
        }
    };
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
    let (mut below, mut unit) = (0_i64, scale);
    for digit in fraction.bytes() {
        unit /= 10;
        below += i64::from(digit - b'0') * unit;
    }
    whole.checked_mul(scale).and_then(|n| n.checked_add(below)).ok_or_else(invalid)
}

impl fmt::Display for GoDuration {
    /// As Go prints it: `1m30s`, `500ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let with_unit = |f: &mut fmt::Formatter<'_>, unit: u64, name: &str| {
            let (whole, below) = (nanoseconds / unit, nanoseconds % unit);
            if below == 0 {
                return write!(f, "{whole}{name}");
            }
            let digits = unit.ilog10() as usize;
            let below = format!("{below:0digits$}");
            write!(f, "{whole}.{}{name}", below.trim_end_matches('0'))
        };
        match nanoseconds {
            0 => f.write_str("0s"),
            1..1_000 => with_unit(f, 1, "ns"),
            1_000..1_000_000 => with_unit(f, 1_000, "µs"),
            1_000_000..1_000_000_000 => with_unit(f, 1_000_000, "ms"),
            _ => {
                let minutes = nanoseconds / MINUTE;
                match (minutes / 60, minutes % 60) {
                    (0, 0) => {}
                    (0, minutes) => write!(f, "{minutes}m")?,
                    (hours, minutes) => write!(f, "{hours}h{minutes}m")?,
                }
                let seconds = Self::from_below_a_minute(nanoseconds % MINUTE);
                write!(f, "{seconds}")
            }
        }
    }
}

impl GoDuration {
    /// The last part of a printed duration, always in seconds.
    fn from_below_a_minute(nanoseconds: u64) -> String {
        let (whole, below) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
        if below == 0 {
            return format!("{whole}s");
        }
        format!("{whole}.{}s", format!("{below:09}").trim_end_matches('0'))
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // A null or absent one is Go's zero value.
        if text.is_empty() {
            return Ok(Self(0));
        }
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const SECOND: i64 = 1_000_000_000;
const MINUTE: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_go_reads_them() {
        for (text, printed) in [
            ("0", "0s"),
            ("0s", "0s"),
            ("15s", "15s"),
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("1.5h", "1h30m0s"),
            ("100ms", "100ms"),
            ("1m0.5s", "1m0.5s"),
            (".5s", "500ms"),
            ("1s500ms", "1.5s"),
            ("3us", "3µs"),
            ("-2s", "-2s"),
            ("+2s", "2s"),
            ("2562047h47m16.854775807s", "2562047h47m16.854775807s"),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), printed, "{text}");
        }
    }

    #[test]
    fn as_go_refuses_them() {
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("5", "time: missing unit in duration \"5\""),
            ("s", "time: invalid duration \"s\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            ("5 s", "time: unknown unit \" s\" in duration \"5 s\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
            ("soon", "time: invalid duration \"soon\""),
        ] {
            assert_eq!(text.parse::<GoDuration>().unwrap_err().to_string(), error, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(nanoseconds in any::<i64>().prop_filter("abs", |n| *n > i64::MIN)) {
            let duration = GoDuration(nanoseconds);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,20}") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
