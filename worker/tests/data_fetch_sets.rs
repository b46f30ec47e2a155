//! Fetching published archives: whole or not at all, whatever the server and the archive do.

mod fetch_support;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fetch_support::{Reply, Request, Server};
use flate2::Compression;
use flate2::write::GzEncoder;
use rocket_worker::data::fetch::{
    Archive, ArchiveOptions, Contents, Origin, Published, Reach, fetch_set,
};
use sha2::{Digest, Sha256};

const FILES: &[(&str, u64)] = &[("train.bin", 30_000), ("test.bin", 500)];

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

/// What is put into an archive: name, kind, contents.
type Entry<'a> = (&'a str, tar::EntryType, &'a [u8]);

fn tar_gz(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, contents) in entries {
        let mut header = tar::Header::new_gnu();
        // Written as it is: names that lead out are refused by the builder.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(contents.len() as u64);
        if kind.is_symlink() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        builder.append(&header, *contents).unwrap();
    }
    gzip(&builder.into_inner().unwrap())
}

fn good() -> Vec<u8> {
    let (train, test) = (noise(30_000), noise(500));
    tar_gz(&[
        ("tiny/", tar::EntryType::Directory, b""),
        ("tiny/train.bin", tar::EntryType::Regular, &train),
        ("tiny/test.bin", tar::EntryType::Regular, &test),
        ("tiny/readme.html", tar::EntryType::Regular, b"hello"),
    ])
}

/// A set of one archive whose checksum is that of `bytes`.
fn set(bytes: &[u8]) -> Published {
    let archive = Archive {
        file: "tiny.tar.gz",
        places: &[],
        bytes: bytes.len() as u64,
        sha256: leak(sha256(bytes)).as_str(),
        contents: Contents::TarGz {
            folder: "tiny",
            files: FILES,
            most_bytes: 40_000,
        },
    };
    Published {
        name: "tiny",
        archives: std::slice::from_ref(leak(archive)),
    }
}

fn options(folder: &Path, from: Origin) -> ArchiveOptions {
    ArchiveOptions {
        from,
        folder: folder.to_owned(),
        tries: 3,
        pause: Duration::from_millis(10),
        timeout: Duration::from_secs(2),
        reach: Reach::Any,
        user_agent: "test".into(),
    }
}

