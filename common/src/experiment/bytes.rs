//! Amounts of memory.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount of memory, at least 1 byte, written `8GB`, `500 MB` or `1.5 GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub u64);

/// Units, the larger first; powers of 1000 as in SI and of 1024 as in IEC 80000-13.
const UNITS: [(&str, u64); 8] = [
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("kib", 1 << 10),
    ("kb", 1_000),
];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "kB"];
        let whole = UNITS
            .iter()
            .zip(names)
            .find(|((_, unit), _)| self.0.is_multiple_of(*unit) && self.0 > 0);
        match whole {
            Some(((_, unit), name)) => write!(f, "{} {name}", self.0 / unit),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        bytes.to_string()
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.trim().to_ascii_lowercase();
        let ends = lower
            .find(|c: char| c.is_whitespace() || c.is_alphabetic())
            .unwrap_or(lower.len());
        let (number, unit) = lower.split_at(ends);
        let unit = match unit.trim() {
            "b" => Some(1),
            unit => UNITS
                .into_iter()
                .find_map(|(known, bytes)| (known == unit).then_some(bytes)),
        };
        let number = number.parse::<f64>().ok().filter(|n| n.is_finite());
        let bytes = match (number, unit) {
            (Some(number), Some(unit)) => number * unit as f64,
            _ => 0.0,
        };
        if !(1.0..=9e18).contains(&bytes) {
            return Err(format!(
                "must be an amount of memory such as '8 GB' or '500 MiB', not '{text}'"
            ));
        }
        Ok(Self(bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_come_back_as_they_were() {
        for (text, bytes, shown) in [
            ("8GB", 8_000_000_000, "8 GB"),
            ("1.5 GiB", 3 << 29, "1536 MiB"),
            ("500 mb", 500_000_000, "500 MB"),
            ("7 B", 7, "7 B"),
        ] {
            let parsed: Bytes = text.parse().expect("an amount");
            assert_eq!((parsed.0, parsed.to_string().as_str()), (bytes, shown));
            assert_eq!(shown.parse::<Bytes>(), Ok(parsed));
        }
        for wrong in ["", "8", "GB", "-1 GB", "0 GB", "inf GB", "8 XB"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
    }
}
