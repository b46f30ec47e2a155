//! The way between machines: can the first be reached, how fast, and do the clocks agree?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rocket_common::atomic;
use rocket_common::error::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Place;

/// How long an address is tried.
const LIMIT: Duration = Duration::from_secs(5);

/// The way to the first process's machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Net {
    /// Names and addresses that were tried in vain, and why.
    pub failed: Vec<String>,
    /// The name or address that answered.
    pub reached: Option<String>,
    /// Milliseconds of a round trip, the shortest of a few.
    pub round_trip_ms: Option<f64>,
    /// Seconds by which the first one's clock is ahead of this one's.
    pub clock_ahead_s: Option<f64>,
}

/// Where the first process listens.
#[derive(Debug, Serialize, Deserialize)]
struct Served {
    port: u16,
    names: Vec<String>,
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// Answers each byte with the time; of the first process. It ends with the process.
pub(super) fn serve(place: &Place) -> Result<Option<JoinHandle<()>>> {
    if place.rank != 0 {
        return Ok(None);
    }
    let failed = |error| Error::io("listen on", "0.0.0.0".as_ref(), error);
    let listener = TcpListener::bind("0.0.0.0:0").map_err(failed)?;
    let served = Served {
        port: listener.local_addr().map_err(failed)?.port(),
        names: names(),
    };
    atomic::write_json(&place.path("served.json"), &served)?;
    Ok(Some(std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    })))
}

/// What others may know this machine by, the best first.
fn names() -> Vec<String> {
    let full = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut names = vec![full.trim().to_owned()];
    for variable in ["SLURMD_NODENAME", "SLURM_LAUNCH_NODE_IPADDR"] {
        names.extend(std::env::var(variable));
    }
    names.retain(|name| !name.is_empty());
    names.dedup();
    names
}

fn answer(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&now().to_le_bytes()).is_ok() {}
}

/// Asks the first process; `None` for itself.
pub(super) fn measure(place: &Place) -> Option<Net> {
    if place.rank == 0 {
        return None;
    }
    let mut net = Net::default();
    let served: Served = match place
        .wait_for("served.json")
        .and_then(|()| atomic::read_json(&place.path("served.json")))
    {
        Ok(served) => served,
        Err(error) => {
            net.failed.push(error.to_string());
            return Some(net);
        }
    };
    for name in served.names {
        match ask(&name, served.port) {
            Ok((round_trip, ahead)) => {
                net.reached = Some(name);
                net.round_trip_ms = Some(round_trip * 1e3);
                net.clock_ahead_s = Some(ahead);
                break;
            }
            Err(error) => net.failed.push(format!("{name}: {error}")),
        }
    }
    Some(net)
}

/// Seconds of the shortest round trip, and by how much the other's clock is ahead.
fn ask(name: &str, port: u16) -> std::io::Result<(f64, f64)> {
    let addresses: Vec<SocketAddr> = (name, port).to_socket_addrs()?.collect();
    let mut last = std::io::Error::other("it has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, LIMIT) {
            Ok(stream) => return exchange(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn exchange(mut stream: TcpStream) -> std::io::Result<(f64, f64)> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut best = (f64::INFINITY, 0.0);
    for _ in 0..10 {
        let (clock, start) = (now(), Instant::now());
        stream.write_all(&[0])?;
        let mut time = [0; 8];
        stream.read_exact(&mut time)?;
        let seconds = start.elapsed().as_secs_f64();
        if seconds < best.0 {
            best = (seconds, f64::from_le_bytes(time) - (clock + seconds / 2.0));
        }
    }
    Ok(best)
}
