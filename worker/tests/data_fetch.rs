//! `rocket-worker data fetch` of lists, against a server that fails in every way that servers do.

mod fetch_support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fetch_support::{Reply, Request, Server, resetting};
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rocket_common::experiment::{Data, Dataset};
use rocket_worker::data::source;

const PHOTO: &[u8] = include_bytes!("golden/images/images/src/rgb420.jpg");
const PALETTE: &[u8] = include_bytes!("golden/images/images/src/palette.png");

/// A folder with a list, to fetch into.
struct Fetch {
    folder: tempfile::TempDir,
    set: &'static str,
}

/// What a fetch printed, and its exit code.
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Fetch {
    fn new(set: &'static str, list: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("list.tsv"), list).unwrap();
        Self { folder, set }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rocket-worker"));
        command
            .current_dir(self.folder.path())
            .args(["data", "fetch", self.set, "list.tsv", "out"])
            .args(["--pause", "0.05", "--per-host-rate", "1000"])
            .args(args)
            .env("NO_PROXY", "*")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let output = self
            .command(&["--allow-private"])
            .args(args)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes)
                .replace(
                    &self
                        .folder
                        .path()
                        .canonicalize()
                        .unwrap()
                        .display()
                        .to_string(),
                    "DIR",
                )
                .replace(&self.folder.path().display().to_string(), "DIR")
        };
        Outcome {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Starts a fetch, and sends it a signal once `server` has seen `requests` requests.
    fn interrupt(
        &self,
        server: &Server,
        requests: usize,
        signal: Signal,
        args: &[&str],
    ) -> Option<i32> {
        let child = self
            .command(&["--allow-private"])
            .args(args)
            .spawn()
            .unwrap();
        let began = Instant::now();
        while server.seen().len() < requests {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "it asks for nothing"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        output.status.code()
    }

    /// Row and cause of what failed.
    fn failed(&self) -> BTreeMap<u64, String> {
        let text = fs::read_to_string(self.out().join("failed.tsv")).unwrap();
        text.lines()
            .map(|line| {
                let fields: Vec<&str> = line.split('\t').collect();
                (fields[0].parse().unwrap(), fields[2].to_owned())
            })
            .collect()
    }

    /// What the trainer reads: names and captions.
    fn samples(&self) -> Vec<(String, Vec<String>)> {
        let dataset = match self.set {
            "cc3m" => Dataset::Cc3m,
            _ => Dataset::Cc12m,
        };
        let data = Data {
            dataset,
            root: self.out().join("images"),
            metadata: self.out().join(format!("{}.npy", self.set)),
            ..Data::default()
        };
        let source = source::open(&data).unwrap();
        (0..source.len())
            .map(|sample| {
                let captions = source.captions(sample);
                let captions = captions.iter().map(ToString::to_string).collect();
                (source.name(sample), captions)
            })
            .collect()
    }

    /// All files below the folder of images, by name.
    fn images(&self) -> Vec<String> {
        let mut names = Vec::new();
        let Ok(shards) = fs::read_dir(self.out().join("images")) else {
            return names;
        };
        for shard in shards {
            for image in fs::read_dir(shard.unwrap().path()).unwrap() {
                names.push(image.unwrap().file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        names
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn encoded(encoding: &str, body: Vec<u8>) -> Reply {
    let headers = vec![
        ("content-type", "image/jpeg".to_owned()),
        ("content-encoding", encoding.to_owned()),
    ];
    Reply::Page(200, headers, body)
}

fn head(rest: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: image/jpeg\r\n{rest}\r\n").into_bytes()
}

/// What the server says to each path, and what is made of it.
const CASES: &[(&str, &str)] = &[
    ("/good.jpg", "ok"),
    ("/good.png", "ok"),
    ("/octets", "ok"),
    ("/moved", "ok"),
    ("/gzip", "ok"),
    ("/busy-once", "ok"),
    ("/down-once", "ok"),
    ("/cut-once", "ok"),
    ("/404", "http_404"),
    ("/410", "http_410"),
    ("/403", "http_403"),
    ("/429", "http_429"),
    ("/500", "http_500"),
    ("/503", "http_503"),
    ("/loop", "redirects"),
    ("/nowhere", "redirects"),
    ("/to-a-file", "redirects"),
    ("/silent", "timeout"),
    ("/slow-headers", "timeout"),
    ("/slow-body", "timeout"),
    ("/cut", "cut"),
    ("/cut-chunks", "cut"),
    ("/longer-than-said", "broken"),
    ("/nonsense", "connection"),
    ("/html", "content_type"),
    ("/html-as-jpeg", "not_an_image"),
    ("/nothing", "not_an_image"),
    ("/half", "broken"),
    ("/bomb", "too_many_pixels"),
    ("/gzip-garbage", "encoding"),
    ("/gzip-bomb", "too_large"),
    ("/brotli", "encoding"),
    ("/promises-much", "too_large"),
    ("/flood", "too_large"),
    ("/no-ai", "opted_out"),
];

fn page(request: &Request) -> Reply {
    let jpeg = || Reply::ok("image/jpeg", PHOTO);
    let again = |reply: Reply| if request.before == 0 { reply } else { jpeg() };
    match request.path.as_str() {
        "/good.jpg" => jpeg(),
        "/good.png" => Reply::ok("image/png", PALETTE),
        "/octets" => Reply::ok("application/octet-stream", PHOTO),
        "/moved" => Reply::to("good.jpg?moved"),
        "/good.jpg?moved" => jpeg(),
        "/gzip" => encoded("gzip", gzip(PHOTO)),
        "/busy-once" => again(Reply::Page(
            429,
            vec![("retry-after", "1".into())],
            Vec::new(),
        )),
        "/down-once" => again(Reply::status(503)),
        "/cut-once" => again(Reply::Raw(
            [head("content-length: 9999\r\n"), PHOTO[..500].to_vec()].concat(),
        )),
        "/loop" => Reply::to("/loop"),
        "/nowhere" => Reply::status(301),
        "/to-a-file" => Reply::to("file:///etc/passwd"),
        "/silent" => Reply::Silence,
        "/slow-headers" => Reply::Dribble(b"HTTP/1.1 200 OK\r\nx: ".to_vec()),
        "/slow-body" => Reply::Dribble(head("content-length: 99999\r\n")),
        "/cut" => Reply::Raw([head("content-length: 9999\r\n"), PHOTO[..500].to_vec()].concat()),
        "/cut-chunks" => {
            let body = [&b"1f4\r\n"[..], &PHOTO[..500], b"\r\n"].concat();
            Reply::Raw([head("transfer-encoding: chunked\r\n"), body].concat())
        }
        "/longer-than-said" => {
            Reply::Raw([head("content-length: 600\r\n"), PHOTO.to_vec()].concat())
        }
        "/nonsense" => Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        "/html" => Reply::ok("text/html; charset=utf-8", b"<html>gone</html>"),
        "/html-as-jpeg" => Reply::ok("image/jpeg", b"<html>gone</html>"),
        "/nothing" => Reply::ok("image/jpeg", b""),
        "/half" => Reply::ok("image/jpeg", &PHOTO[..PHOTO.len() / 2]),
        "/bomb" => {
            let mut png = PALETTE.to_vec();
            // 60,000 x 60,000 pixels in the header.
            png[16..24].copy_from_slice(&[0, 0, 0xEA, 0x60, 0, 0, 0xEA, 0x60]);
            Reply::ok("image/png", &png)
        }
        "/gzip-garbage" => encoded("gzip", vec![0x5A; 3000]),
        "/gzip-bomb" => encoded("gzip", gzip(&vec![0; 30_000_000])),
        "/brotli" => encoded("br", PHOTO.to_vec()),
        "/promises-much" => Reply::Dribble(head("content-length: 99999999999\r\n")),
        "/flood" => {
            let chunk = [&b"10000\r\n"[..], &[7; 0x10000], b"\r\n"].concat();
            Reply::Flood(head("transfer-encoding: chunked\r\n"), chunk)
        }
        "/no-ai" => {
            let headers = vec![
                ("content-type", "image/jpeg".to_owned()),
                ("x-robots-tag", "noai".to_owned()),
            ];
            Reply::Page(200, headers, PHOTO.to_vec())
        }
        other => Reply::status(other[1..].parse().unwrap_or(404)),
    }
}

#[test]
fn every_failure_is_told_apart_and_leaves_nothing_behind() {
    let server = Server::new(Duration::ZERO, page);
    let closed = {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut rows: Vec<(String, &str)> = CASES
        .iter()
        .map(|(path, result)| (format!("caption of {path}\t{}", server.url(path)), *result))
        .collect();
    let own = |line: &str| line.to_owned();
    rows.extend([
        (
            format!("reset\thttp://127.0.0.1:{}/x", resetting()),
            "connection",
        ),
        (format!("nobody\thttp://127.0.0.1:{closed}/x"), "connection"),
        (
            format!("no TLS\thttps://127.0.0.1:{}/x", server.port()),
            "tls",
        ),
        (own("no such name\thttp://nowhere.invalid/x"), "name"),
        (own("no address\tftp://127.0.0.1/x"), "url"),
        (own("no address either\tx.jpg"), "url"),
        (own("no tab"), "line"),
        (format!("a\0caption\t{}", server.url("/good.jpg")), "line"),
    ]);
    let list: Vec<&str> = rows.iter().map(|(line, _)| line.as_str()).collect();
    let fetch = Fetch::new("cc3m", &list.join("\n"));
    let outcome = fetch.run(&[
        "--timeout",
        "3",
        "--tries",
        "2",
        "--per-host",
        "64",
        "--json",
    ]);
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.out, outcome.err);

    // Each row is what it should be, and the report counts the rows.
    let mut want: BTreeMap<u64, String> = BTreeMap::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (row, (_, result)) in rows.iter().enumerate() {
        if *result != "ok" {
            want.insert(row as u64, (*result).to_owned());
            *counts.entry((*result).to_owned()).or_default() += 1;
        }
    }
    assert_eq!(fetch.failed(), want);
    let report: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    let said: BTreeMap<String, u64> = report["failed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|count| {
            let cause = count["cause"].as_str().unwrap().to_owned();
            (cause, count["rows"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(said, counts);
    assert_eq!(report["kept"], 8);
    assert_eq!(report["open"], 0);

    // What may pass was asked for twice, everything else once.
    let asked = server.counts();
    for (path, result) in CASES {
        let passes = [
            "timeout",
            "cut",
            "connection",
            "http_429",
            "http_500",
            "http_503",
        ];
        let times = match *path {
            "/loop" => 6,
            "/busy-once" | "/down-once" | "/cut-once" => 2,
            _ if passes.contains(result) => 2,
            _ => 1,
        };
        assert_eq!(asked[*path], times, "{path}");
    }
    // The pause that a server asks for is kept.
    let seen = server.seen();
    let busy: Vec<&Request> = seen.iter().filter(|r| r.path == "/busy-once").collect();
    assert!(busy[1].at - busy[0].at >= Duration::from_millis(990));

    // There are the images that are kept, and nothing else.
    let kept: Vec<String> = (0..8).map(|row| format!("{row:09}.jpg")).collect();
    assert_eq!(fetch.images(), kept);
    let samples = fetch.samples();
    assert_eq!(samples.len(), 8);
    assert_eq!(
        samples[1],
        (
            "00000/000000001.jpg".into(),
            vec!["caption of /good.png".into()]
        )
    );
    assert!(fs::read(fetch.out().join("images/00000/000000000.jpg")).unwrap() == PHOTO);
    let mut top: Vec<String> = fs::read_dir(fetch.out())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    top.sort();
    assert_eq!(
        top,
        [
            "cc3m.npy",
            "failed.tsv",
            "images",
            "journal.tsv",
            "report.json"
        ]
    );

    // Once more: nothing is asked for; with --retry-failed only what failed is.
    let before = server.seen().len();
    let outcome = fetch.run(&[]);
    assert_eq!(outcome.code, Some(0));
    assert_eq!(server.seen().len(), before);
    insta::with_settings!({filters => vec![(r"; \d.*\n", "; TIME\n"), (r", [\d.]+ kB\)", ", SIZE)")]}, {
        insta::assert_snapshot!("fetch_report", outcome.out);
    });
}

/// A list of `count` rows, each with an address of its own.
fn many(server: &Server, count: usize) -> String {
    (0..count)
        .map(|row| format!("{}\tcaption {row}\n", server.url(&format!("/{row}.jpg"))))
        .collect()
}

#[test]
fn it_goes_on_exactly_after_ctrl_c() {
    let server = Server::new(Duration::from_millis(10), |_| {
        Reply::ok("image/jpeg", PHOTO)
    });
    let fetch = Fetch::new("cc12m", &many(&server, 300));
    let few = ["--connections", "8"];
    let mut kept = 0;
    // Rows that are noted, and how often each was asked for until then.
    let mut noted: Vec<(String, usize)> = Vec::new();
    for stop in [Signal::SIGINT, Signal::SIGTERM] {
        let requests = server.seen().len() + 60;
        assert_eq!(fetch.interrupt(&server, requests, stop, &few), Some(130));
        // What is there can be trained on at any time.
        let samples = fetch.samples();
        assert!(
            samples.len() > kept && samples.len() < 300,
            "{}",
            samples.len()
        );
        kept = samples.len();
        assert_eq!(fetch.images().len(), kept, "each image is noted");
        let asked = server.counts();
        noted.extend(samples.into_iter().map(|(name, _)| {
            let row: usize = name[6..15].parse().unwrap();
            let path = format!("/{row}.jpg");
            let times = asked[&path];
            (path, times)
        }));
    }
    let outcome = fetch.run(&few);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    let asked = server.counts();
    for (path, times) in noted {
        assert_eq!(asked[&path], times, "{path} was there, and fetched again");
    }
    let want: Vec<(String, Vec<String>)> = (0..300)
        .map(|row| {
            (
                format!("00000/{row:09}.jpg"),
                vec![format!("caption {row}")],
            )
        })
        .collect();
    assert_eq!(fetch.samples(), want);
    assert_eq!(fetch.images().len(), 300);
}

#[test]
fn it_goes_on_exactly_after_it_was_killed() {
    let server = Server::new(Duration::from_millis(10), |_| {
        Reply::ok("image/jpeg", PHOTO)
    });
    let fetch = Fetch::new("cc12m", &many(&server, 200));
    let few = ["--connections", "8"];
    assert_eq!(fetch.interrupt(&server, 60, Signal::SIGKILL, &few), None);
    let there: Vec<String> = fetch
        .images()
        .into_iter()
        .filter(|name| !name.starts_with('.'))
        .collect();
    assert!(there.len() > 30, "{}", there.len());
    // Half an image that a killed process could leave, and half a line.
    let shard = fetch.out().join("images/00000");
    fs::write(shard.join(".000000199.jpg.0123456789abcdef.tmp"), b"half").unwrap();
    let journal = fetch.out().join("journal.tsv");
    let mut file = fs::OpenOptions::new().append(true).open(journal).unwrap();
    file.write_all(b"199\tok").unwrap();
    drop(file);

    let outcome = fetch.run(&few);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    let asked = server.counts();
    for name in &there {
        let row: usize = name[..9].parse().unwrap();
        assert_eq!(asked[&format!("/{row}.jpg")], 1, "{name} was fetched twice");
    }
    let all: Vec<String> = (0..200).map(|row| format!("{row:09}.jpg")).collect();
    assert_eq!(fetch.images(), all);
    assert_eq!(fetch.samples().len(), 200);
}

#[test]
fn no_host_is_asked_more_than_it_should_be() {
    let server = Server::new(Duration::from_millis(20), |_| {
        Reply::ok("image/jpeg", PHOTO)
    });
    let mut list = many(&server, 60);
    // The same server under another name counts as another host.
    list.push_str(&many(&server, 60).replace("127.0.0.1", "localhost"));
    let fetch = Fetch::new("cc12m", &list);
    let outcome = fetch.run(&["--per-host", "3", "--connections", "50"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert_eq!(fetch.images().len(), 120);
    let busiest = server.busiest();
    assert_eq!(busiest.len(), 2);
    assert!(busiest.values().all(|&most| most <= 3), "{busiest:?}");
}

#[test]
fn private_addresses_are_not_asked() {
    let server = Server::new(Duration::ZERO, |_| Reply::ok("image/jpeg", PHOTO));
    let port = server.port();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1",
    ];
    let list: Vec<String> = hosts
        .iter()
        .map(|host| format!("caption\thttp://{host}:{port}/x.jpg"))
        .collect();
    let fetch = Fetch::new("cc3m", &list.join("\n"));
    let output = fetch.command(&["--timeout", "5"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr), @r"
    error: none of the 6 images could be fetched (6 of them: the address is private or this machine's)
    hint: is the list the one that was named, and does this machine reach the internet?
    ");
    assert!(fetch.failed().values().all(|cause| cause == "private"));
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn images_are_made_smaller() {
    let server = Server::new(Duration::ZERO, page);
    let list = format!(
        "a\t{}\nb\t{}\n",
        server.url("/good.jpg"),
        server.url("/good.png")
    );
    let fetch = Fetch::new("cc3m", &list);
    let outcome = fetch.run(&["--shorter-side", "32", "--quality", "80"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    for row in 0..2 {
        let path = fetch.out().join(format!("images/00000/{row:09}.jpg"));
        let picture = rocket_worker::image::decode(&fs::read(path).unwrap()).unwrap();
        assert_eq!(picture.width.min(picture.height), 32);
    }
    // Going on in another way would mix two forms.
    let outcome = fetch.run(&["--shorter-side", "64"]);
    assert_eq!(outcome.code, Some(2));
    insta::assert_snapshot!(outcome.err, @r"
    error: out/journal.tsv: was begun with another form of the images ('shorter side at most 32, quality 80, at least 0 pixels', not 'shorter side at most 64, quality 95, at least 0 pixels')
    hint: fetch into another folder, or with what it was begun with
    ");
}

#[test]
fn what_cannot_be_begun_is_said() {
    let fetch = Fetch::new("cc3m", "");
    insta::assert_snapshot!(fetch.run(&[]).err, @"error: 'list.tsv' is empty");
    fs::remove_file(fetch.folder.path().join("list.tsv")).unwrap();
    let outcome = fetch.run(&[]);
    assert_eq!(outcome.code, Some(4));
    insta::assert_snapshot!(outcome.err, @"error: cannot read the list 'list.tsv': no such file or directory");
    assert!(!Path::new(&fetch.out()).exists());
}
