//! Trackers over attempts: whatever was killed in the middle of whatever, each number is there once.

mod python_support;
mod run_support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use python_support::python;
use rocket_common::experiment::{self, Experiment, Track};
use rocket_common::run_dir::RunDir;
use rocket_worker::track::{
    self, Ending, Follower, MetricsFile, RecordKind, Story, Tracker, Trackers,
};
use serde_json::{Map, Value, json};

fn experiment(track: &str) -> Experiment {
    let text = format!(
        "name: tiny\nmodel: {{name: CL2L_R50_CL2L}}\ndata: {{root: /data, metadata: /data/captions.npy}}\ntrack: {track}\n"
    );
    experiment::parse("exp.yaml", &text, &[]).expect("a good experiment")
}

fn metrics(run: &RunDir, after: u64) -> MetricsFile {
    MetricsFile::resume(&run.metrics_path(), after, || Ok(())).expect("metrics")
}

/// Records some steps; every fourth is evaluated on two sets.
fn train(metrics: &mut MetricsFile, steps: impl IntoIterator<Item = u64>) {
    for step in steps {
        let mut values = Map::new();
        values.insert("epoch".to_owned(), json!(step as f64 / 4.0));
        values.insert("loss".to_owned(), json!(1.0 / step as f64));
        metrics
            .record(RecordKind::Train, step, &values)
            .expect("recorded");
        for set in ["a", "b"].into_iter().filter(|_| step % 4 == 0) {
            let mut values = Map::new();
            values.insert("epoch".to_owned(), json!(step as f64 / 4.0));
            values.insert(format!("{set}/z_top1"), json!(step));
            metrics
                .record(RecordKind::Eval, step, &values)
                .expect("recorded");
        }
    }
}

/// Followers of what an experiment chooses, as a new process has them.
fn followers(run: &RunDir, track: &Track) -> Vec<Follower> {
    let story = Story::read(run).expect("a story");
    track::sinks(track, &story)
        .into_iter()
        .map(|sink| Follower::new(run, sink).expect("a follower"))
        .collect()
}

#[track_caller]
fn read(python: &Path, what: &str, path: &Path) -> Value {
    let told = python_support::run(python, "trackers.py", [Path::new(what), path]);
    serde_json::from_slice(&told).expect("JSON")
}

/// Cuts the end of a file off, as a kill in the middle of a write does.
fn tear(path: &Path, bytes: u64) {
    let file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("opened");
    let len = file.metadata().expect("known").len();
    file.set_len(len - bytes).expect("cut");
}

fn only(folder: &Path, part: &str) -> PathBuf {
    let entries = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = entries
        .filter(|path| path.to_string_lossy().contains(part))
        .collect();
    found.sort();
    found.pop().expect("one")
}

/// TensorBoard shows every number of the steps up to `last`, once.
#[track_caller]
fn all_are_in(tensorboard: &Value, last: u64) {
    let loss: Vec<Value> = (1..=last)
        .map(|step| json!([step, f64::from((1.0 / step as f64) as f32)]))
        .collect();
    assert_eq!(tensorboard["scalars"]["loss"], json!(loss));
    let scores: Vec<Value> = (1..=last / 4)
        .map(|nth| json!([nth * 4, nth as f64 * 4.0]))
        .collect();
    assert_eq!(tensorboard["scalars"]["b/z_top1"], json!(scores));
}

