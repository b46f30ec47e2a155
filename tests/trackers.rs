//! TensorBoard, Weights & Biases and MLflow, read back by their own packages: what they hold of a run that
//! was interrupted, and what becomes of a run, and of them, when they fail while it trains.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Project, Text, curve, last_step, pid_of_rank, python};

/// Enough of them that a run still goes on when something is done to it in its first.
const STEPS: u64 = 300;

/// What a package reads.
#[track_caller]
fn read(python: &Path, args: &[&str]) -> Value {
    let output = Command::new(python)
        .arg(support::root().join("worker/tests/python/trackers.py"))
        .args(args)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .expect("Python starts");
    serde_json::from_str(&output.ok()).expect("JSON")
}

/// A real MLflow server, ended with the value.
struct Mlflow {
    child: Child,
    port: u16,
}

impl Mlflow {
    /// Starts one, whose answer is not waited for.
    fn start(python: &Path, folder: &Path, port: u16) -> Self {
        let database = folder.join("mlflow.db");
        let log = fs::File::create(folder.join("mlflow.log")).expect("a log");
        let child = Command::new(python)
            .args([
                "-m",
                "mlflow",
                "server",
                "--workers",
                "1",
                "--host",
                "127.0.0.1",
            ])
            .args(["--port", &port.to_string(), "--backend-store-uri"])
            .arg(format!("sqlite:///{}", database.display()))
            .arg("--default-artifact-root")
            .arg(folder.join("artifacts"))
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("mlflow starts");
        Self { child, port }
    }

