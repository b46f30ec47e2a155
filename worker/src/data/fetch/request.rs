//! One request: everything that servers do wrong becomes a [`Failure`], and nothing that they send is
//! taken on trust.

use std::error::Error as StdError;
use std::io::Read;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use super::address::{Guard, PrivateAddress, Reach, check_literal};
use super::cause::{Cause, Failure};

/// What is asked for, and how long.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestOptions {
    /// Longest time from the request to the last byte.
    pub timeout: Duration,
    /// Most bytes of an image.
    pub max_bytes: u64,
    /// Where requests may go.
    pub reach: Reach,
    /// How we call ourselves.
    pub user_agent: String,
}

/// What came of a request.
pub(super) enum Answer {
    /// The bytes of what was asked for.
    Body(Vec<u8>),
    /// It is elsewhere.
    Moved(Url),
    /// Nothing, and when the host wants to be asked again, if it said so.
    Failed(Failure, Option<Duration>),
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure, None)
    }
}

/// A client that follows no redirects by itself, since each must be judged and queued at its own host.
pub(super) fn client(reach: Reach, user_agent: &str, connections: usize) -> Result<Client> {
    Client::builder()
        .redirect(Policy::none())
        .dns_resolver(std::sync::Arc::new(Guard::new(reach)))
        .connect_timeout(Duration::from_secs(10))
        .pool_max_idle_per_host(connections)
        // Of a hundred thousand hosts most are asked once.
        .pool_idle_timeout(Duration::from_secs(4))
        .user_agent(user_agent)
        .build()
        .map_err(|error| {
            Error::new(
                ExitKind::Usage,
                format!("cannot prepare requests: {}", chain(&error)),
            )
        })
}

/// Asks for an image, once.
pub(super) async fn ask(client: &Client, url: &Url, options: &RequestOptions) -> Answer {
    if let Err(private) = check_literal(url, options.reach) {
        return Failure::new(Cause::Private, private.to_string()).into();
    }
    match tokio::time::timeout(options.timeout, exchange(client, url, options)).await {
        Ok(answer) => answer,
        Err(_) => Failure::new(
            Cause::Timeout,
            format!("after {} s", options.timeout.as_secs_f64()),
        )
        .into(),
    }
}

async fn exchange(client: &Client, url: &Url, options: &RequestOptions) -> Answer {
    let request = client
        .get(url.clone())
        .header(ACCEPT, "image/*,*/*;q=0.5")
        .header(ACCEPT_ENCODING, "identity");
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return judge(&error).into(),
    };
    let status = response.status();
    if status.is_redirection() {
        return moved(url, response.headers(), status.as_u16());
    }
    if !status.is_success() {
        let failure = Failure::new(Cause::Status(status.as_u16()), "");
        return Answer::Failed(failure, retry_after(response.headers()));
    }
    if let Err(failure) = judge_headers(response.headers()) {
        return failure.into();
    }
    let encoding = header(response.headers(), CONTENT_ENCODING.as_str());
    let body = match body(response, options.max_bytes).await {
        Ok(body) => body,
        Err(failure) => return failure.into(),
    };
    match decompress(body, encoding.as_deref(), options.max_bytes) {
        Ok(body) => Answer::Body(body),
        Err(failure) => failure.into(),
    }
}

fn moved(from: &Url, headers: &HeaderMap, status: u16) -> Answer {
    let to = header(headers, LOCATION.as_str()).and_then(|to| from.join(&to).ok());
    match to {
        Some(to) if is_web(&to) => Answer::Moved(to),
        Some(to) => Failure::new(Cause::Redirects, format!("to a {} address", to.scheme())).into(),
        None => Failure::new(Cause::Redirects, format!("{status} without a place to go")).into(),
    }
}

/// Whether an address is one that is asked: http or https, with a host.
pub(super) fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty())
}

fn judge_headers(headers: &HeaderMap) -> Result<(), Failure> {
    let robots = headers.get_all("x-robots-tag").iter();
    let robots: Vec<&str> = robots.filter_map(|value| value.to_str().ok()).collect();
    for directive in robots.iter().flat_map(|value| value.split([',', ':'])) {
        let directive = directive.trim().to_ascii_lowercase();
        if matches!(directive.as_str(), "noai" | "noimageai") {
            return Err(Failure::new(Cause::OptedOut, directive));
        }
    }
    // Some servers have no idea of types; their bytes are judged.
    let Some(kind) = header(headers, CONTENT_TYPE.as_str()) else {
        return Ok(());
    };
    let kind = kind.split(';').next().unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    let unknown = [
        "",
        "application/octet-stream",
        "binary/octet-stream",
        "application/x-download",
        "application/force-download",
    ];
    if kind.starts_with("image/") || unknown.contains(&kind.as_str()) {
        return Ok(());
    }
    let kind: String = kind.chars().take(60).collect();
    Err(Failure::new(Cause::ContentType, kind))
}

