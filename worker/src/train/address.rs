//! The address by which other ranks reach this one.
//!
//! A machine has several: the loopback, one per network, and the one that its host name resolves to,
//! which on many systems is a loopback address as well. The right one is that from which the ranks'
//! meeting place is reached, as the kernel's routes say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use anyhow::Result;
use tch_distributed::{GlooOptions, Store};

use crate::rank::RankContext;

/// torch's own variable: the interface that Gloo talks over.
const INTERFACE: &str = "GLOO_SOCKET_IFNAME";

/// Chooses what this rank's peers connect to: the interface that `GLOO_SOCKET_IFNAME` names, else the
/// local address from which `master` is reached.
///
/// On the machine of rank 0 that address may be a loopback one, since `master` is the machine itself.
/// Then it is the local address from which some rank elsewhere is reached, if there is one: ranks tell
/// each other through the store.
///
/// # Errors
/// When the store is gone.
pub(super) fn choose(
    master: &str,
    context: &RankContext,
    store: &Store,
    options: GlooOptions,
) -> Result<GlooOptions> {
    let interface = std::env::var(INTERFACE).unwrap_or_default();
    // torch allows a list; one is enough.
    let interface = interface.split(',').next().unwrap_or_default().trim();
    let route = if interface.is_empty() {
        towards(master)
    } else {
        None
    };
    let key = |rank: u32| format!("address/{}/{rank}", context.attempt);
    let told = route.map_or_else(String::new, |address| address.to_string());
    store.set(&key(context.rank), told.as_bytes())?;
    if !interface.is_empty() {
        return Ok(options.interface(interface));
    }
    let own = match route {
        Some(address) if !address.is_loopback() => Some(address),
        _ => {
            let mut elsewhere = None;
            for rank in (0..context.world_size).filter(|rank| *rank != context.rank) {
                let address = String::from_utf8(store.get(&key(rank))?).unwrap_or_default();
                if let Ok(address) = address.parse::<IpAddr>()
                    && !address.is_loopback()
                {
                    elsewhere = local_towards(SocketAddr::new(address, 9));
                    break;
                }
            }
            elsewhere.or(route)
        }
    };
    Ok(match own {
        Some(own) => options.address(own.to_string()),
        None => options,
    })
}

/// The local address from which a host, by name or in digits, is reached.
fn towards(host: &str) -> Option<IpAddr> {
    // The port plays no part in the route.
    (host, 9).to_socket_addrs().ok()?.find_map(local_towards)
}

/// The local address of the route to `peer`. Connecting a UDP socket sends nothing: it only makes the
/// kernel choose (udp(7)).
fn local_towards(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    let own = socket.local_addr().ok()?.ip();
    // A link-local address means nothing without its interface.
    let usable = match own {
        IpAddr::V4(own) => !own.is_unspecified(),
        IpAddr::V6(own) => !own.is_unspecified() && !own.is_unicast_link_local(),
    };
    usable.then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_found_without_a_packet() {
        let own = towards("127.0.0.2").expect("the loopback is there");
        assert!(own.is_loopback(), "{own}");
        assert_eq!(towards("no.such.host.invalid"), None);
        if let Some(own) = towards("::1") {
            assert!(own.is_loopback(), "{own}");
        }
    }
}
