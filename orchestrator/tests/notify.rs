//! `notify:`, against a real server that answers, refuses or hangs.
#![allow(missing_docs)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Env, experiment};

/// What the server does with a post.
#[derive(Clone, Copy)]
enum Answer {
    Status(&'static str),
    /// Takes it and says nothing.
    Hang,
}

struct Server {
    url: String,
    posts: Arc<Mutex<Vec<(String, String)>>>,
}

impl Server {
    /// Answers the posts in turn, the last answer for all that follow.
    fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let posts = Arc::new(Mutex::new(Vec::new()));
        let got = Arc::clone(&posts);
        std::thread::spawn(move || {
            let mut hanging: Vec<TcpStream> = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let post = read(&stream);
                let at = {
                    let mut got = got.lock().unwrap();
                    got.push(post);
                    got.len() - 1
                };
                match answers.get(at).or(answers.last()).copied() {
                    Some(Answer::Status(status)) => {
                        let _ = write!(
                            stream,
                            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                        );
                    }
                    _ => hanging.push(stream),
                }
            }
        });
        Self { url, posts }
    }

    fn posts(&self) -> Vec<(String, Value)> {
        let posts = self.posts.lock().unwrap();
        posts
            .iter()
            .map(|(path, body)| (path.clone(), serde_json::from_str(body).unwrap()))
            .collect()
    }
}

/// Path and body of a request.
fn read(stream: &TcpStream) -> (String, String) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        if header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (path, String::from_utf8(body).unwrap())
}

fn env(script: &str, notify: &str) -> Env {
    let env = Env::with_job(script, 1);
    env.write(
        "exp.yaml",
        &format!(
            "{}notify: {notify}\n",
            experiment(1).replace("cluster: {", "cluster: {max_crashes: 0, ")
        ),
    );
    env
}

/// Submits with a variable set.
fn submit(env: &Env, hook: &str) -> String {
    let output = env
        .rocket_command()
        .args(["submit", "exp.yaml"])
        .env("HOOK", hook)
        .output()
        .unwrap();
    let said = env.said(output).ok();
    let line = said.stdout.lines().next().unwrap();
    line.strip_prefix("run ").unwrap().to_owned()
}

#[test]
fn the_end_is_posted_and_the_address_is_stored_nowhere_else() {
    let server = Server::start(vec![Answer::Status("200 OK")]);
    let env = env(
        "sleep 0.2",
        "{webhooks: [$HOOK], events: [started, finished, failed]}",
    );
    let run = submit(&env, &format!("{}/hidden-path", server.url));
    env.wait_for_status(&run, "finished");
    env.wait("two posts", || server.posts().len() == 2);
    let posts = server.posts();
    assert!(posts.iter().all(|(path, _)| path == "/hidden-path"));
    let (started, finished) = (&posts[0].1, &posts[1].1);
    assert_eq!(started["event"], "started");
    assert_eq!(finished["event"], "finished");
    assert_eq!(finished["run"], run.as_str());
    assert_eq!(finished["text"], format!("run {run} has finished"));
    let keys: Vec<&String> = finished.as_object().unwrap().keys().collect();
    insta::assert_debug_snapshot!(keys, @r#"
    [
        "text",
        "event",
        "run",
        "name",
        "cause",
        "hint",
        "step",
        "attempt",
        "job",
        "metrics",
        "commit",
        "sweep",
        "host",
        "dir",
        "time",
    ]
    "#);
    // Not in the run directory, the pinned commit, or the folder of secrets once the run is over.
    let yaml = env.read_run(&run, "experiment.yaml");
    assert!(yaml.contains("$HOOK"), "{yaml}");
    let found = env
        .command("grep".as_ref(), &env.repo())
        .args(["-r", "hidden-path", "."])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    let pinned = env.git(&[
        "show",
        &format!("refs/rocket/{run}:.rocket/experiment.yaml"),
    ]);
    assert!(pinned.contains("$HOOK"), "{pinned}");
}

#[test]
fn a_failure_is_posted_with_its_cause_and_the_settings_are_heard_as_well() {
    let server = Server::start(vec![
        Answer::Status("503 Service Unavailable"),
        Answer::Status("200 OK"),
    ]);
    let env = env("exit 3", "{events: [finished]}");
    let config = env.path("home/.config/rocket/config.yaml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    let text = format!("notify: {{webhooks: ['{}/mine']}}\n", server.url);
    std::fs::write(config, text).unwrap();
    let run = submit(&env, "");
    env.wait_for_status(&run, "failed");
    // Tried again after the server was busy.
    env.wait("two tries", || server.posts().len() == 2);
    let post = &server.posts()[1].1;
    assert_eq!(post["event"], "failed");
    let text = post["text"].as_str().unwrap();
    assert!(
        text.contains("has failed: rank 0 left with exit code 3"),
        "{text}"
    );
    assert!(!env.read_run(&run, "experiment.yaml").contains("/mine"));
}

#[test]
fn a_hook_that_hangs_or_refuses_costs_the_run_nothing_and_is_said_once() {
    let server = Server::start(vec![Answer::Hang]);
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let env = env(
        "sleep 0.2",
        &format!("{{webhooks: [$HOOK, 'http://{closed}/x'], events: [started, finished]}}"),
    );
    let start = Instant::now();
    let run = submit(&env, &format!("{}/hidden-path", server.url));
    env.wait_for_status(&run, "finished");
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    let log = || env.read_run(&run, "attempts/000/supervisor.log");
    env.wait("both to be said", || {
        log().matches("was not notified").count() == 2
    });
    let log = log();
    assert!(
        log.contains("no answer in time (5 s); the run goes on without"),
        "{log}"
    );
    assert!(
        log.contains(&format!("http://{closed}/... was not notified")),
        "{log}"
    );
    assert!(!log.contains("hidden-path"), "{log}");
    env.wait("the supervisor to leave", || env.supervisor(&run).is_none());
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn an_address_that_cannot_be_is_refused_without_being_shown() {
    let env = env("true", "{webhooks: [$HOOK]}");
    let said = env.rocket(&["submit", "exp.yaml"]).fails();
    insta::assert_snapshot!(said, @r"
    --- stderr
    error: 'notify.webhooks' needs the environment variable 'HOOK', which is not set
    hint: set the variable where you submit, or take the address out of 'notify'
    ");
    let output = env
        .rocket_command()
        .args(["submit", "exp.yaml"])
        .env("HOOK", "very-secret")
        .output()
        .unwrap();
    let said = env.said(output).fails();
    assert!(!said.to_string().contains("very-secret"), "{said}");
    insta::assert_snapshot!(said, @r"
    --- stderr
    error: 'notify.webhooks' holds '$HOOK', whose value is no address that begins with https:// or http://
    hint: set the variable where you submit, or take the address out of 'notify'
    ");
}
