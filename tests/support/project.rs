//! A small project: an experiment, its data and a git repository around them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::npy;
use crate::run::run_id;
use crate::slurm::User;

/// Side of the images in pixels.
const SIDE: u32 = 16;
const COLOURS: [(&str, [u8; 3]); 4] = [
    ("red", [220, 40, 30]),
    ("green", [40, 180, 60]),
    ("blue", [40, 60, 220]),
    ("grey", [120, 120, 120]),
];
const SHAPES: [&str; 4] = ["disc", "square", "bar", "cross"];

/// What a program printed.
pub trait Text {
    /// Standard output.
    fn out(&self) -> String;
    /// Standard error.
    fn err(&self) -> String;
    /// Standard output of a success.
    ///
    /// # Panics
    /// The program failed.
    fn ok(&self) -> String;
}

impl Text for Output {
    fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    fn ok(&self) -> String {
        assert!(
            self.status.success(),
            "{}\nstdout:\n{}\nstderr:\n{}",
            self.status,
            self.out(),
            self.err()
        );
        self.out()
    }
}

/// A git repository with `exp.yaml`, a training set in `data/`, and an evaluation set `shapes`.
/// It and the runs within are removed at the end; runs that still go are cancelled first.
#[derive(Debug)]
pub struct Project {
    dir: TempDir,
    path: PathBuf,
    /// Whoever it belongs to and works in it; this process's user if nobody.
    user: Option<User>,
    /// Folder of the programs.
    binaries: PathBuf,
    env: Vec<(String, OsString)>,
}

impl Project {
    /// Makes it. The experiment trains a very small CL2L model on 2 ranks for `max_steps` steps.
    ///
    /// # Panics
    /// The file system or git refuses.
    #[must_use]
    pub fn new(max_steps: u64) -> Self {
        let anywhere = std::env::temp_dir();
        Self::make(max_steps, &anywhere, None, crate::binaries(), Vec::new())
    }

    /// Makes it below a folder for a user of this machine, who runs the programs of `binaries` with
    /// these variables.
    ///
    /// # Panics
    /// The file system or git refuses.
    #[must_use]
    pub fn of_user(
        max_steps: u64,
        parent: &Path,
        user: &User,
        binaries: PathBuf,
        env: Vec<(String, OsString)>,
    ) -> Self {
        Self::make(max_steps, parent, Some(user.clone()), binaries, env)
    }

