//! `rocket-worker eval` on a run directory with a tiny model.

mod eval_support;
mod run_support;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use eval_support::write_json;
use rocket_common::exit::ExitKind;
use rocket_common::run_dir::RunDir;
use rocket_worker::eval::ZeroShot;
use serde_json::json;
use tempfile::TempDir;

/// A run with checkpoints of steps 10 (better) and 20.
struct Run {
    root: TempDir,
    run: RunDir,
}

impl Run {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let experiment = run_support::experiment(run_support::TINY);
        let run = run_support::create(root.path(), &experiment);
        let pin = run.path().join("pin");
        fs::create_dir_all(&pin).expect("created");
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tiny");
        for file in ["labels.json", "templates.json"] {
            fs::copy(data.join(file), pin.join(file)).expect("copied");
        }
        let entry = json!({"path": data.join("eval"), "type": "imagefolder", "test": "val"});
        write_json(&pin.join("dataset_catalog.json"), &json!({"tiny": entry}));
        for (step, score) in [(10, 0.75), (20, 0.5)] {
            let model = run_support::model(&experiment, step);
            run_support::save(&run, &model, step, &[("z_top1", score)]);
        }
        Self { root, run }
    }

    fn eval(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_rocket-worker"))
            .args(["eval", "--run"])
            .arg(self.run.path())
            .args(args)
            .env_remove("ROCKET_PIN_DIR")
            .output()
            .expect("it ran");
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            text.replace(&format!("{}/", self.root.path().display()), "")
        };
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    fn result(&self, step: u64) -> ZeroShot {
        let file = self.run.eval_dir().join(format!("tiny-step-{step}.json"));
        serde_json::from_slice(&fs::read(file).expect("a result")).expect("JSON")
    }
}

#[test]
fn a_checkpoint_is_scored_printed_and_recorded() {
    let run = Run::new();
    let (code, table, said) = run.eval(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        table.starts_with("tiny: 8 images, 2 classes, chance 50.000 %, step 10\n"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 2 + 11, "{table}");
    let best = run.result(10);
    assert_eq!(
        (best.checkpoint.as_str(), best.samples, best.classes),
        ("step-00000010", 8, 2)
    );
    assert!(best.heads.iter().all(|head| head.top5 == 100.0));
    assert_eq!(best.table(), table);

    let (code, json, said) = run.eval(&["--checkpoint", "last", "--json", "--threads", "1"]);
    assert_eq!(code, Some(0), "{said}");
    let printed: Vec<ZeroShot> = serde_json::from_str(&json).expect("JSON");
    assert_eq!(printed, [run.result(20)]);

    // The same by step and by path.
    for wish in [
        "20".to_owned(),
        run.run
            .checkpoints_dir()
            .join("step-00000020")
            .display()
            .to_string(),
    ] {
        let (code, again, said) = run.eval(&["--checkpoint", &wish, "--json"]);
        assert_eq!((code, again), (Some(0), json.clone()), "{said}");
    }
}

#[test]
fn what_cannot_be_scored_is_one_clear_error() {
    let run = Run::new();
    let mut said = String::new();
    let mut wrong = |args: &[&str], kind: ExitKind| {
        let (code, out, error) = run.eval(args);
        assert_eq!(
            (code, out.as_str()),
            (Some(i32::from(kind.code())), ""),
            "{error}"
        );
        said.push_str(&format!("$ eval {}\n{error}\n", args.join(" ")));
    };
    wrong(&["--checkpoint", "30"], ExitKind::Usage);
    wrong(&["--checkpoint", "first"], ExitKind::Usage);
    wrong(&["--datasets", "cars,tiny"], ExitKind::Experiment);
    // A checkpoint of another model.
    let pin = run.run.path().join("pin");
    let yaml = fs::read_to_string(run.run.experiment_path()).expect("the experiment");
    fs::write(
        run.run.experiment_path(),
        yaml.replace("embed_dim: 8", "embed_dim: 12"),
    )
    .expect("written");
    wrong(&[], ExitKind::Checkpoint);
    fs::write(run.run.experiment_path(), yaml).expect("written");
    // One class folder too many, told before anything is computed.
    let folder = run.root.path().join("set/val");
    for class in ["building", "flower", "zebra"] {
        fs::create_dir_all(folder.join(class)).expect("created");
    }
    let entry = json!({"path": "set", "type": "imagefolder", "test": "val"});
    let catalog = run.root.path().join("catalog.json");
    write_json(&catalog, &json!({"tiny": entry}));
    let catalog = catalog.display().to_string();
    wrong(&["--catalog", &catalog], ExitKind::Data);
    // An image that is none.
    fs::remove_dir(folder.join("zebra")).expect("removed");
    for class in ["building", "flower"] {
        fs::write(folder.join(class).join("0.jpg"), b"no image").expect("written");
    }
    wrong(&["--catalog", &catalog], ExitKind::Data);
    // No prompts, and a set that has no published ones.
    fs::remove_file(pin.join("templates.json")).expect("removed");
    wrong(&[], ExitKind::Experiment);
    let said = said.replace(&format!("{}/", run.root.path().display()), "");
    insta::assert_snapshot!(said, @r"
    $ eval --checkpoint 30
    error: the run has no checkpoint of step 30
    hint: it has those of steps 20, 10

    $ eval --checkpoint first
    error: --checkpoint 'first' is neither 'best', 'last', a step, nor a directory
    hint: it has those of steps 20, 10

    $ eval --datasets cars,tiny
    error: tiny-01234567/pin/dataset_catalog.json: there is no entry 'cars'; it has 'tiny'. Choose one of these or add 'cars' to the file

    $ eval 
    error: checkpoint step-00000010 is of another model: the tensors do not fit this model; of another shape: image_projector.weight is [12, 16] here, [8, 16] there, text_projector.weight is [12, 16] here, [8, 16] there

    $ eval --catalog catalog.json
    error: set/val: the class folders of 'tiny' do not match its labels in tiny-01234567/pin/labels.json:
      3 class folders, but 2 labels
      no label for 1 folder: 'zebra'
    remove what is too much, add what is missing, or give the label of each folder under 'classes' in the catalog

    $ eval --catalog catalog.json
    error: set/val/building/0.jpg: this image of the evaluation set cannot be read: the file is neither JPEG, PNG, WebP, GIF nor BMP (it begins with 6e 6f 20 69); replace it or remove it from the set

    $ eval 
    error: there are no prompts of 'tiny': there is no file tiny-01234567/pin/templates.json, and they are not among the published ones that rocket carries. Add 'tiny' to the file
    ");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_said() {
    let run = Run::new();
    let file = run
        .run
        .checkpoints_dir()
        .join("step-00000010/model.safetensors");
    let mut bytes = fs::read(&file).expect("the weights");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("written");
    let (code, table, said) = run.eval(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(table.contains("step 20"), "{table}");
    assert!(
        said.contains("'model.safetensors' does not match its checksum"),
        "{said}"
    );
    let (code, _, said) = run.eval(&["--checkpoint", "10"]);
    assert_eq!(code, Some(i32::from(ExitKind::Checkpoint.code())), "{said}");
}
