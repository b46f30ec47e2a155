//! A web server on loopback that fails in the ways in which servers fail, and remembers who asked what.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What is answered to a request.
pub(crate) enum Reply {
    /// Status, headers and body, with the body's length.
    Page(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// These bytes and nothing else, not even a status; then the connection ends.
    Raw(Vec<u8>),
    /// The first bytes, and then one byte now and then without end.
    Dribble(Vec<u8>),
    /// The first bytes, and then the same bytes again and again as fast as they are taken.
    Flood(Vec<u8>, Vec<u8>),
    /// Nothing, ever.
    Silence,
}

impl Reply {
    pub(crate) fn ok(kind: &str, body: &[u8]) -> Self {
        Self::Page(200, vec![("content-type", kind.to_owned())], body.to_vec())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::Page(status, Vec::new(), b"<html>no</html>".to_vec())
    }

    pub(crate) fn to(place: &str) -> Self {
        Self::Page(302, vec![("location", place.to_owned())], Vec::new())
    }
}

/// A request, as far as anybody wants to know.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// The `Host` header without the port.
    pub(crate) host: String,
    /// Where a `Range` header begins.
    pub(crate) start: Option<u64>,
    /// How many asked for this path before.
    pub(crate) before: usize,
    pub(crate) at: Instant,
}

type Pages = dyn Fn(&Request) -> Reply + Send + Sync;

struct Shared {
    pages: Box<Pages>,
    hold: Duration,
    stop: AtomicBool,
    seen: Mutex<Vec<Request>>,
    /// Requests under way by host, and the most that there ever were.
    busy: Mutex<HashMap<String, (usize, usize)>>,
}

/// A running server; it ends when it is dropped.
pub(crate) struct Server {
    port: u16,
    shared: Arc<Shared>,
}

impl Server {
    /// Answers each request after `hold` with what `pages` says.
    pub(crate) fn new(
        hold: Duration,
        pages: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            pages: Box::new(pages),
            hold,
            stop: AtomicBool::new(false),
            seen: Mutex::default(),
            busy: Mutex::default(),
        });
        let server = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if server.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let server = Arc::clone(&server);
                // A client that goes away is no business of the server's.
                std::thread::spawn(move || drop(server.serve(&stream)));
            }
        });
        Self { port, shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().expect("no thread panicked").clone()
    }

    /// How often each path was asked for.
    pub(crate) fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for request in self.seen() {
            *counts.entry(request.path).or_default() += 1;
        }
        counts
    }

    /// The most requests that were under way at a time, by host.
    pub(crate) fn busiest(&self) -> HashMap<String, usize> {
        let busy = self.shared.busy.lock().expect("no thread panicked");
        busy.iter()
            .map(|(host, (_, most))| (host.clone(), *most))
            .collect()
    }
}

/// The port of a server that resets every connection, since it closes them without reading what it was
/// sent. It lives as long as the process.
pub(crate) fn resetting() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.peek(&mut [0]);
        }
    });
    port
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let (mut host, mut start) = (String::new(), None);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let Some((name, value)) = line.trim().split_once(':') else {
                    break;
                };
                match name.to_ascii_lowercase().as_str() {
                    "host" => {
                        let value = value.trim();
                        host = value.split(':').next().unwrap_or_default().to_owned();
                    }
                    "range" => {
                        let value = value.trim().trim_start_matches("bytes=");
                        start = value.trim_end_matches('-').parse().ok();
                    }
                    _ => {}
                }
            }
            let request = {
                let mut seen = self.seen.lock().expect("no thread panicked");
                let before = seen.iter().filter(|request| request.path == path).count();
                let request = Request {
                    path,
                    host,
                    start,
                    before,
                    at: Instant::now(),
                };
                seen.push(request.clone());
                request
            };
            self.count(&request.host, true);
            std::thread::sleep(self.hold);
            let result = self.answer(stream, (self.pages)(&request));
            self.count(&request.host, false);
            if !result? {
                return Ok(());
            }
        }
    }

    fn count(&self, host: &str, begins: bool) {
        let mut busy = self.busy.lock().expect("no thread panicked");
        let (now, most) = busy.entry(host.to_owned()).or_default();
        if begins {
            *now += 1;
            *most = (*most).max(*now);
        } else {
            *now -= 1;
        }
    }

    /// Whether the connection can be used again.
    fn answer(&self, mut stream: &TcpStream, reply: Reply) -> std::io::Result<bool> {
        match reply {
            Reply::Page(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str("\r\n");
                stream.write_all(head.as_bytes())?;
                stream.write_all(&body)?;
                Ok(true)
            }
            Reply::Raw(bytes) => {
                stream.write_all(&bytes)?;
                stream.shutdown(Shutdown::Both)?;
                Ok(false)
            }
            Reply::Dribble(head) => {
                stream.write_all(&head)?;
                while !self.stop.load(Ordering::SeqCst) {
                    stream.write_all(b"x")?;
                    std::thread::sleep(Duration::from_millis(50));
                }
                Ok(false)
            }
            Reply::Flood(head, again) => {
                stream.write_all(&head)?;
                while !self.stop.load(Ordering::SeqCst) {
                    stream.write_all(&again)?;
                }
                Ok(false)
            }
            Reply::Silence => {
                // Until the client gives up.
                stream.set_read_timeout(Some(Duration::from_millis(200)))?;
                while !self.stop.load(Ordering::SeqCst) {
                    match stream.read(&mut [0; 64]) {
                        Ok(0) => break,
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(_) => break,
                        Ok(_) => {}
                    }
                }
                Ok(false)
            }
        }
    }
}
