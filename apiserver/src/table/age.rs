//! How long ago, as people say it: `5m30s`, `3d4h`.
//!
//! Mirrors `HumanDuration` of `k8s.io/apimachinery/pkg/util/duration`: two units while the first
//! is small, one when it is large.

use jiff::Timestamp;
use serde_json::Value;

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
const DAY_S: i64 = 24 * HOUR_S;
const YEAR_S: i64 = 365 * DAY_S;

/// The time since an RFC 3339 timestamp, `<unknown>` if there is none.
pub(super) fn since(timestamp: &Value, now: Timestamp) -> String {
    parse(timestamp).map_or_else(|| "<unknown>".into(), |then| human(now.as_second() - then))
}

/// Seconds since 1970.
pub(super) fn parse(timestamp: &Value) -> Option<i64> {
    timestamp.as_str()?.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

pub(super) fn human(seconds: i64) -> String {
    let pair = |unit_s: i64, unit: char, rest_s: i64, rest: char| {
        let (whole, part) = (seconds / unit_s, seconds % unit_s / rest_s);
        if part == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{part}{rest}") }
    };
    match seconds {
        // Two clocks may differ a little; more than that is not an age.
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if seconds < 10 * MINUTE_S => pair(MINUTE_S, 'm', 1, 's'),
        _ if seconds < 3 * HOUR_S => format!("{}m", seconds / MINUTE_S),
        _ if seconds < 8 * HOUR_S => pair(HOUR_S, 'h', MINUTE_S, 'm'),
        _ if seconds < 2 * DAY_S => format!("{}h", seconds / HOUR_S),
        _ if seconds < 8 * DAY_S => pair(DAY_S, 'd', HOUR_S, 'h'),
        _ if seconds < 2 * YEAR_S => format!("{}d", seconds / DAY_S),
        _ if seconds < 8 * YEAR_S => pair(YEAR_S, 'y', DAY_S, 'd'),
        _ => format!("{}y", seconds / YEAR_S),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_upstreams() {
        for (seconds, text) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * HOUR_S - 1, "179m"),
            (3 * HOUR_S, "3h"),
            (3 * HOUR_S + 61, "3h1m"),
            (8 * HOUR_S + 61, "8h"),
            (2 * DAY_S - 1, "47h"),
            (2 * DAY_S, "2d"),
            (3 * DAY_S + 5 * HOUR_S, "3d5h"),
            (8 * DAY_S + 5 * HOUR_S, "8d"),
            (2 * YEAR_S - 1, "729d"),
            (2 * YEAR_S + DAY_S, "2y1d"),
            (9 * YEAR_S + DAY_S, "9y"),
        ] {
            assert_eq!(human(seconds), text, "{seconds}");
        }
    }
}