    fn uri(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn wait(self) -> Self {
        let start = Instant::now();
        while !healthy(self.port) {
            assert!(
                start.elapsed() < Duration::from_secs(90),
                "mlflow does not answer"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        self
    }

    /// Ends it with its workers, at once.
    fn kill(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-9", "--", &group]).status();
        let _ = self.child.wait();
    }
}

impl Drop for Mlflow {
    fn drop(&mut self) {
        self.kill();
    }
}

fn healthy(port: u16) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let asked = stream.write_all(b"GET /health HTTP/1.0\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ")
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A run of some steps, evaluated now and then, with trackers if a server is named.
fn overrides(steps: u64, uri: Option<&str>) -> Vec<String> {
    let mut set = vec![
        format!("train.max_steps={steps}"),
        "train.print_freq=1".to_owned(),
        "train.checkpoint_every=50 steps".to_owned(),
        "train.batch_size=8".to_owned(),
        format!("eval.eval_freq={}", if steps < 100 { 2 } else { 10 }),
    ];
    if let Some(uri) = uri {
        set.push("track.tensorboard=true".to_owned());
        set.push("track.wandb={project: pets, entity: lab, tags: [one, two]}".to_owned());
        set.push(format!("track.mlflow={{uri: '{uri}', experiment: pets}}"));
    }
    set
}

/// Numbers by name and step, as `metrics.jsonl` has them.
type Curves = BTreeMap<String, Vec<(u64, f64)>>;

fn wanted(run: &Path) -> Curves {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let mut curves = Curves::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let fields = line.as_object().expect("an object");
        let step = line["step"].as_u64().expect("a step");
        let again = |name: &str| line["kind"] == "eval" && name == "epoch";
        for (name, value) in fields {
            if let Some(value) = value.as_f64()
                && !["step", "time"].contains(&name.as_str())
                && !again(name)
            {
                curves.entry(name.clone()).or_default().push((step, value));
            }
        }
    }
    assert!(curves.len() > 8 && curves.keys().any(|name| name.starts_with("shapes/")));
    curves
}

/// Curves of `{name: [[step, value], ...]}`.
fn curves(found: &Value) -> Curves {
    let points = |points: &Value| -> Vec<(u64, f64)> {
        let points = points.as_array().expect("points").iter();
        points
            .map(|point| {
                let step = point[0].as_u64().expect("a step");
                (step, point[1].as_f64().expect("a value"))
            })
            .collect()
    };
    let found = found.as_object().expect("curves").iter();
    found
        .map(|(name, found)| (name.clone(), points(found)))
        .collect()
}

/// Curves of rows `{name: value, "_step": step}`, whose steps must grow.
fn curves_of_rows(rows: &Value) -> Curves {
    let mut curves = Curves::new();
    let mut last = 0;
    for row in rows.as_array().expect("rows") {
        let step = row["_step"].as_u64().expect("a step");
        assert!(step > last, "step {step} follows {last}");
        last = step;
        for (name, value) in row.as_object().expect("a row") {
            if !name.starts_with('_') {
                let value = value.as_f64().expect("a number");
                curves.entry(name.clone()).or_default().push((step, value));
            }
        }
    }
    curves
}

fn as_float32(curves: &Curves) -> Curves {
    let mut curves = curves.clone();
    for (_, value) in curves.values_mut().flatten() {
        *value = f64::from(*value as f32);
    }
    curves
}

/// Figures of the machine, of which a step that was done again has others.
const OF_MACHINE: [&str; 5] = [
    "bytes_read",
    "resident_bytes",
    "samples_per_second",
    "wait_seconds",
    "wait_share",
];

/// Without the values of the machine's figures, of which those keep the first that cannot take numbers back: whether
/// they had any of the steps that were done again when the rank was killed is a matter of milliseconds.
fn kept_at_first(curves: &Curves) -> Curves {
    let mut curves = curves.clone();
    for name in OF_MACHINE {
        let points = curves.get_mut(name).expect(name);
        points.iter_mut().for_each(|(_, value)| *value = 0.0);
    }
    curves
}

/// The only folder of offline runs.
fn offline_run(run: &Path) -> PathBuf {
    let folders: Vec<PathBuf> = fs::read_dir(run.join("wandb"))
        .expect("offline runs")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let [folder] = folders.as_slice() else {
        panic!("not one offline run: {folders:?}");
    };
    folder.clone()
}

/// Reads all three, and compares every number.
#[track_caller]
fn all_hold_everything(python: &Path, run: &Path, uri: &str) -> [Value; 3] {
    let id = run.file_name().expect("an id").to_str().expect("a text");
    let wanted = wanted(run);
    let text = |path: &Path| path.to_str().expect("a text").to_owned();

    let tensorboard = read(python, &["tensorboard", &text(&run.join("tb"))]);
    assert_eq!(curves(&tensorboard["scalars"]), as_float32(&wanted));

    let file = offline_run(run).join(format!("run-{id}.wandb"));
    let wandb = read(python, &["wandb", &text(&file)]);
    let wanted = kept_at_first(&wanted);
    assert_eq!(kept_at_first(&curves_of_rows(&wandb["history"])), wanted);
    let numbers: Vec<u64> = (1..=wandb["kinds"].as_array().expect("kinds").len() as u64).collect();
    assert_eq!(wandb["numbers"], json!(numbers));

    let runs = read(python, &["mlflow", uri, "pets"]);
    let runs = runs.as_array().expect("runs").iter();
    let named: Vec<&Value> = runs.filter(|found| found["name"] == id).collect();
    let [mlflow] = named.as_slice() else {
        panic!("not one run {id}: {named:?}");
    };
    assert_eq!(kept_at_first(&curves(&mlflow["metrics"])), wanted);
    [tensorboard, wandb, (*mlflow).clone()]
}

fn log(run: &Path) -> String {
    let attempts = fs::read_dir(run.join("attempts")).expect("attempts");
    let mut logs: Vec<PathBuf> = attempts
        .map(|entry| entry.expect("an entry").path().join("ranks/0.log"))
        .filter(|path| path.is_file())
        .collect();
    logs.sort();
    logs.iter()
        .map(|path| fs::read_to_string(path).expect("a log"))
        .collect()
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

fn wait_for_step(run: &Path, step: u64) {
    let start = Instant::now();
    while last_step(run) < step {
        assert!(
            start.elapsed() < Duration::from_secs(90),
            "step {step} is not reached"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn trackers_hold_every_number_once_and_their_failures_harm_nothing() {
    let Some(python) = python() else { return };
    let project = Project::new(STEPS);
    let runs = project.path().join("runs");
    let folder = tempfile::tempdir().expect("a folder");
    // It takes its time to start.
    let mut server = Mlflow::start(&python, folder.path(), free_port());
    let uri = server.uri();
    let plain = project.finished(&project.submit(&overrides(STEPS, None)));
    let plain = curve(&plain);
    server = server.wait();

    // Interrupted as agreed, and killed: the steps since the last checkpoint are done twice.
    let id = project.submit(&overrides(STEPS, Some(&uri)));
    let run = runs.join(&id);
    wait_for_step(&run, 12);
    project.rocket(&["preempt", &id]).ok();
    wait_for_step(&run, 130);
    let lead = pid_of_rank(&run, 0).to_string();
    let killed = Command::new("kill").args(["-9", &lead]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    project.finished(&id);
    let status = project.status(&id);
    assert_eq!(status["resumptions"].as_u64(), Some(2), "{status:#}");
    assert_eq!(curve(&run), plain, "losses differ");
    let [tensorboard, wandb, mlflow] = all_hold_everything(&python, &run, &uri);
    assert_eq!(count(&log(&run), "WARN"), 0, "{}", log(&run));

    assert_eq!(tensorboard["files"], 3);
    let text = tensorboard["texts"]["experiment/text_summary"][0].as_str();
    assert!(text.is_some_and(|text| text.contains("lr: 0.001") && text.contains(&id)));

    let about = &wandb["run"];
    assert_eq!(about["id"], *id);
    assert_eq!(about["config"]["optim"]["lr"], 1e-3);
    assert_eq!(
        (&about["project"], &about["entity"]),
        (&json!("pets"), &json!("lab"))
    );
    assert_eq!(about["tags"], json!(["one", "two"]));
    assert_eq!(about["commit"], about["config"]["rocket"]["commit"]);
    assert_eq!(wandb["exit"], 0);
    assert_eq!(wandb["summary"]["_step"], STEPS);
    assert_eq!(
        wandb["summary"]["loss"],
        plain.last().expect("a step")["loss"]
    );
    for name in ["config.yaml", "wandb-metadata.json", "wandb-summary.json"] {
        assert!(
            offline_run(&run).join("files").join(name).is_file(),
            "{name}"
        );
    }
    let folder_of = offline_run(&run);
    let folder_of = folder_of.to_str().expect("a text");
    for _ in 0..2 {
        // Twice: what is synced again is the same run.
        let sent = read(&python, &["wandb-sync", folder_of]);
        assert_eq!(sent["rc"], 0, "{sent:#}");
        let history = &sent["streams"]["wandb-history.jsonl"];
        assert!(history.is_array(), "{sent:#}");
        assert_eq!(curves_of_rows(history), wanted(&run));
        assert_eq!(sent["runs"][0]["name"], *id);
        assert_eq!(sent["runs"][0]["project"], "pets");
        assert_eq!(sent["exit"], 0);
    }

    assert_eq!(mlflow["status"], "FINISHED");
    assert_eq!(mlflow["params"]["optim.lr"], "0.001");
    assert_eq!(mlflow["tags"]["rocket.run_id"], *id);
    assert_eq!(mlflow["tags"]["mlflow.source.git.commit"], about["commit"]);

    // All of them fail in the middle of a run.
    let id = project.submit(&overrides(STEPS, Some(&uri)));
    let run = runs.join(&id);
    wait_for_step(&run, 8);
    let mut worker = project.command("rocket-worker");
    let early = worker.args(["track", "sync"]).arg(&run).output();
    let early = early.expect("rocket-worker starts");
    assert_eq!(early.status.code(), Some(2), "{}", early.err());
    assert!(
        early.err().contains("it writes to its trackers itself"),
        "{}",
        early.err()
    );
    server.kill();
    fs::remove_dir_all(run.join("wandb")).expect("an offline run");
    fs::write(run.join("wandb"), "in the way").expect("written");
    fs::remove_dir_all(run.join("tb")).expect("event files");
    fs::write(run.join("tb"), "in the way").expect("written");
    project.finished(&id);
    assert_eq!(curve(&run), plain, "losses differ");
    let said = log(&run);
    for name in ["TensorBoard", "Weights & Biases", "MLflow"] {
        assert_eq!(
            count(&said, &format!("{name} could not be written")),
            1,
            "{said}"
        );
        assert_eq!(
            count(&said, &format!("{name} has the numbers up to")),
            1,
            "{said}"
        );
    }
    assert_eq!(count(&said, "rocket-worker track sync"), 3, "{said}");

    // They catch up later.
    let _server = Mlflow::start(&python, folder.path(), server.port).wait();
    for name in ["tb", "wandb"] {
        fs::remove_file(run.join(name)).expect("removed");
    }
    let sync = |folder: &Path| {
        let mut worker = project.command("rocket-worker");
        worker.args(["track", "sync"]).arg(folder);
        worker.output().expect("rocket-worker starts").ok()
    };
    sync(&run);
    let [_, wandb, mlflow] = all_hold_everything(&python, &run, &uri);
    assert_eq!(
        (&wandb["exit"], &mlflow["status"]),
        (&json!(0), &json!("FINISHED"))
    );
    let again = sync(&run);
    assert_eq!(count(&again, "MLflow: 0 new records"), 1, "{again}");
    all_hold_everything(&python, &run, &uri);
}

/// Serves a port until the value is dropped: takes connections, and answers each by `answer` or never.
fn serve(answer: Option<&'static str>) -> (String, TcpListener) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serving = listener.try_clone().expect("a listener");
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in serving.incoming() {
            let Ok(mut stream) = stream else { return };
            if let Some(answer) = answer {
                let mut request = [0; 65536];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(answer.as_bytes());
            } else {
                kept.push(stream);
            }
        }
    });
    (format!("http://127.0.0.1:{port}"), listener)
}

#[test]
fn a_server_that_hangs_or_answers_nonsense_harms_nothing() {
    let project = Project::new(12);
    let plain = curve(&project.finished(&project.submit(&overrides(12, None))));
    let error =
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops";
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";
    for (answer, said) in [
        (None, "timed out"),
        (Some(error), "answered 500 Internal Server Error: oops"),
        (Some(page), "answered no JSON"),
    ] {
        let (uri, _listener) = serve(answer);
        let start = Instant::now();
        let run = project.finished(&project.submit(&overrides(12, Some(&uri))));
        assert!(start.elapsed() < Duration::from_secs(60));
        assert_eq!(curve(&run), plain, "losses differ");
        let log = log(&run);
        assert!(log.contains(said), "no '{said}' in {log}");
        assert!(count(&log, "MLflow could not be written") <= 1, "{log}");
        assert_eq!(
            count(&log, "MLflow has the numbers up to step 0"),
            1,
            "{log}"
        );
        assert!(run.join("tb").is_dir() && run.join("wandb").is_dir());
    }
    // What cannot work is refused before it starts.
    let secret = "track.mlflow=http://me:secret@host:5000";
    let refused = project.rocket(&["submit", "exp.yaml", "--set", secret]);
    assert_ne!(refused.status.code(), Some(0));
    assert!(
        refused.err().contains("MLFLOW_TRACKING_PASSWORD"),
        "{}",
        refused.err()
    );
}