/// Steps 1 to 20, over attempts that were killed, rolled back and torn.
#[test]
fn files_hold_each_number_once_whatever_was_killed() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let experiment = experiment("{tensorboard: true, wandb: true}");
    let run = run_support::create(dir.path(), &experiment);
    let catch_up = |followers: &mut [Follower]| {
        for follower in followers {
            follower.catch_up().expect("written");
        }
    };

    // Killed: nothing was committed since the start, and the last records are torn.
    let mut file = metrics(&run, 0);
    let mut first = followers(&run, &experiment.track);
    catch_up(&mut first);
    train(&mut file, 1..=9);
    catch_up(&mut first);
    drop(first);
    tear(&only(&run.path().join("tb"), "events"), 5);
    let log = || only(&only(&run.path().join("wandb"), "offline-run"), ".wandb");
    tear(&log(), 3);

    // Goes on from step 6; stops as agreed, between a step and its evaluation.
    let mut file = metrics(&run, 6);
    let mut second = followers(&run, &experiment.track);
    train(&mut file, 7..=11);
    catch_up(&mut second);
    for follower in &mut second {
        follower.finish(Ending::Paused).expect("written");
    }
    drop(second);

    // Rolled back behind what was committed; then the folders go, and come back whole.
    let mut file = metrics(&run, 8);
    let mut third = followers(&run, &experiment.track);
    train(&mut file, 9..=12);
    catch_up(&mut third);
    fs::write(log().with_extension("wandb.synced"), "").expect("a mark");
    train(&mut file, 13..=16);
    for follower in &mut third {
        follower.finish(Ending::Paused).expect("written");
    }
    assert!(!log().with_extension("wandb.synced").exists());
    let events = run.path().join("tb");
    all_are_in(&read(&python, "tensorboard", &events), 16);
    let first = fs::read_dir(&events)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path());
    fs::remove_file(first.min().expect("a file")).expect("removed");
    let mut fourth = followers(&run, &experiment.track).remove(0);
    fourth.finish(Ending::Paused).expect("written");
    all_are_in(&read(&python, "tensorboard", &events), 16);
    fs::remove_dir_all(&events).expect("removed");
    train(&mut file, 17..=20);
    assert!(third[0].catch_up().is_err(), "the event file is gone");
    catch_up(&mut third);
    for follower in &mut third {
        follower.finish(Ending::Finished).expect("written");
    }

    let steps: Vec<u64> = (1..=20).collect();
    all_are_in(&read(&python, "tensorboard", &events), 20);

    let wandb = read(&python, "wandb", &log());
    let rows = wandb["history"].as_array().expect("rows");
    let found: Vec<u64> = rows
        .iter()
        .filter_map(|row| row["_step"].as_u64())
        .collect();
    assert_eq!(found, steps);
    for row in rows {
        let step = row["_step"].as_u64().expect("a step");
        assert_eq!(row["loss"], 1.0 / step as f64);
        assert_eq!(row.get("a/z_top1").is_some(), step % 4 == 0);
    }
    assert_eq!(wandb["exit"], 0);
    let count = wandb["numbers"].as_array().expect("numbers").len();
    assert_eq!(wandb["numbers"], json!((1..=count).collect::<Vec<_>>()));
    let folders = fs::read_dir(run.path().join("wandb"))
        .expect("a folder")
        .count();
    assert_eq!(folders, 1);
}

/// As much of a tracking server as a run needs, which does what it is told and hangs up without an answer
/// when `losing` says so.
#[derive(Default)]
struct Server {
    metrics: Vec<(String, u64, f64)>,
    largest: usize,
    params: BTreeMap<String, String>,
    status: String,
    created: usize,
    losing: bool,
    asked: Vec<String>,
}

impl Server {
    fn answer(&mut self, path: &str, body: &Value) -> (u16, Value) {
        self.asked.push(path.to_owned());
        let what = path.split('?').next().unwrap_or_default();
        let list = |key: &str| body[key].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match what.trim_start_matches("/api/2.0/mlflow/") {
            "experiments/get-by-name" => (
                404,
                json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}),
            ),
            "experiments/create" => (200, json!({"experiment_id": "7"})),
            "runs/search" if self.created > 0 => {
                (200, json!({"runs": [{"info": {"run_id": "r"}}]}))
            }
            "runs/search" => (200, json!({})),
            "runs/create" => {
                self.created += 1;
                (200, json!({"run": {"info": {"run_id": "r"}}}))
            }
            "runs/get" => {
                let mut last: BTreeMap<&str, u64> = BTreeMap::new();
                for (key, step, _) in &self.metrics {
                    let last = last.entry(key).or_default();
                    *last = (*last).max(*step);
                }
                let metrics: Vec<Value> = last
                    .iter()
                    .map(|(key, step)| json!({"key": key, "step": step.to_string()}))
                    .collect();
                (
                    200,
                    json!({"run": {"info": {"status": self.status}, "data": {"metrics": metrics}}}),
                )
            }
            "runs/log-batch" => {
                let metrics = list("metrics");
                self.largest = self.largest.max(metrics.len());
                for metric in metrics {
                    let step = metric["step"].as_u64().expect("a step");
                    self.metrics.push((
                        text(&metric["key"]),
                        step,
                        metric["value"].as_f64().expect("a value"),
                    ));
                }
                self.params.extend(
                    list("params")
                        .iter()
                        .map(|param| (text(&param["key"]), text(&param["value"]))),
                );
                (200, json!({}))
            }
            "runs/update" => {
                self.status = text(&body["status"]);
                (200, json!({}))
            }
            other => panic!("{other} is asked for"),
        }
    }
}

fn serve(server: Arc<Mutex<Server>>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = Arc::clone(&server);
            std::thread::spawn(move || while talk(&stream, &server).is_some() {});
        }
    });
    format!("http://127.0.0.1:{port}/")
}

