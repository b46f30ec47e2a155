//! Sets of a catalog that are fetched when they are missing, on request.

mod eval_support;
mod run_support;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use eval_support::write_json;
use flate2::Compression;
use flate2::write::GzEncoder;
use rocket_worker::data::fetch::{Archive, ArchiveOptions, Contents, Origin, Published, Reach};
use rocket_worker::eval::check::{State, check};
use rocket_worker::eval::special::fetch_missing;
use rocket_worker::eval::{Catalog, Labels, Templates};
use serde_json::json;
use sha2::{Digest, Sha256};

/// One of MNIST's files as it is published, in `folder`, and what is known of it.
fn publish(folder: &Path, name: &'static str, bytes: &[u8]) -> Archive {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("packed");
    let packed = packed.finish().expect("packed");
    let file: &'static str = format!("{name}.gz").leak();
    fs::write(folder.join(file), &packed).expect("written");
    let sum = Sha256::digest(&packed);
    let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    Archive {
        file,
        places: &[],
        bytes: packed.len() as u64,
        sha256: sum.leak(),
        contents: Contents::Gz {
            folder: "MNIST/raw",
            name,
            bytes: bytes.len() as u64,
        },
    }
}

fn catalog(folder: &Path) -> Catalog {
    let special = |path: &str| json!({"path": path, "type": "special"});
    write_json(
        &folder.join("catalog.json"),
        &json!({
            "mnist": special("sets/mnist"),
            "cifar10": special("${ROCKET_NOWHERE}/cifar10"),
            "pets": {"path": "sets/pets", "type": "imagefolder", "train": "trainval", "test": "test"},
        }),
    );
    Catalog::load(&folder.join("catalog.json"), folder).expect("a catalog")
}

#[test]
fn a_missing_set_is_fetched_into_its_place_and_is_ready_then() {
    let dir = tempfile::tempdir().expect("a folder");
    let shelf = dir.path().join("shelf");
    fs::create_dir_all(&shelf).expect("created");
    let images = [
        [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28].to_vec(),
        vec![90; 2 * 784],
    ]
    .concat();
    let archives = vec![
        publish(&shelf, "t10k-images-idx3-ubyte", &images),
        publish(
            &shelf,
            "t10k-labels-idx1-ubyte",
            &[0, 0, 8, 1, 0, 0, 0, 2, 7, 2],
        ),
    ];
    let mnist = Published {
        name: "mnist",
        archives: archives.leak(),
    };
    let options = ArchiveOptions {
        from: Origin::Folder(shelf),
        folder: "/nowhere/at/all".into(),
        tries: 1,
        pause: Duration::from_millis(1),
        timeout: Duration::from_secs(1),
        reach: Reach::Public,
        user_agent: "test".into(),
    };
    let catalog = catalog(dir.path());
    let state = || {
        let none = dir.path().join("none.json");
        let labels = Labels::load_if_there(&none).expect("none");
        let templates = Templates::load_if_there(&none).expect("none");
        check("mnist", &catalog, &labels, &templates, 2).expect("checked")
    };
    assert_eq!(state().state, State::Missing);
    // Of another name nothing is fetched.
    let fetch = |names: &[&str]| {
        let fetched = fetch_missing(&catalog, names, &[mnist], &options).expect("fetched");
        fetched
            .into_iter()
            .map(|report| report.set)
            .collect::<Vec<_>>()
    };
    assert_eq!(fetch(&["pets", "cifar10"]), Vec::<String>::new());
    assert_eq!(fetch(&["pets", "mnist"]), ["mnist"]);
    let checked = state();
    assert_eq!((checked.state, checked.images), (State::Ready, Some(2)));
    assert_eq!(fetch(&["mnist"]), Vec::<String>::new());
}

#[test]
fn what_cannot_be_had_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    catalog(dir.path());
    let shelf = dir.path().join("shelf");
    fs::create_dir_all(&shelf).expect("created");
    fs::write(shelf.join("train-images-idx3-ubyte.gz"), "another file").expect("written");
    let mut all = String::new();
    let mut say = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
            .args(args)
            .current_dir(dir.path())
            .env_remove("ROCKET_NOWHERE")
            .env_remove("ROCKET_PIN_DIR")
            .output()
            .expect("rocket-worker starts");
        assert!(!output.status.success());
        all.push_str(&format!("$ {} ({})\n", args.join(" "), output.status));
        all.push_str(&String::from_utf8_lossy(&output.stderr));
    };
    say(&[
        "data",
        "check",
        "--catalog",
        "catalog.json",
        "--fetch=shelf",
    ]);
    say(&[
        "data",
        "check",
        "--catalog",
        "catalog.json",
        "--fetch=shelves",
    ]);
    say(&["data", "check", "--fetch"]);
    let experiment = run_support::experiment(run_support::TINY);
    let run = run_support::create(dir.path(), &experiment);
    run_support::save(&run, &run_support::model(&experiment, 0), 10, &[]);
    let args = ["eval", "--run", "tiny-01234567", "--catalog=catalog.json"];
    say(&[&args[..], &["--datasets=all", "--fetch=shelf"]].concat());
    say(&[&args[..], &["--datasets=pets", "--fetch=shelf"]].concat());
    let all = all.replace(&dir.path().display().to_string(), "[DIR]");
    insta::assert_snapshot!(all);
}