/// Fetches a set from a server; gives the error without what differs from run to run, and what is in
/// the folder afterwards.
fn fetch(server: &Server, set: &Published, folder: &Path) -> (Result<(), String>, Vec<String>) {
    let base = Origin::Web(server.url("/sets").parse().unwrap());
    let result = fetch_set(set, &options(folder, base));
    let result = result.map(drop).map_err(|error| {
        let text = error.to_string();
        let text = text.replace(&format!("127.0.0.1:{}", server.port()), "HOST");
        text.replace(&folder.display().to_string(), "DIR")
    });
    (result, listing(folder))
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn part(request: &Request, bytes: &[u8], until: usize) -> Reply {
    let start = request.start.unwrap_or(0) as usize;
    let mut head = String::new();
    if start > 0 {
        let (last, all) = (bytes.len() - 1, bytes.len());
        head.push_str("HTTP/1.1 206 Partial Content\r\n");
        head.push_str(&format!("content-range: bytes {start}-{last}/{all}\r\n"));
    } else {
        head.push_str("HTTP/1.1 200 OK\r\n");
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", bytes.len() - start));
    let body = &bytes[start.min(until)..until];
    Reply::Raw([head.as_bytes(), body].concat())
}

#[test]
fn a_set_is_fetched_once() {
    let archive = good();
    let set = set(&archive);
    let server = Server::new(Duration::ZERO, move |request| match request.path.as_str() {
        "/sets/tiny.tar.gz" => Reply::to("/elsewhere/tiny.tar.gz"),
        _ => Reply::ok("application/gzip", &archive),
    });
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (result, names) = fetch(&server, &set, folder.path());
        assert_eq!((result, names), (Ok(()), vec!["tiny".to_owned()]));
    }
    assert_eq!(server.seen().len(), 2, "the redirect and the file");
    assert_eq!(
        fs::read(folder.path().join("tiny/test.bin")).unwrap(),
        noise(500)
    );
    assert_eq!(
        listing(&folder.path().join("tiny")),
        ["readme.html", "test.bin", "train.bin"]
    );

    // A folder that is not whole is not touched.
    fs::remove_file(folder.path().join("tiny/test.bin")).unwrap();
    let (result, _) = fetch(&server, &set, folder.path());
    insta::assert_snapshot!(result.unwrap_err(), @"'DIR/tiny' is there, but not whole");
    fs::write(folder.path().join("tiny/test.bin"), b"short").unwrap();
    let (result, _) = fetch(&server, &set, folder.path());
    insta::assert_snapshot!(result.unwrap_err(), @"'DIR/tiny/test.bin' has 5 bytes, not the 500 of the published file");
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let archive = good();
    let set = set(&archive);
    let bytes = archive.clone();
    let server = Server::new(Duration::ZERO, move |request| match request.before {
        0 => part(request, &bytes, 10_000),
        1 => Reply::status(503),
        2 => part(request, &bytes, 20_000),
        _ => part(request, &bytes, bytes.len()),
    });
    let folder = tempfile::tempdir().unwrap();
    let (result, _) = fetch(&server, &set, folder.path());
    // Three failures are as many as are allowed, and what came so far is kept.
    insta::assert_snapshot!(result.unwrap_err(), @"'tiny.tar.gz' cannot be fetched: http://HOST/sets/tiny.tar.gz: the connection ended: end of file before message length reached, 3 times");
    let (result, names) = fetch(&server, &set, folder.path());
    assert_eq!((result, names), (Ok(()), vec!["tiny".to_owned()]));
    let starts: Vec<Option<u64>> = server.seen().iter().map(|request| request.start).collect();
    assert_eq!(starts, [None, Some(10_000), Some(10_000), Some(20_000)]);
}

#[test]
fn a_changed_file_is_fetched_anew() {
    let archive = good();
    let set = set(&archive);
    let server = Server::new(Duration::ZERO, move |request| {
        part(request, &archive, archive.len())
    });
    let folder = tempfile::tempdir().unwrap();
    // The beginning of another file: only the checksum can tell.
    fs::write(folder.path().join(".tiny.tar.gz.part"), noise(5000)).unwrap();
    let (result, names) = fetch(&server, &set, folder.path());
    assert_eq!((result, names), (Ok(()), vec!["tiny".to_owned()]));
    let starts: Vec<Option<u64>> = server.seen().iter().map(|request| request.start).collect();
    assert_eq!(starts, [Some(5000), None]);
}

#[test]
fn what_a_server_does_wrong_is_said_and_nothing_is_kept() {
    let archive = good();
    let set = set(&archive);
    let mut said = String::new();
    let mut try_one = |name: &str, page: Box<dyn Fn(&Request) -> Reply + Send + Sync>| {
        let server = Server::new(Duration::ZERO, move |request| page(request));
        let folder = tempfile::tempdir().unwrap();
        let (result, names) = fetch(&server, &set, folder.path());
        let message = result.unwrap_err();
        said.push_str(&format!(
            "{name} ({} requests): {message}\n",
            server.seen().len()
        ));
        assert!(names.is_empty(), "{name} leaves {names:?}");
    };
    let mut other = archive.clone();
    other[1000] ^= 1;
    try_one(
        "another file",
        Box::new(move |_| Reply::ok("application/gzip", &other)),
    );
    let page = vec![b' '; archive.len()];
    try_one(
        "a page of the same length",
        Box::new(move |_| Reply::ok("text/html", &page)),
    );
    try_one(
        "a page",
        Box::new(|_| Reply::ok("text/html", b"<html>moved</html>")),
    );
    try_one("no file", Box::new(|_| Reply::status(404)));
    try_one("a broken server", Box::new(|_| Reply::status(500)));
    try_one("a loop", Box::new(|_| Reply::to("/sets/tiny.tar.gz")));
    try_one(
        "a file of the server",
        Box::new(|_| Reply::to("file:///etc/passwd")),
    );
    try_one("silence", Box::new(|_| Reply::Silence));
    let longer = vec![b' '; archive.len() + 1];
    try_one(
        "a longer file",
        Box::new(move |_| Reply::ok("application/gzip", &longer)),
    );
    try_one(
        "an endless body",
        Box::new(|_| {
            let chunk = [&b"1000\r\n"[..], &[7; 0x1000], b"\r\n"].concat();
            Reply::Flood(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
                chunk,
            )
        }),
    );
    insta::with_settings!({filters => vec![("[0-9a-f]{64}", "SHA256")]}, {
        insta::assert_snapshot!("what_servers_do", said);
    });
}

#[test]
fn an_archive_is_not_trusted() {
    let file = tar::EntryType::Regular;
    let (train, test) = (noise(30_000), noise(500));
    let whole = [
        ("tiny/train.bin", file, train.as_slice()),
        ("tiny/test.bin", file, test.as_slice()),
    ];
    let with = |entry: Entry<'_>| tar_gz(&[&whole[..], &[entry]].concat());
    let zeros = vec![0; 3_000_000];
    let mut cut = good();
    cut.truncate(cut.len() / 2);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "a path that leads out",
            with(("tiny/../../evil", file, b"x")),
        ),
        ("an absolute path", with(("/tmp/evil", file, b"x"))),
        ("a file beside the folder", with(("evil", file, b"x"))),
        ("a folder in the folder", with(("tiny/a/b", file, b"x"))),
        (
            "a symbolic link",
            with(("tiny/link", tar::EntryType::Symlink, b"")),
        ),
        (
            "a hard link",
            with(("tiny/link", tar::EntryType::Link, b"")),
        ),
        ("a device", with(("tiny/null", tar::EntryType::Char, b""))),
        (
            "a long name",
            with(("././@LongLink", tar::EntryType::GNULongName, b"x")),
        ),
        ("a name twice", with(("tiny/test.bin", file, b"x"))),
        ("a bomb", with(("tiny/zeros", file, &zeros))),
        (
            "a bomb in what is skipped",
            with(("tiny/", tar::EntryType::Directory, &zeros)),
        ),
        ("no test.bin", tar_gz(&whole[..1])),
        (
            "a short test.bin",
            tar_gz(&[whole[0], ("tiny/test.bin", file, b"x")]),
        ),
        ("half an archive", cut),
        ("no tar", gzip(&noise(5000))),
        ("no gzip", noise(5000)),
    ];
    let mut said = String::new();
    for (name, archive) in cases {
        let set = set(&archive);
        let from = tempfile::tempdir().unwrap();
        fs::write(from.path().join("tiny.tar.gz"), &archive).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path(), Origin::Folder(from.path().to_owned()));
        let error = fetch_set(&set, &options).unwrap_err().to_string();
        said.push_str(&format!("{name}: {error}\n"));
        assert!(listing(folder.path()).is_empty(), "{name} leaves something");
    }
    insta::assert_snapshot!("what_archives_hold", said);
}

