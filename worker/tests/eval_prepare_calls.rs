//! `rocket-worker data prepare-eval`: calls that end early, and calls that are refused.

mod eval_support;
mod prepare_support;

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;

use eval_support::write_json;
use prepare_support::{Entries, Prepare, image, tar, zip};
use serde_json::json;

#[test]
fn an_interrupted_call_goes_on_where_it_was() {
    let this = Prepare::new("rendered_sst2");
    let name = |split: &str, class: &str| format!("rendered-sst2/{split}/{class}/0.png");
    let mut entries = Entries::new();
    for class in ["negative", "positive"] {
        entries.extend(["train", "valid", "test"].map(|split| image(&name(split, class))));
    }
    // Cut off in its last file, as a download that ended early.
    let whole = tar(&entries);
    this.put("rendered-sst2.tar", &whole[..5 * 1024 + 520]);
    let said = this.fails();
    insta::assert_snapshot!(said, @"error: [DIR]/source/rendered-sst2.tar: this archive cannot be read: unexpected EOF during skip; fetch it again");
    assert!(!this.dest().exists());

    // As if it had been killed after one file: that file is kept, and half a file is written again.
    let partial = this.dest().with_file_name("rendered_sst2.preparing");
    fs::create_dir_all(partial.join("test/negative")).expect("created");
    fs::create_dir_all(partial.join("test/positive")).expect("created");
    fs::write(partial.join("test/negative/0.png"), b"kept").expect("written");
    fs::write(partial.join("test/positive/0.png.part"), b"ha").expect("written");
    this.put("rendered-sst2.tar", &whole);
    insta::assert_snapshot!(this.succeeds(), @r"
    rendered_sst2: 6 images in [DIR]/data/rendered_sst2, 1 of them from an earlier call
      test: 2 images, 2 classes
      train: 2 images, 2 classes
      val: 2 images, 2 classes
    note: train has 2 images; the published one has 6920
    note: test has 2 images; the published one has 1821
    ");
    assert_eq!(this.read("test/negative/0.png"), b"kept");
    assert_eq!(fs::read_dir(this.dest()).expect("the set").count(), 4);
    assert_eq!(
        this.read("test/positive/0.png"),
        image(&name("test", "positive")).1
    );
    assert!(!partial.exists());

    // Of a source with other images: what it wrote would stay among these.
    let this = Prepare::new("rendered_sst2");
    let partial = this.dest().with_file_name("rendered_sst2.preparing");
    fs::create_dir_all(&partial).expect("created");
    fs::write(partial.join("plan.sha256"), "0".repeat(64)).expect("written");
    this.put("rendered-sst2.tar", &whole);
    insta::assert_snapshot!(this.fails(), @"error: [DIR]/data/rendered_sst2.preparing: an earlier call, which did not end, began it from a source with other images; remove it, and run this again");
}

#[test]
fn files_that_took_the_place_of_others_are_not_taken_for_what_was_unpacked() {
    let this = Prepare::new("patch_camelyon");
    let put = |x: &[u8]| {
        this.put("camelyonpatch_level_2_split_valid_x.h5.gz", &gz(x));
        this.put("camelyonpatch_level_2_split_valid_y.h5", b"no HDF5");
    };
    put(b"the wrong file");
    let broken = this.fails();
    assert!(broken.contains("valid_y.h5"), "{broken}");
    let partial = this.dest().with_file_name("patch_camelyon.preparing");
    let unpacked = partial.join("camelyonpatch_level_2_split_valid_x.h5");
    assert_eq!(fs::read(&unpacked).expect("unpacked"), b"the wrong file");
    // The same files: it goes on.
    assert_eq!(this.fails(), broken);

    put(b"the right file, which is longer");
    insta::assert_snapshot!(this.fails(), @"error: [DIR]/data/patch_camelyon.preparing: an earlier call, which did not end, began it from a source with other images; remove it, and run this again");
    fs::remove_dir_all(&partial).expect("removed");
    assert_eq!(this.fails(), broken);
    assert_eq!(
        fs::read(&unpacked).expect("unpacked"),
        b"the right file, which is longer"
    );
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("packed");
    packed.finish().expect("packed")
}

#[test]
fn what_cannot_be_prepared_is_said_in_a_sentence() {
    let mut said = String::new();
    let mut say = |this: &Prepare| said += &(this.fails() + "\n");
    // Unknown and special sets.
    say(&Prepare::new("food102"));
    say(&Prepare::new("mnist"));
    // Nothing there; a list without its images; an image that is not listed.
    let empty = Prepare::new("pets");
    say(&empty);
    empty.put(
        "annotations/trainval.txt",
        b"Abyssinian_1 1 1 1\nBengal_1 1 1 1\n",
    );
    empty.put("annotations/test.txt", b"Abyssinian_2 1 1 1\n");
    empty.put("images/Abyssinian_1.jpg", b"");
    say(&empty);
    // A path that leads out of the archive, in a zip and in a tar.
    let trap = Prepare::new("eurosat");
    let mut bytes = zip(&[image("2750/River/aa/escape_1.jpg")]);
    // In both places where a zip has it.
    while let Some(at) = bytes.windows(2).position(|w| w == b"aa") {
        bytes[at..at + 2].copy_from_slice(b"..");
    }
    trap.put("a.zip", &bytes);
    say(&trap);
    let trap = Prepare::new("eurosat");
    trap.put("a.tgz", &trap_tar());
    say(&trap);
    // A class that is no folder's name.
    let odd = Prepare::new("aircraft");
    for split in ["train", "val", "test"] {
        odd.put(&format!("images_variant_{split}.txt"), b"0000001 ..\n");
    }
    odd.put("images/0000001.jpg", b"");
    say(&odd);
    // No archive, a damaged one, and a destination in use.
    let damaged = Prepare::new("eurosat");
    damaged.put("EuroSAT.zip", b"PK\x03\x04 and then nothing");
    say(&damaged);
    let used = Prepare::new("eurosat");
    fs::create_dir_all(used.dest()).expect("created");
    fs::write(used.dest().join("mine.txt"), "").expect("written");
    say(&used);
    write_json(
        &used.dest().join("prepared.json"),
        &json!({"version": 1, "set": "pets", "source": "/x", "images": {}, "classes": {}}),
    );
    say(&used);
    insta::assert_snapshot!(said, @r"
    error: there is no evaluation set 'food102'; did you mean 'food101'? the sets are imagenet, food101, cub200, cars, aircraft, dtd, pets, caltech101, flowers, eurosat, resisc45, gtsrb, kitti_distance, country211, patch_camelyon, ucf101_frames, clevr_counts, hateful_memes, rendered_sst2

    error: 'mnist' is read as it is published: unpack it into its folder of the catalog, or run 'rocket-worker data fetch mnist FOLDER'

    error: [DIR]/source: there is no file annotations/trainval.txt; 'pets' is made of images.tar.gz and annotations.tar.gz

    error: [DIR]/source: 2 of the 3 listed images are not there: 'Bengal_1.jpg', 'Abyssinian_2.jpg'; 'pets' is made of images.tar.gz and annotations.tar.gz

    error: [DIR]/source/a.zip: '2750/River/../escape_1.jpg' cannot be read: its path leads out of the archive; such an archive is damaged or a trap: fetch it again

    error: [DIR]/source/a.tgz: '2750/../../evil.jpg' cannot be read: its path leads out of the archive; such an archive is damaged or a trap: fetch it again

    error: [DIR]/source: names an image or class that is no file name: 'train/../0000001.jpg'

    error: [DIR]/source/EuroSAT.zip: this archive cannot be read: invalid Zip archive: Could not find EOCD; fetch it again

    error: [DIR]/data/eurosat: there is something there that this command did not make; name another folder

    error: [DIR]/data/eurosat: the set 'pets' was prepared there; name another folder
    ");
}

/// A gzipped tar with a file `../evil.jpg`, which no library writes.
fn trap_tar() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    let name = b"2750/../../evil.jpg";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_cksum();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(header.as_bytes()).expect("packed");
    packed.write_all(&[0; 1024]).expect("packed");
    packed.finish().expect("packed")
}

#[test]
fn the_folder_is_the_catalogs_if_none_is_named() {
    let this = Prepare::new("rendered_sst2");
    for (split, class) in [("train", "negative"), ("train", "positive")] {
        this.put(&format!("rendered-sst2/{split}/{class}/0.png"), b"image");
    }
    let catalog = this.dir.path().join("catalog.json");
    let entry =
        json!({"path": "sets/sst2", "type": "imagefolder", "train": "train", "test": "test"});
    write_json(&catalog, &json!({"rendered_sst2": entry}));
    let call = |set: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
            .args(["data", "prepare-eval", set, "--json", "--catalog"])
            .args([&catalog, &this.source()])
            .output()
            .expect("rocket-worker starts");
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).replace(&this.dir.path().display().to_string(), "[DIR]")
    };
    insta::assert_snapshot!(call("rendered_sst2"), @r#"
    {
      "version": 1,
      "set": "rendered_sst2",
      "source": "[DIR]/source",
      "images": {
        "train": 2
      },
      "classes": {
        "train": 2
      },
      "found_written": 0,
      "notes": [
        "train has 2 images; the published one has 6920",
        "there is no split 'test', which is the one that is scored"
      ]
    }
    "#);
    assert!(
        this.dir
            .path()
            .join("sets/sst2/train/positive/0.png")
            .is_file()
    );
    insta::assert_snapshot!(call("pets"), @"error: [DIR]/catalog.json: there is no entry 'pets'; it has 'rendered_sst2'. Choose one of these or add 'pets' to the file");
}

#[test]
fn a_source_that_is_no_archive_is_named() {
    let this = Prepare::new("eurosat");
    let file = this.dir.path().join("EuroSAT.rar");
    File::create(&file).expect("created");
    let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
        .args(["data", "prepare-eval", "eurosat"])
        .args([&file, &this.dest()])
        .output()
        .expect("rocket-worker starts");
    let said = String::from_utf8_lossy(&output.stderr)
        .replace(&this.dir.path().display().to_string(), "[DIR]");
    insta::assert_snapshot!(said, @"error: [DIR]/EuroSAT.rar: this is no archive that can be read (.zip, .tar, .tar.gz, .tgz); name one, or the folder that holds the set's files");
}
