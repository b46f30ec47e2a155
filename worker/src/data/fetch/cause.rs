//! Why an image of a list was not fetched: what is counted, and whether asking again can help.

use std::fmt;

/// Why a row of a list has no image. The name is what the journal and the reports say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The line of the list is no caption with an address.
    Line,
    /// The address is none that can be asked.
    Url,
    /// The address belongs to a private network or to this machine.
    Private,
    /// The host's name is not known.
    Name,
    /// No connection could be made, or it was broken off before an answer.
    Connection,
    /// The connection cannot be trusted, or speaks no TLS.
    Tls,
    /// Nothing came in time, or not all.
    Timeout,
    /// The server answered with an error.
    Status(u16),
    /// It redirected too often, or nowhere.
    Redirects,
    /// Whoever publishes it wants no use of this kind (`X-Robots-Tag`).
    OptedOut,
    /// It says that it is something other than an image.
    ContentType,
    /// It has more bytes than are allowed.
    TooLarge,
    /// The connection ended inside of the body.
    Cut,
    /// It is compressed in a way that is not read, or not truly.
    Encoding,
    /// The bytes are no image of a kind that is read.
    NotAnImage,
    /// The image is damaged or ends early.
    Broken,
    /// The image has more pixels than are read.
    TooManyPixels,
    /// The image is smaller than asked for.
    TooSmall,
}

impl Cause {
    const NAMED: [(Self, &'static str, &'static str); 17] = [
        (Self::Line, "line", "the list's line is broken"),
        (Self::Url, "url", "the address is none of http or https"),
        (
            Self::Private,
            "private",
            "the address is private or this machine's",
        ),
        (Self::Name, "name", "the host's name is not known"),
        (Self::Connection, "connection", "no connection"),
        (Self::Tls, "tls", "no trusted connection"),
        (Self::Timeout, "timeout", "no answer in time"),
        (Self::Redirects, "redirects", "too many redirects"),
        (
            Self::OptedOut,
            "opted_out",
            "published with the wish not to be trained on",
        ),
        (Self::ContentType, "content_type", "not served as an image"),
        (Self::TooLarge, "too_large", "more bytes than allowed"),
        (Self::Cut, "cut", "the connection ended in the body"),
        (
            Self::Encoding,
            "encoding",
            "compressed in a way that is not read",
        ),
        (Self::NotAnImage, "not_an_image", "the bytes are no image"),
        (Self::Broken, "broken", "the image is damaged or ends early"),
        (
            Self::TooManyPixels,
            "too_many_pixels",
            "more pixels than are read",
        ),
        (Self::TooSmall, "too_small", "smaller than asked for"),
    ];

    /// Whether another try may end differently.
    #[must_use]
    pub fn may_pass(self) -> bool {
        match self {
            Self::Name | Self::Connection | Self::Timeout | Self::Cut => true,
            Self::Status(code) => matches!(code, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// For people.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::Status(code) => {
                let reason = reqwest::StatusCode::from_u16(code)
                    .ok()
                    .and_then(|status| status.canonical_reason());
                format!("answered {code} {}", reason.unwrap_or_default())
                    .trim_end()
                    .to_owned()
            }
            other => named(other).map_or_else(String::new, |(_, _, words)| (*words).to_owned()),
        }
    }

    /// The cause of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some(code) = name.strip_prefix("http_") {
            return code.parse().ok().map(Self::Status);
        }
        Self::NAMED
            .iter()
            .find(|(_, known, _)| *known == name)
            .map(|(cause, _, _)| *cause)
    }
}

fn named(cause: Cause) -> Option<&'static (Cause, &'static str, &'static str)> {
    Cause::NAMED.iter().find(|(known, _, _)| *known == cause)
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "http_{code}"),
            other => f.write_str(named(*other).map_or("", |(_, name, _)| name)),
        }
    }
}

/// A cause with what is known of the one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is counted.
    pub cause: Cause,
    /// In words, without the address.
    pub detail: String,
}

impl Failure {
    pub(super) fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self {
            cause,
            detail: detail.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for (cause, name, words) in Cause::NAMED {
            assert_eq!(cause.to_string(), name);
            assert_eq!(Cause::from_name(name), Some(cause));
            assert_eq!(cause.words(), words);
        }
        let status = Cause::Status(404);
        assert_eq!(status.to_string(), "http_404");
        assert_eq!(Cause::from_name("http_404"), Some(status));
        assert_eq!(status.words(), "answered 404 Not Found");
        assert_eq!(Cause::Status(799).words(), "answered 799");
        assert_eq!(Cause::from_name("ok"), None);
        assert_eq!(Cause::from_name("http_x"), None);
    }

    #[test]
    fn what_may_pass_is_asked_again() {
        let again: Vec<u16> = (100..600)
            .filter(|&code| Cause::Status(code).may_pass())
            .collect();
        assert_eq!(again[..4], [408, 425, 429, 500]);
        assert!(!Cause::Broken.may_pass() && Cause::Timeout.may_pass());
    }
}
