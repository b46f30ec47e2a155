//! Reads and opens for each image, counted by the kernel (strace) and not by this program.

mod data_support;

use std::collections::HashMap;
use std::process::Command;

use data_support::{Folder, golden, open, yfcc, zip};
use rocket_common::experiment::{Augment, CaptionSampling, Data, Dataset, Text};
use rocket_worker::data::{GlobalPosition, LoadError, Loader, LoaderOptions, Order};
use rocket_worker::image::ImageViews;
use rocket_worker::text::CaptionViews;

/// Whether strace is there; where everything must be shown, it has to be.
fn strace() -> bool {
    let found = Command::new("strace")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    let everything = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        found || !everything,
        "strace is missing (Debian: apt-get install strace)"
    );
    if !found {
        println!("skipped: strace is not installed (Debian: apt-get install strace)");
    }
    found
}

/// 400 archives of 5 images, more than are kept open: every image takes one read and at most one open.
#[test]
fn an_image_in_a_zip_takes_one_read_and_at_most_one_open() {
    if !strace() {
        return;
    }
    let folder = Folder::new();
    let mut list = Vec::new();
    let mut images = Vec::new();
    for archive in 0..400u32 {
        let bytes: Vec<Vec<u8>> = (0..5u8)
            .map(|image| vec![image; 30_000 + usize::from(image) * 11])
            .collect();
        // As many deflated as stored.
        let deflated = archive % 2 == 0;
        let names: Vec<String> = (0..5)
            .map(|image| format!("{image:03}.jpg{}", if deflated { "+" } else { "" }))
            .collect();
        let members: Vec<(&str, &[u8])> = names
            .iter()
            .zip(&bytes)
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        folder.write(&format!("y/images/00/{archive:03}.zip"), zip(&members));
        images.extend((0..5).map(|image| archive * 1000 + image));
    }
    list.extend(images.iter().map(|&id| (id, "t", "")));
    folder.write("list.pkl", yfcc(&list));
    folder.write(
        "exp.yaml",
        "name: x\nmodel: {name: CL2L_R50_CL2L}\ndata: {dataset: yfcc15m, root: y, metadata: list.pkl}\n",
    );
    let worker = |args: &[&str]| {
        let output = Command::new(args[0])
            .args(&args[1..])
            .current_dir(folder.path("."))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let program = env!("CARGO_BIN_EXE_rocket-worker");
    worker(&[program, "data", "prepare", "exp.yaml"]);
    let said = worker(&[
        "strace",
        "-f",
        "-y",
        "-o",
        "trace",
        "-e",
        "trace=open,openat,openat2,read,pread64,readv,preadv,preadv2,mmap",
        program,
        "bench",
        "read",
        "exp.yaml",
    ]);
    assert!(said.contains("\"images\":2000,\"unreadable\":0"), "{said}");
    let trace = std::fs::read_to_string(folder.path("trace")).unwrap();
    let (mut calls, mut opens, mut reads) = (HashMap::new(), 0, 0);
    for line in trace
        .lines()
        .filter(|line| line.contains(".zip") && !line.contains("resumed>"))
    {
        // `<thread> <call>(<arguments>`
        let call = line
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.split('(').next())
            .unwrap();
        *calls.entry(call).or_insert(0) += 1;
        if call.starts_with("open") {
            opens += 1;
        } else {
            reads += 1;
        }
    }
    assert_eq!(reads, 2000, "{calls:?}");
    assert!((400..=2000).contains(&opens), "{calls:?}");
    println!("{opens} opens and {reads} reads for 2000 images in 400 archives: {calls:?}");
}

/// A read that never ends, as of a dead network file system (here of a pipe that nobody writes to), ends the run
/// with the file's name.
#[test]
fn a_file_system_that_does_not_answer_is_named() {
    let folder = Folder::new();
    let photo = std::fs::read(golden("cc/images/00.jpg")).unwrap();
    let mut list = String::new();
    for image in 0..3 {
        folder.write(&format!("images/{image}.jpg"), &photo);
        list.push_str(&format!("{image}.jpg\tx\n"));
    }
    let pipe = folder.path("images/dead.jpg");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    folder.write("list.tsv", list + "dead.jpg\tx\n");
    let data = Data {
        read_timeout_seconds: Some(0.2),
        ..folder.data(Dataset::Filelist, "images", "list.tsv")
    };
    let options = LoaderOptions {
        source: open(&data).unwrap(),
        order: Order {
            seed: 1,
            samples: 4,
            world_size: 1,
            batch_size: 4,
            update_freq: 1,
        },
        rank: 0,
        images: ImageViews::new(&Augment::default(), 32, 0).unwrap(),
        captions: CaptionViews::new(&Text::default(), CaptionSampling::Single, 0).unwrap(),
        workers: 2,
        prefetch: 1,
        max_bad: 0.0,
        fast_decode: false,
    };
    let mut loader = Loader::new(options, GlobalPosition::default()).unwrap();
    let error = loader.next_batch().unwrap_err();
    assert!(
        matches!(&error, LoadError::Stalled { file, .. } if *file == pipe),
        "{error}"
    );
    let said = folder.plain(&error.to_string());
    assert!(
        said.starts_with("DIR/images/dead.jpg: nothing came of it for"),
        "{said}"
    );
    // Nor does the loader's end wait for what will never come.
    drop(loader);
}