/// One request of a connection.
fn talk(stream: &TcpStream, server: &Mutex<Server>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let (status, answer) = {
        let mut server = server.lock().expect("a server");
        let answer = server.answer(&path, &body);
        if server.losing && (path.ends_with("log-batch") || path.ends_with("runs/create")) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return None;
        }
        answer
    };
    let answer = answer.to_string();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    )
    .ok()
}

/// A server that takes what it is sent and dies before it says so.
#[test]
fn answers_that_are_lost_double_nothing_on_a_tracking_server() {
    let server = Arc::new(Mutex::new(Server::default()));
    let uri = serve(Arc::clone(&server));
    let dir = tempfile::tempdir().expect("a folder");
    let experiment = experiment(&format!("{{mlflow: '{uri}'}}"));
    let run = run_support::create(dir.path(), &experiment);
    let lose = |losing: bool| server.lock().expect("a server").losing = losing;
    let mut file = metrics(&run, 0);

    lose(true);
    let mut mlflow = followers(&run, &experiment.track).remove(0);
    train(&mut file, 1..=400);
    mlflow
        .catch_up()
        .expect_err("the answer to the run's creation is lost");
    assert_eq!(server.lock().expect("a server").created, 1);
    mlflow
        .catch_up()
        .expect_err("the answer to its parameters is lost");
    lose(false);
    mlflow.catch_up().expect("sent");
    lose(true);
    train(&mut file, 401..=700);
    mlflow
        .catch_up()
        .expect_err("the answer to a batch is lost");
    drop(mlflow);

    // The next attempt, from an earlier step.
    lose(false);
    let mut file = metrics(&run, 650);
    let mut mlflow = followers(&run, &experiment.track).remove(0);
    train(&mut file, 651..=720);
    mlflow.catch_up().expect("sent");
    mlflow.finish(Ending::Finished).expect("sent");

    let server = server.lock().expect("a server");
    assert_eq!((server.created, server.status.as_str()), (1, "FINISHED"));
    assert!(
        server.largest <= 1000 && server.largest > 900,
        "{}",
        server.largest
    );
    assert_eq!(server.params["optim.lr"], "0.003");
    let steps = |name: &str| -> Vec<u64> {
        let named = server.metrics.iter().filter(|(key, ..)| key == name);
        named.map(|(_, step, _)| *step).collect()
    };
    assert_eq!(steps("loss"), (1..=720).collect::<Vec<_>>());
    assert_eq!(
        steps("b/z_top1"),
        (1..=180).map(|nth| nth * 4).collect::<Vec<_>>()
    );
}

/// A server that takes connections and never answers holds nobody up at the end.
#[test]
fn the_end_waits_for_no_server_longer_than_it_may() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let dir = tempfile::tempdir().expect("a folder");
    let experiment = experiment(&format!(
        "{{mlflow: 'http://127.0.0.1:{port}', tensorboard: true}}"
    ));
    let run = run_support::create(dir.path(), &experiment);
    let mut file = metrics(&run, 0);
    train(&mut file, 1..=5);
    for (ending, limit) in [(Ending::Lost, 1), (Ending::Paused, 3)] {
        let trackers = Trackers::start(&run, 0, &experiment.track);
        let start = Instant::now();
        trackers.finish(ending);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(limit + 1), "{took:?}");
        assert_eq!(ending.patience(), Duration::from_secs(limit));
    }
    assert!(run.path().join("track/tensorboard.json").is_file());
    drop(listener);
}

/// A limit on the length of files stands in for a disk that is full: a write stops in the middle.
#[test]
fn a_full_disk_leaves_nothing_torn_behind() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let experiment = experiment("{tensorboard: true, wandb: true}");
    let run = run_support::create(dir.path(), &experiment);
    let mut file = metrics(&run, 0);
    train(&mut file, 1..=1000);
    let sync = |limit: &str| {
        let worker = env!("CARGO_BIN_EXE_rocket-worker");
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" track sync \"$1\"");
        let mut shell = Command::new("bash");
        shell.args(["-c", &script, worker]).arg(run.path());
        shell.output().expect("bash starts")
    };
    let full = sync("20");
    let said = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(1), "{said}");
    for name in ["TensorBoard", "Weights & Biases"] {
        assert!(
            said.contains(&format!("{name} could not be synced: cannot write")),
            "{said}"
        );
    }
    let whole = sync("unlimited");
    assert!(
        whole.status.success(),
        "{}",
        String::from_utf8_lossy(&whole.stderr)
    );
    all_are_in(&read(&python, "tensorboard", &run.path().join("tb")), 1000);
    let folder = only(&run.path().join("wandb"), "offline-run");
    let wandb = read(&python, "wandb", &only(&folder, ".wandb"));
    assert_eq!(wandb["history"].as_array().map(Vec::len), Some(1000));
    assert_eq!(wandb["exit"], Value::Null, "it has not ended");
}
