//! Which addresses are asked. A list comes from strangers: without the user's word nothing in it may
//! lead into the machine's own or a private network (server-side request forgery).

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Where requests may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To addresses of the public internet alone.
    Public,
    /// Anywhere.
    Any,
}

/// The host of an address is known, but private.
#[derive(Debug, thiserror::Error)]
#[error("{host} has the address {address}, which is not of the public internet")]
pub(super) struct PrivateAddress {
    host: String,
    address: IpAddr,
}

/// Whether an address is one of the public internet: the registries of special addresses of IANA
/// (RFC 6890 and what followed) without those that are globally reachable.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        // Shared address space of providers, IETF protocol assignments, benchmarking.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // An IPv4 address in the clothes of IPv6: mapped, of NAT64 (64:ff9b::/96), of 6to4 (2002::/16).
    let segments = address.segments();
    let low = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, h, l] | [0x64, 0xff9b, 0, 0, 0, 0, h, l] => low(h, l),
        [0x2002, h, l, ..] => low(h, l),
        // Of global unicast (2000::/3), without documentation and the protocols of 2001::/23.
        [first, second, ..] => {
            (0x2000..0x4000).contains(&first)
                && !(first == 0x2001 && (second < 0x200 || second == 0xdb8))
                && !(first == 0x3fff && second < 0x1000)
        }
    }
}

/// Whether an address that is written as a number is private; a name is judged when it is resolved.
pub(super) fn check_literal(url: &Url, reach: Reach) -> Result<(), PrivateAddress> {
    let Some(host) = url.host_str().filter(|_| reach == Reach::Public) else {
        return Ok(());
    };
    let number = host.trim_start_matches('[').trim_end_matches(']');
    match number.parse::<IpAddr>() {
        Ok(address) if !is_public(address) => Err(PrivateAddress {
            host: host.to_owned(),
            address,
        }),
        _ => Ok(()),
    }
}

/// Resolves names, and refuses those of private addresses. What was checked is what is connected to.
pub(super) struct Guard {
    reach: Reach,
    /// Hosts of the environment's proxies, which are the user's own word.
    proxies: Arc<HashSet<String>>,
}

impl Guard {
    pub(super) fn new(reach: Reach) -> Self {
        let names = ["http_proxy", "https_proxy", "all_proxy"];
        let proxies = names
            .into_iter()
            .flat_map(|name| [name.to_owned(), name.to_uppercase()])
            .filter_map(|name| std::env::var(name).ok())
            .filter_map(|value| {
                let value = if value.contains("://") {
                    value
                } else {
                    format!("http://{value}")
                };
                Url::parse(&value).ok()?.host_str().map(str::to_owned)
            })
            .collect();
        Self {
            reach,
            proxies: Arc::new(proxies),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let any = self.reach == Reach::Any || self.proxies.contains(&host);
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || {
                let found: Vec<SocketAddr> = (host.as_str(), 0).to_socket_addrs()?.collect();
                let private = found.iter().find(|address| !is_public(address.ip()));
                match private {
                    // One private address among public ones is no accident either.
                    Some(address) if !any => Err(PrivateAddress {
                        host: host.clone(),
                        address: address.ip(),
                    }
                    .into()),
                    _ => Ok::<_, Box<dyn std::error::Error + Send + Sync>>(found),
                }
            })
            .await??;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public() {
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
            "::7f00:1",
        ] {
            assert!(
                !is_public(private.parse().expect("an address")),
                "{private}"
            );
        }
        for public in [
            "1.1.1.1",
            "100.63.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
    }

    #[test]
    fn numbers_are_judged_however_they_are_written() {
        // The URL standard reads all of these as 127.0.0.1.
        for url in [
            "http://127.0.0.1/a",
            "http://127.1/a",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://[::1]:8080/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            let url = Url::parse(url).expect("an address");
            assert!(check_literal(&url, Reach::Public).is_err(), "{url}");
            assert!(check_literal(&url, Reach::Any).is_ok());
        }
        let name = Url::parse("http://example.org/").expect("an address");
        assert!(check_literal(&name, Reach::Public).is_ok());
    }
}
