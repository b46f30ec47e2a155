//! Moments as people write them: `3d`, `12h`, `2026-01-31`, `2026-01-31 18:00`.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp};

/// So long ago, or a date and time, by the reader's clock if it names no zone.
///
/// # Errors
/// What is wanted, for people.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    at(text, Timestamp::now(), &TimeZone::system())
}

fn at(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(span) = text.parse::<Span>() {
        return span
            .abs()
            .to_duration(SpanRelativeTo::days_are_24_hours())
            .and_then(|ago| now.checked_sub(ago))
            .map_err(|_| format!("'{text}' is longer ago than can be counted in days and hours"));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    text.parse::<DateTime>()
        .and_then(|time| zone.to_timestamp(time))
        .map_err(|_| {
            format!(
                "'{text}' is neither a time ago, such as 3d or 12h, nor a date such as 2026-01-31"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_ago_or_at() {
        let now: Timestamp = "2026-03-04T12:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let read = |text: &str| at(text, now, &zone).map(|time| time.to_string());
        let ok = |text: &str| read(text).unwrap();
        assert_eq!(ok("3d"), "2026-03-01T12:00:00Z");
        assert_eq!(ok("90 minutes"), "2026-03-04T10:30:00Z");
        assert_eq!(ok("1w 2h"), "2026-02-25T10:00:00Z");
        assert_eq!(ok("2026-03-01"), "2026-02-28T22:00:00Z");
        assert_eq!(ok("2026-03-01 08:30"), "2026-03-01T06:30:00Z");
        assert_eq!(ok("2026-03-01T08:30Z"), "2026-03-01T08:30:00Z");
        assert!(read("yesterday").unwrap_err().contains("such as 3d"));
        assert!(read("1y").is_err());
    }
}
