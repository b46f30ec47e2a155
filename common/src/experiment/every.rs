//! Spacings in steps or minutes.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

/// A spacing of checkpoints, written `500`, `500 steps` or `10 minutes`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(into = "String")]
pub enum Every {
    /// Optimiser steps, at least 1.
    Steps(u64),
    /// Minutes of wall time, more than 0.
    Minutes(f64),
}

/// What a spacing must be.
const EXPECTED: &str = "a spacing such as '500 steps' or '10 minutes'";

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps} steps"),
            Self::Minutes(minutes) => write!(f, "{minutes} minutes"),
        }
    }
}

impl From<Every> for String {
    fn from(every: Every) -> Self {
        every.to_string()
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let number_ends = trimmed
            .find(|c: char| c.is_whitespace() || (c.is_alphabetic() && c != 'e'))
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(number_ends);
        let steps = || number.parse().ok().filter(|steps| *steps > 0);
        let positive = |value: &f64| *value > 0.0 && value.is_finite();
        let number = || number.parse().ok().filter(positive);
        match unit.trim() {
            "" | "step" | "steps" => steps().map(Self::Steps),
            "minute" | "minutes" | "min" => number().map(Self::Minutes),
            "hour" | "hours" | "h" => number().map(|hours| Self::Minutes(hours * 60.0)),
            _ => None,
        }
        .ok_or_else(|| format!("must be {EXPECTED}, not '{text}'"))
    }
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StepsOrText;

        impl Visitor<'_> for StepsOrText {
            type Value = Every;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_u64<E: Error>(self, steps: u64) -> Result<Every, E> {
                match steps {
                    0 => Err(E::invalid_value(Unexpected::Unsigned(0), &self)),
                    _ => Ok(Every::Steps(steps)),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Every, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(StepsOrText)
    }
}
