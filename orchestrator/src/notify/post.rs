//! Posting, in a thread of its own: an address that does not answer must cost a run nothing.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use reqwest::blocking::Client;

use super::Hook;

/// One try, from the connection to the answer.
const TRY: Duration = Duration::from_secs(5);
/// Pauses before the tries after the first.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// How long a program waits for its last posts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// Nothing else is left to do.
    Long,
    /// The nodes are about to be taken.
    Short,
}

impl Patience {
    fn time(self) -> Duration {
        match self {
            Self::Long => Duration::from_secs(20),
            Self::Short => Duration::from_secs(3),
        }
    }
}

/// A thread that posts one thing after the other.
pub(super) struct Poster {
    sender: Sender<(Hook, String)>,
    done: Receiver<()>,
}

impl Poster {
    pub(super) fn start() -> Self {
        let (sender, posts) = mpsc::channel();
        let (end, done) = mpsc::channel();
        // A thread that cannot be started drops its ends: nothing is posted, and nothing waits.
        let _ = std::thread::Builder::new()
            .name("notify".into())
            .spawn(move || {
                work(&posts);
                let _ = end.send(());
            });
        Self { sender, done }
    }

    pub(super) fn post(&self, hook: Hook, body: String) {
        let _ = self.sender.send((hook, body));
    }

    pub(super) fn finish(self, patience: Patience) {
        drop(self.sender);
        let _ = self.done.recv_timeout(patience.time());
    }
}

fn work(posts: &Receiver<(Hook, String)>) {
    // Made with the first post: it reads the certificates of the system.
    let mut client: Option<Client> = None;
    let mut troubled: BTreeSet<String> = BTreeSet::new();
    while let Ok((hook, body)) = posts.recv() {
        // One that did not answer twice is not waited for again.
        if troubled.contains(&hook.url) {
            continue;
        }
        let result = match &client {
            Some(client) => post(client, &hook, &body),
            None => make().and_then(|made| post(client.insert(made), &hook, &body)),
        };
        if let Err(words) = result {
            tracing::warn!(
                "{} was not notified: {words}; the run goes on without",
                hook.shown()
            );
            troubled.insert(hook.url);
        }
    }
}

fn make() -> Result<Client, String> {
    Client::builder()
        .timeout(TRY)
        .user_agent(concat!("rocket/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| words(&error))
}

/// Posts, and tries again where that may help.
fn post(client: &Client, hook: &Hook, body: &str) -> Result<(), String> {
    let mut pauses = PAUSES.iter();
    loop {
        let sent = client
            .post(&hook.url)
            .header("content-type", "application/json")
            .body(body.to_owned())
            .send();
        let (wrong, again) = match sent {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let status = answer.status();
                let again = status.is_server_error() || status.as_u16() == 429;
                (format!("it answers {status}"), again)
            }
            Err(error) => (words(&error), true),
        };
        // Who hangs once is tried once more, who refuses twice.
        let slow = wrong.contains("time");
        match pauses.next().filter(|_| again) {
            Some(pause) => std::thread::sleep(*pause),
            None => return Err(wrong),
        }
        if slow {
            pauses = [].iter();
        }
    }
}

/// What went wrong, without the address, which may be secret.
fn words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer in time ({} s)", TRY.as_secs());
    }
    // The outermost names the address.
    let mut innermost = std::error::Error::source(error);
    while let Some(source) = innermost.and_then(std::error::Error::source) {
        innermost = Some(source);
    }
    innermost.map_or_else(|| "it cannot be asked".into(), ToString::to_string)
}