#[test]
fn a_single_file_is_unpacked_beside_its_archive() {
    let contents = noise(2000);
    let archive = gzip(&contents);
    let of = |bytes| {
        let one = Archive {
            file: "labels.gz",
            places: &[],
            bytes: archive.len() as u64,
            sha256: leak(sha256(&archive)).as_str(),
            contents: Contents::Gz {
                folder: "MNIST/raw",
                name: "labels",
                bytes,
            },
        };
        Published {
            name: "one",
            archives: std::slice::from_ref(leak(one)),
        }
    };
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("labels.gz"), &archive).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), Origin::Folder(from.path().to_owned()));
    let longer = fetch_set(&of(2001), &options).unwrap_err().to_string();
    insta::assert_snapshot!(longer, @"labels.gz: the archive's 'labels' has 2000 bytes, not 2001");
    let shorter = fetch_set(&of(1999), &options).unwrap_err().to_string();
    insta::assert_snapshot!(shorter, @"labels.gz: the archive unpacks to more than 1999 bytes; nothing of it is kept");
    fetch_set(&of(2000), &options).unwrap();
    let raw = folder.path().join("MNIST/raw");
    assert_eq!(listing(&raw), ["labels", "labels.gz"]);
    assert_eq!(fs::read(raw.join("labels")).unwrap(), contents);
    assert!(fetch_set(&of(2000), &options).unwrap().was_there);
}

#[test]
fn the_command_says_what_it_did_not_get() {
    let server = Server::new(Duration::ZERO, |_| {
        Reply::ok("text/html", b"<html>moved</html>")
    });
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
            .args(["data", "fetch"])
            .args(args)
            .current_dir(folder.path())
            .env("NO_PROXY", "*")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let text = text.replace(&format!("127.0.0.1:{}", server.port()), "HOST");
        format!("{} {text}", output.status.code().unwrap_or(-1))
    };
    insta::assert_snapshot!(run(&["cifar10", "sets", "--from", &server.url("/a")]), @r"
    4 error: 'cifar-10-binary.tar.gz' cannot be fetched: http://HOST/a/cifar-10-binary.tar.gz: 18 bytes (text/html) are there, not the 170052171 of the published file
    hint: fetch it by hand into a folder, and name that (--from FOLDER, --fetch=FOLDER)
    ");
    insta::assert_snapshot!(run(&["stl10", "sets", "--from", "nowhere"]), @r"
    2 error: --from 'nowhere' is neither an address nor a folder
    hint: an address begins with http:// or https://
    ");
    fs::create_dir(folder.path().join("here")).unwrap();
    insta::assert_snapshot!(run(&["mnist", "sets", "--from", "here"]), @"4 error: cannot read 'here/train-images-idx3-ubyte.gz': no such file or directory");
    fs::write(folder.path().join("here/train-images-idx3-ubyte.gz"), b"x").unwrap();
    insta::assert_snapshot!(run(&["mnist", "sets", "--from", "here"]), @"4 error: 'here/train-images-idx3-ubyte.gz' is not the published file: its SHA-256 is 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881, not 440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609");
    assert!(listing(&folder.path().join("sets")).is_empty());
}