    fn make(
        max_steps: u64,
        parent: &Path,
        user: Option<User>,
        binaries: PathBuf,
        env: Vec<(String, OsString)>,
    ) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("rocket-project-")
            .tempdir_in(parent)
            .expect("a temporary folder");
        let path = dir.path().canonicalize().expect("the folder is there");
        let project = Self {
            dir,
            path,
            user,
            binaries,
            env,
        };
        project.write("exp.yaml", &experiment(max_steps));
        project.write(".gitignore", "/data\n/runs\n");
        project.write_data();
        if let Some(user) = &project.user {
            user.own(&project.path);
        }
        project.git(&["init", "--quiet", "--initial-branch", "main"]);
        project.commit("Start");
        project
    }

    /// Top of the repository.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file, by its path within the repository.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, file: &str, content: &str) {
        let path = self.path.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder made");
        fs::write(&path, content).expect("file written");
        if let Some(user) = &self.user {
            user.own(&path);
        }
    }

    /// Commits everything that is not ignored.
    pub fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    /// Runs git with an identity of its own and without the user's settings.
    ///
    /// # Panics
    /// It fails.
    pub fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        if let Some(user) = &self.user {
            user.become_in(&mut command);
        }
        command
            .args(["-c", "user.name=Test", "-c", "user.email=test@example.org"])
            .args(args)
            .current_dir(&self.path)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null");
        command.output().expect("git starts").ok()
    }

    /// A program with the release binaries first on its path, in the repository's top folder.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut path = self.binaries.clone().into_os_string();
        path.push(":");
        let mut command = Command::new(program);
        if let Some(user) = &self.user {
            user.become_in(&mut command);
            path.push("/usr/local/bin:/usr/bin:/bin");
        } else {
            path.push(std::env::var_os("PATH").unwrap_or_default());
        }
        command
            .current_dir(&self.path)
            .env("PATH", path)
            .env_remove("ROCKET_RUNS")
            .env_remove("LIBTORCH")
            .env_remove("LD_LIBRARY_PATH")
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs `rocket`.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn rocket(&self, args: &[&str]) -> Output {
        self.command(&self.binaries.join("rocket").to_string_lossy())
            .args(args)
            .output()
            .expect("rocket starts")
    }

    /// Submits the experiment once more with overrides, and gives the run's id.
    ///
    /// # Panics
    /// It is refused.
    #[must_use]
    pub fn submit<S: AsRef<str>>(&self, set: &[S]) -> String {
        let mut args = vec!["submit", "exp.yaml", "--again"];
        for value in set {
            args.extend(["--set", value.as_ref()]);
        }
        run_id(&self.rocket(&args).ok())
    }

    /// Waits until a run is finished, and gives its folder.
    ///
    /// # Panics
    /// It fails, or takes more than three minutes.
    pub fn finished(&self, run: &str) -> PathBuf {
        self.wait_for(run, "finish", |status| {
            assert_ne!(status["status"], "failed", "{status:#}");
            status["status"] == "finished"
        });
        self.path.join("runs").join(run)
    }

    /// What `rocket status --json` says of one run.
    ///
    /// # Panics
    /// The run is not known.
    pub fn status(&self, run: &str) -> Value {
        let text = self.rocket(&["status", run, "--json"]).ok();
        let mut all: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        all.pop().expect("one run")
    }

    /// Waits until a run's status satisfies `wanted`.
    ///
    /// # Panics
    /// It does not within three minutes.
    pub fn wait_for(&self, run: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status(run);
            if wanted(&status) {
                return status;
            }
            assert!(
                start.elapsed() < Duration::from_secs(180),
                "no {what} within three minutes: {status:#}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn write_data(&self) {
        let mut samples = Vec::new();
        let mut labels = Vec::new();
        for (colour, rgb) in COLOURS {
            for shape in SHAPES {
                let name = format!("{colour} {shape}");
                for variant in 0..4 {
                    let file = format!("{colour}-{shape}-{variant}.png");
                    save(
                        &self.path.join("data/train").join(&file),
                        shape,
                        rgb,
                        variant,
                    );
                    let captions = vec![format!("a {name}"), format!("{name} on white")];
                    samples.push((file, captions));
                }
                save(
                    &self.path.join("data/shapes/test").join(&name).join("0.png"),
                    shape,
                    rgb,
                    9,
                );
                labels.push(name);
            }
        }
        let samples: Vec<(&str, Vec<String>)> = samples
            .iter()
            .map(|(file, captions)| (file.as_str(), captions.clone()))
            .collect();
        fs::write(
            self.path.join("data/train.npy"),
            npy::object_array(&samples),
        )
        .expect("npy written");
        // The same captions as COCO has them.
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        for (id, (file, captions)) in samples.iter().enumerate() {
            images.push(json!({"id": id, "file_name": file}));
            let captions = captions.iter();
            annotations.extend(captions.map(|text| json!({"image_id": id, "caption": text})));
        }
        self.write(
            "data/captions.json",
            &json!({"images": images, "annotations": annotations}).to_string(),
        );
        let folder = self.path.join("data/shapes");
        let catalog = json!({"shapes": {"path": folder, "type": "imagefolder", "train": "test", "test": "test"}});
        self.write("dataset_catalog.json", &format!("{catalog:#}\n"));
        self.write("labels.json", &format!("{:#}\n", json!({"shapes": labels})));
        self.write(
            "templates.json",
            &format!("{:#}\n", json!({"shapes": ["{}", "a {}"]})),
        );
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let Ok(runs) = fs::read_dir(self.path.join("runs")) else {
            return;
        };
        for run in runs
            .flatten()
            .filter(|run| run.path().join("run.json").exists())
        {
            let run = run.path();
            // Fails for a run that is over, which is fine.
            let _ = self.rocket(&["cancel", "--now", &run.to_string_lossy()]);
        }
        let _ = &self.dir;
    }
}

/// An image of a shape; the variant moves it and shifts its brightness.
fn save(path: &Path, shape: &str, rgb: [u8; 3], variant: u32) {
    let mut image = RgbImage::from_pixel(SIDE, SIDE, Rgb([255, 255, 255]));
    let (cx, cy) = (
        6 + i64::from(variant % 2) * 3,
        6 + i64::from(variant / 2 % 2) * 3,
    );
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let (dx, dy) = (i64::from(x) - cx, i64::from(y) - cy);
        let inside = match shape {
            "disc" => dx * dx + dy * dy <= 25,
            "square" => dx.abs() <= 4 && dy.abs() <= 4,
            "bar" => dx.abs() <= 5 && dy.abs() <= 1,
            _ => dx.abs() <= 5 && dy.abs() <= 1 || dy.abs() <= 5 && dx.abs() <= 1,
        };
        if inside {
            *pixel = Rgb(rgb.map(|value| value.saturating_sub(5 * variant as u8)));
        }
    }
    fs::create_dir_all(path.parent().expect("a folder")).expect("folder made");
    image.save(path).expect("image written");
}

fn experiment(max_steps: u64) -> String {
    format!(
        "\
name: first
model:
  base: CL2L
  child: CL2L
  vision: {{arch: vit, width: 16, depth: 1, heads: 2, patch: 8, image_size: {SIDE}}}
  embed_dim: 16
  transformer_width: 16
  transformer_layers: 1
  transformer_heads: 2
data:
  dataset: cc3m
  root: data/train
  metadata: data/train.npy
  workers: 1
augment:
  num_augs: 1
optim:
  lr: 1.0e-3
train:
  max_steps: {max_steps}
  batch_size: 4
  print_freq: 5
  checkpoint_every: 50 steps
eval:
  eval_freq: 0
  datasets: [shapes]
cluster:
  backend: local
  nodes: 1
  gpus_per_node: 0
  tasks_per_node: 2
  cpus_per_task: 1
  device: cpu
"
    )
}
