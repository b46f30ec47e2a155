//! `rocket-worker data prepare-eval` of sets whose images or labels take another form.

mod eval_support;
mod prepare_support;

use std::fs;
use std::process::Command;

use prepare_support::{Entries, Prepare, folders, image, tar, text, zip};
use rocket_worker::eval::Split;
use serde_json::json;

/// A PPM of two pixels.
const PPM: &[u8] = b"P6\n# a comment\n2 1\n255\n\x01\x02\x03\xFF\xFE\xFD";

#[test]
fn gtsrb_becomes_png_without_loss() {
    let this = Prepare::new("gtsrb");
    let train: Entries = (0..43)
        .map(|class| {
            (
                format!("GTSRB/Training/{class:05}/00000_00000.ppm"),
                PPM.to_vec(),
            )
        })
        .collect();
    this.put("GTSRB-Training_fixed.zip", &zip(&train));
    let test: Entries = (0..43)
        .map(|i| (format!("GTSRB/Final_Test/Images/{i:05}.ppm"), PPM.to_vec()))
        .collect();
    this.put("GTSRB_Final_Test_Images.zip", &zip(&test));
    let mut lines = vec!["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId".to_owned()];
    lines.extend((0..43).map(|i| format!("{i:05}.ppm;2;1;0;0;1;0;{}\r", 42 - i)));
    this.put(
        "GTSRB_Final_Test_GT.zip",
        &zip(&[text("GT-final_test.csv", &lines)]),
    );
    insta::assert_snapshot!(this.succeeds(), @r"
    gtsrb: 86 images in [DIR]/data/gtsrb
      test: 43 images, 43 classes
      train: 43 images, 43 classes
    note: train has 43 images; the published one has 26640
    note: test has 43 images; the published one has 12630
    ");
    this.assert_ordered(Split::Test);
    let picture = rocket_worker::image::decode(&this.read("test/00042/00000.png")).expect("a PNG");
    assert_eq!((picture.width, picture.height), (2, 1));
    assert_eq!(picture.data, [1, 2, 3, 255, 254, 253]);
}

#[test]
fn kitti_goes_by_the_nearest_vehicle() {
    let this = Prepare::new("kitti_distance");
    let line =
        |kind: &str, z: f64| format!("{kind} 0.0 0 -1.5 1 2 3 4 1.5 1.6 3.9 0.5 1.7 {z} -1.6");
    let mut images = Entries::new();
    let mut labels = Entries::new();
    for i in 0..40 {
        let objects = match i % 4 {
            0 => vec![line("Car", 30.0), line("Pedestrian", 2.0)],
            1 => vec![line("Car", 30.0), line("Truck", 15.5)],
            2 => vec![line("Van", 8.0), line("Car", 9.0)],
            _ => vec![line("DontCare", 1.0)],
        };
        images.push(image(&format!("training/image_2/{i:06}.png")));
        images.push(image(&format!("testing/image_2/{i:06}.png")));
        labels.push(text(&format!("training/label_2/{i:06}.txt"), &objects));
    }
    this.put("data_object_image_2.zip", &zip(&images));
    this.put("data_object_label_2.zip", &zip(&labels));
    insta::assert_snapshot!(this.succeeds(), @r"
    kitti_distance: 40 images in [DIR]/data/kitti_distance
      train: 32 images, 4 classes
      val: 8 images, 4 classes
    note: train has 32 images; the published one has 5985
    note: val has 8 images; the published one has 1496
    ");
    let open = this.open(Split::Train);
    assert!(
        (0..open.samples.len())
            .map(|i| open.samples.target(i))
            .is_sorted()
    );
    for (i, class) in ["above_20", "below_20", "below_8", "no_vehicle"]
        .iter()
        .enumerate()
    {
        let there = |split: &str| {
            this.dest()
                .join(format!("{split}/{class}/{i:06}.png"))
                .exists()
        };
        assert!(there("train") || there("val"), "{class}");
    }
}

#[test]
fn clevr_becomes_a_file_list() {
    let this = Prepare::new("clevr_counts");
    let mut entries = Entries::new();
    for split in ["train", "val"] {
        let mut scenes = Vec::new();
        for objects in 3..=10 {
            let file = format!("CLEVR_{split}_{objects:06}.png");
            entries.push(image(&format!("CLEVR_v1.0/images/{split}/{file}")));
            let objects = vec![json!({"shape": "cube"}); objects];
            scenes.push(json!({"image_filename": file, "objects": objects, "split": split}));
        }
        let scenes = json!({"info": {}, "scenes": scenes}).to_string();
        entries.push((
            format!("CLEVR_v1.0/scenes/CLEVR_{split}_scenes.json"),
            scenes.into_bytes(),
        ));
    }
    entries.push(image("CLEVR_v1.0/images/test/CLEVR_test_000000.png"));
    this.put("CLEVR_v1.0.zip", &zip(&entries));
    insta::assert_snapshot!(this.succeeds(), @r"
    clevr_counts: 16 images in [DIR]/data/clevr_counts
      train: 8 images, 8 classes
      val: 8 images, 8 classes
    note: train has 8 images; the published one has 70000
    note: val has 8 images; the published one has 15000
    ");
    let open = this.open(Split::Test);
    let targets: Vec<usize> = (0..8).map(|i| open.samples.target(i)).collect();
    assert_eq!(targets, [1, 2, 3, 4, 5, 6, 7, 0]);
    assert_eq!(
        this.read("images/val/CLEVR_val_000003.png"),
        image("CLEVR_v1.0/images/val/CLEVR_val_000003.png").1
    );
}

#[test]
fn hateful_memes_go_by_their_jsonl() {
    let this = Prepare::new("hateful_memes");
    for (split, ids) in [("train", 0..4), ("dev", 4..6)] {
        let lines: Vec<String> = ids
            .clone()
            .map(|id| {
                json!({"id": id, "img": format!("img/{id:05}.png"), "label": id % 2, "text": "x"})
                    .to_string()
            })
            .collect();
        let (name, bytes) = text(&format!("data/{split}.jsonl"), &lines);
        this.put(&name, &bytes);
        ids.for_each(|id| this.put(&format!("data/img/{id:05}.png"), b"image"));
    }
    insta::assert_snapshot!(this.succeeds(), @r"
    hateful_memes: 6 images in [DIR]/data/hateful_memes
      dev: 2 images, 2 classes
      train: 4 images, 2 classes
    note: train has 4 images; the published one has 8500
    note: dev has 2 images; the published one has 500
    ");
    this.assert_ordered(Split::Test);
    this.put(
        "data/dev_seen.jsonl",
        b"{\"id\": 4, \"img\": \"img/00004.png\"}\n",
    );
    fs::remove_dir_all(this.dest()).expect("removed");
    insta::assert_snapshot!(this.fails(), @"error: [DIR]/source: dev_seen.jsonl: line 1: missing field `label` at line 1 column 33");
}

#[test]
fn imagenet_of_kaggle_goes_by_its_list() {
    let this = Prepare::new("imagenet");
    let ids = folders("imagenet", str::to_owned);
    let mut entries = Entries::new();
    let mut lines = vec!["ImageId,PredictionString".to_owned()];
    for (i, id) in ids.iter().enumerate() {
        let name = format!("ILSVRC2012_val_{:08}", i + 1);
        entries.push(image(&format!("ILSVRC/Data/CLS-LOC/val/{name}.JPEG")));
        entries.push(image(&format!(
            "ILSVRC/Data/CLS-LOC/train/{id}/{id}_{i}.JPEG"
        )));
        lines.push(format!("{name},{id} 85 1 499 272 {id} 1 2 3 4"));
    }
    entries.push(text("LOC_val_solution.csv", &lines));
    this.put("imagenet.tar", &tar(&entries));
    insta::assert_snapshot!(this.succeeds(), @r"
    imagenet: 2000 images in [DIR]/data/imagenet
      train: 1000 images, 1000 classes
      val: 1000 images, 1000 classes
    note: train has 1000 images; the published one has 1281167
    note: val has 1000 images; the published one has 50000
    ");
    this.assert_ordered(Split::Test);
    this.assert_ordered(Split::Train);
}

/// An AVI of gray frames of 16 x 16 without compression, whose header says `said` frames.
fn avi(grays: &[u8], said: u32) -> Vec<u8> {
    let chunk = |name: &[u8; 4], data: &[u8]| {
        [&name[..], &(data.len() as u32).to_le_bytes(), data].concat()
    };
    let list =
        |name: &[u8; 4], parts: &[Vec<u8>]| chunk(b"LIST", &[&name[..], &parts.concat()].concat());
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()).collect() };
    const SIDE: u32 = 16;
    let bytes = 3 * SIDE * SIDE;
    // 25 frames a second, one stream.
    let main = words(&[
        40_000,
        bytes * 25,
        0,
        0x10,
        said,
        0,
        1,
        bytes,
        SIDE,
        SIDE,
        0,
        0,
        0,
        0,
    ]);
    let stream = [
        b"vidsDIB ".to_vec(),
        words(&[
            0,
            0,
            0,
            1,
            25,
            0,
            said,
            bytes,
            u32::MAX,
            0,
            0,
            SIDE << 16 | SIDE,
        ]),
    ];
    // Size, width, height, planes and bits, compression, bytes, and four that say nothing.
    let format = words(&[40, SIDE, SIDE, 24 << 16 | 1, 0, bytes, 0, 0, 0, 0]);
    let frames: Vec<Vec<u8>> = grays
        .iter()
        .map(|&gray| chunk(b"00db", &vec![gray; bytes as usize]))
        .collect();
    let stream = list(
        b"strl",
        &[chunk(b"strh", &stream.concat()), chunk(b"strf", &format)],
    );
    let parts = [
        list(b"hdrl", &[chunk(b"avih", &main), stream]),
        list(b"movi", &frames),
    ];
    chunk(b"RIFF", &[b"AVI ".to_vec(), parts.concat()].concat())
}

/// A source of UCF-101: a video per class in each split, `odd` in place of the first of the scored split.
fn ucf101(odd: &[u8]) -> Prepare {
    let this = Prepare::new("ucf101_frames");
    let folders = folders("ucf101_frames", |name| name.replace(' ', ""));
    // Frame n is of the gray 20 n.
    let grays: Vec<u8> = (0..10).map(|n| 20 * n).collect();
    let mut lists = [Vec::new(), Vec::new()];
    for (i, class) in folders.iter().enumerate() {
        for (split, group) in [(0, "g08"), (1, "g01")] {
            let video = format!("{class}/v_{class}_{group}_c01.avi");
            let bytes = if (i, split) == (0, 1) {
                odd.to_vec()
            } else {
                avi(&grays, 10)
            };
            this.put(&format!("UCF-101/{video}"), &bytes);
            // The list for training has the number of the class, the other has not.
            let number = if split == 0 {
                format!(" {}", i + 1)
            } else {
                String::new()
            };
            lists[split].push(format!("{video}{number}\r"));
        }
    }
    let lists = [("trainlist01", &lists[0]), ("testlist01", &lists[1])];
    let lists = lists.map(|(list, lines)| text(&format!("ucfTrainTestlist/{list}.txt"), lines));
    this.put("UCF101TrainTestSplits-RecognitionTask.zip", &zip(&lists));
    this
}

/// Whether there is an ffmpeg, of the machine or of `scripts/eval-data.sh`; where it must be, it is.
fn ffmpeg_is_there() -> bool {
    let there = Command::new("ffmpeg")
        .arg("-version")
        .env("PATH", prepare_support::path())
        .output()
        .is_ok_and(|output| output.status.success());
    let everything = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        there || !everything,
        "ffmpeg is missing: scripts/eval-data.sh fetches it"
    );
    if !there {
        eprintln!("skipped: ffmpeg is missing; scripts/eval-data.sh fetches it");
    }
    there
}

#[test]
fn ucf101_becomes_its_middle_frames() {
    if !ffmpeg_is_there() {
        return;
    }
    // A video whose header counts more frames than it has.
    let this = ucf101(&avi(&[0, 60, 120, 180, 240], 100));
    insta::assert_snapshot!(this.succeeds(), @r"
    ucf101_frames: 202 images in [DIR]/data/ucf101_frames
      train: 101 images, 101 classes
      val: 101 images, 101 classes
    note: train has 101 images; the published one has 9537
    note: val has 101 images; the published one has 3783
    ");
    this.assert_ordered(Split::Test);
    let gray = |file: &str| {
        let picture = rocket_worker::image::decode(&this.read(file)).expect("an image");
        assert_eq!((picture.width, picture.height), (16, 16));
        picture.data[0]
    };
    // Frame 6 of 10.
    for file in [
        "train/Archery/v_Archery_g08_c01.jpg",
        "val/YoYo/v_YoYo_g01_c01.jpg",
    ] {
        assert!(gray(file).abs_diff(120) < 4, "{}", gray(file));
    }
    // The last one.
    let last = gray("val/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.jpg");
    assert!(last.abs_diff(240) < 4, "{last}");
}

#[test]
fn a_video_that_cannot_be_read_is_named() {
    // Without ffmpeg.
    let this = ucf101(&avi(&[0], 1)).with_path("/nowhere");
    insta::assert_snapshot!(this.fails(), @"error: UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi: its middle frame is taken by ffmpeg, which cannot be started (No such file or directory (os error 2)); install it (Debian: apt-get install ffmpeg), and run this again: it goes on where it was");
    insta::assert_snapshot!(ucf101(b"no video").fails(), @"error: UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi: this is no AVI video that can be read");
    if ffmpeg_is_there() {
        insta::assert_snapshot!(ucf101(&avi(&[], 10)).fails(), @"error: UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi: ffmpeg found no frame in it");
    }
}