/// The body, if it has not too many bytes and as many as it promised.
async fn body(mut response: Response, max_bytes: u64) -> Result<Vec<u8>, Failure> {
    let too_large =
        |length: u64| Failure::new(Cause::TooLarge, format!("{length} bytes, of {max_bytes}"));
    let promised = response.content_length();
    if let Some(length) = promised.filter(|&length| length > max_bytes) {
        return Err(too_large(length));
    }
    // What a server promises reserves no memory.
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let length = body.len() as u64 + chunk.len() as u64;
                if length > max_bytes {
                    return Err(too_large(length));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(None) => break,
            Err(error) => {
                let failure = judge(&error);
                let cause = match failure.cause {
                    Cause::Connection => Cause::Cut,
                    other => other,
                };
                return Err(Failure {
                    cause,
                    detail: format!("after {} bytes: {}", body.len(), failure.detail),
                });
            }
        }
    }
    if let Some(promised) = promised.filter(|&promised| promised != body.len() as u64) {
        let detail = format!("after {} of {promised} bytes", body.len());
        return Err(Failure::new(Cause::Cut, detail));
    }
    Ok(body)
}

/// Undoes a compression that we did not ask for, within the limit.
fn decompress(body: Vec<u8>, encoding: Option<&str>, max_bytes: u64) -> Result<Vec<u8>, Failure> {
    let encoding = encoding.unwrap_or_default().trim().to_ascii_lowercase();
    let mut plain = Vec::new();
    let limit = max_bytes.saturating_add(1);
    let result = match encoding.as_str() {
        "" | "identity" => return Ok(body),
        "gzip" | "x-gzip" => flate2::read::MultiGzDecoder::new(body.as_slice())
            .take(limit)
            .read_to_end(&mut plain),
        "deflate" => flate2::read::ZlibDecoder::new(body.as_slice())
            .take(limit)
            .read_to_end(&mut plain),
        other => {
            let other: String = other.chars().take(30).collect();
            return Err(Failure::new(Cause::Encoding, other));
        }
    };
    if let Err(error) = result {
        return Err(Failure::new(
            Cause::Encoding,
            format!("{encoding}: {error}"),
        ));
    }
    if plain.len() as u64 > max_bytes {
        let detail = format!("more than {max_bytes} bytes when unpacked");
        return Err(Failure::new(Cause::TooLarge, detail));
    }
    Ok(plain)
}

/// What a failed exchange means.
pub(super) fn judge(error: &reqwest::Error) -> Failure {
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    let mut words = String::new();
    let mut not_tls = false;
    while let Some(cause) = source {
        if let Some(private) = cause.downcast_ref::<PrivateAddress>() {
            return Failure::new(Cause::Private, private.to_string());
        }
        let io = cause.downcast_ref::<std::io::Error>();
        // How a peer that speaks no TLS, or has a bad certificate, is reported.
        not_tls |= io.is_some_and(|io| io.kind() == std::io::ErrorKind::InvalidData);
        words = cause.to_string();
        source = cause.source();
    }
    let all = chain(error).to_ascii_lowercase();
    let cause = if error.is_timeout() {
        Cause::Timeout
    } else if error.is_builder() {
        Cause::Url
    } else if all.contains("dns error") {
        Cause::Name
    } else if error.is_connect() && (not_tls || all.contains("tls")) {
        Cause::Tls
    } else {
        Cause::Connection
    };
    Failure::new(cause, words)
}

/// An error and what is behind it, without the address.
pub(super) fn chain(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push(cause.to_string());
        source = cause.source();
    }
    if words.is_empty() {
        return error.to_string();
    }
    words.join(": ")
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// What `Retry-After` asks for: seconds or a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = header(headers, RETRY_AFTER.as_str())?;
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    at.duration_since(jiff::Timestamp::now()).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a header"));
        headers
    }

    #[test]
    fn pauses_are_read_as_seconds_and_as_dates() {
        let of = |value: &str| retry_after(&headers("retry-after", value));
        assert_eq!(of("17"), Some(Duration::from_secs(17)));
        assert!(of("Fri, 31 Dec 2100 23:59:59 GMT").is_some_and(|pause| pause.as_secs() > 1 << 30));
        assert_eq!(of("Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert_eq!(of("soon"), None);
    }

    #[test]
    fn types_and_wishes_are_judged() {
        let of = |name, value| judge_headers(&headers(name, value)).map_err(|why| why.cause);
        assert_eq!(of("content-type", "image/jpeg; charset=binary"), Ok(()));
        assert_eq!(of("content-type", "APPLICATION/OCTET-STREAM"), Ok(()));
        assert_eq!(of("content-type", "text/html"), Err(Cause::ContentType));
        assert_eq!(of("x-robots-tag", "noarchive, NoAI"), Err(Cause::OptedOut));
        assert_eq!(of("x-robots-tag", "bot: noimageai"), Err(Cause::OptedOut));
        assert_eq!(of("x-robots-tag", "noindex"), Ok(()));
    }
}
