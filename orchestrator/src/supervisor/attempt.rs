//! One attempt: from the start of its ranks to the end of the last of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rocket_common::error::{Error, Result};
use rocket_common::events::{Event, EventKind};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::{BackendKind, Experiment};
use rocket_common::protocol::{self, Control, Outcome, StopReason, env};
use rocket_common::run_dir::{Attempt, Manifest, RunDir};

use super::Events;
use super::decide::Ending;
use super::ending::{Exit, Interventions, RankEnd, ending};
use super::signals::{Asked, Signals};
use super::verify::pin_dir;
use super::watchdog::Watchdog;
use crate::backend::{Backend, Launch, RankExit, Running};
use crate::{bundle, requests};

/// Spacing of looks at requests and deadlines.
const TICK: Duration = Duration::from_millis(200);
/// Spacing of looks at heartbeats and at newer attempts.
const LOOK: Duration = Duration::from_secs(1);
/// How long ranks of the trainer are left to notice that a peer is gone, and to end a save.
const PEER_GRACE: Duration = Duration::from_secs(20);
/// How long launchers on other nodes are left to save stacks.
const STACKS: Duration = Duration::from_secs(25);
/// How long other programs are left after SIGTERM.
const COMMAND_GRACE: Duration = Duration::from_secs(5);

/// How an attempt went.
pub(super) struct Report {
    /// How it ended.
    pub(super) ending: Ending,
    /// Furthest step that was seen.
    pub(super) step: u64,
    /// Node of the rank that failed.
    pub(super) node: Option<String>,
    /// Why its ranks were asked to leave, however they ended.
    pub(super) stop: Option<StopReason>,
}

impl Report {
    /// An error before any rank ran.
    pub(super) fn not_started(error: &Error) -> Self {
        Self {
            ending: not_started(error),
            step: 0,
            node: None,
            stop: None,
        }
    }
}

/// What an attempt is made of.
pub(super) struct Context<'a> {
    pub(super) run: &'a RunDir,
    pub(super) manifest: &'a Manifest,
    pub(super) experiment: &'a Experiment,
    pub(super) backend: &'a dyn Backend,
    pub(super) attempt: &'a Attempt,
}

impl Context<'_> {
    fn launch(&self) -> Result<Launch<'_>> {
        let pin = pin_dir(self.run);
        let (argv, cwd, choose_port): (Vec<OsString>, _, _) = match &self.experiment.command {
            Some(command) => (
                command.iter().map(OsString::from).collect(),
                pin.clone(),
                true,
            ),
            None => {
                let worker = self.manifest.bundle.dir.join(bundle::WORKER);
                // Relative paths that only the trainer knows (in a catalog) are the repository's.
                let repo = &self.manifest.repo;
                let cwd = if repo.is_dir() { repo } else { self.run.path() };
                let work: &[&str] = match &self.manifest.evaluation {
                    None => &["train"],
                    Some(_) => &["eval", "--job"],
                };
                let work = work.iter().map(OsString::from);
                (
                    std::iter::once(worker.into()).chain(work).collect(),
                    cwd.to_path_buf(),
                    false,
                )
            }
        };
        let world_size = self.experiment.cluster.world_size();
        if world_size == 0 {
            return Err(Error::new(
                ExitKind::Experiment,
                "the experiment has no ranks: cluster.nodes times tasks_per_node (or gpus_per_node) is 0",
            ));
        }
        let mut env: Vec<(OsString, OsString)> = vec![(env::PIN_DIR.into(), pin.into())];
        if self.backend.kind() == BackendKind::Local {
            // On Slurm the batch script sets them, and its set-up lines may go on from there.
            let given = self.experiment.cluster.env.iter();
            env.extend(given.map(|(name, value)| (name.into(), value.into())));
        }
        let mut without = Vec::new();
        if self.experiment.command.is_some() {
            env.push((env::SEED.into(), self.experiment.seed.to_string().into()));
        } else {
            // Sums depend on the number of threads; it is the experiment's, not the machine's.
            let threads = self.experiment.train.threads.to_string();
            env.push(("OMP_NUM_THREADS".into(), threads.into()));
            // These come before $ORIGIN, and would put other libraries under the pinned program.
            without.extend([
                "LD_LIBRARY_PATH",
                "LD_PRELOAD",
                "OMP_THREAD_LIMIT",
                "MKL_NUM_THREADS",
            ]);
        }
        Ok(Launch {
            run: self.run,
            attempt: self.attempt,
            world_size,
            argv,
            env,
            without,
            cwd,
            choose_port,
        })
    }

    /// Starts the ranks and stays until all of them are gone.
    pub(super) async fn go(&self, events: &mut Events, signals: &mut Signals) -> Report {
        let started = self.launch().and_then(|launch| {
            // Before the ranks have anything to say themselves.
            let kind = EventKind::AttemptStarted {
                world_size: launch.world_size,
            };
            let event = Event::new(kind).attempt(self.attempt.number());
            events.add(event.nodes(self.backend.nodes()));
            let running = self.backend.launch(&launch)?;
            Ok((launch.world_size, running))
        });
        let (world_size, running) = match started {
            Ok(started) => started,
            Err(error) => return Report::not_started(&error),
        };
        tracing::info!(
            "attempt {} started with {world_size} ranks",
            self.attempt.number()
        );
        let mut watch = Watch::new(self, world_size, running);
        watch.until_all_ended(events, signals).await;
        watch.report(events)
    }
}

/// An error before any rank ran.
fn not_started(error: &Error) -> Ending {
    if error.kind() == ExitKind::Fenced {
        return Ending::Fenced;
    }
    Ending::NotStarted {
        kind: error.kind(),
        cause: error.to_string(),
        hint: (!error.hints().is_empty()).then(|| error.hints().join("; ")),
    }
}

/// With the step, if there is any: other programs than the trainer count none.
pub(super) fn at_step(event: Event, step: u64) -> Event {
    if step > 0 { event.step(step) } else { event }
}

struct Watch<'a> {
    context: &'a Context<'a>,
    running: Running,
    world_size: u32,
    ends: Vec<(u32, RankEnd)>,
    did: Interventions,
    watchdog: Watchdog,
    steps: BTreeMap<u32, u64>,
    /// When what is left is killed.
    deadline: Option<Instant>,
    killed: bool,
    protocol: bool,
}

impl<'a> Watch<'a> {
    fn new(context: &'a Context<'a>, world_size: u32, running: Running) -> Self {
        let protocol = context.experiment.command.is_none();
        // A collective gives up on a silent peer first, with a better explanation.
        let derived = context.experiment.train.collective_timeout_minutes * 1.5 + 1.0;
        let minutes = context.experiment.cluster.hang_minutes.unwrap_or(derived);
        let limit = Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(Duration::MAX);
        Self {
            context,
            running,
            world_size,
            ends: Vec::new(),
            did: Interventions::default(),
            watchdog: Watchdog::new(world_size, limit, protocol, Instant::now()),
            steps: BTreeMap::new(),
            deadline: None,
            killed: false,
            protocol,
        }
    }

    async fn until_all_ended(&mut self, events: &mut Events, signals: &mut Signals) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looked = Instant::now();
        while self.ends.len() < self.world_size as usize {
            tokio::select! {
                Some(exit) = self.running.exits.recv() => self.on_exit(exit),
                asked = signals.next() => self.on_signal(asked, events),
                _ = tick.tick() => {
                    let now = Instant::now();
                    self.look_at_requests(events);
                    if now - looked >= LOOK {
                        looked = now;
                        self.look_at_ranks(now);
                    }
                    if self.deadline.is_some_and(|deadline| now >= deadline) {
                        tracing::warn!("the grace is over: what is left of the ranks is killed");
                        self.kill();
                    }
                }
            }
        }
        // What the ranks started themselves must not outlive them.
        self.running.control.kill();
    }

    fn on_exit(&mut self, RankExit { rank, exit }: RankExit) {
        self.running.control.ended(rank);
        self.watchdog.ended(rank);
        self.note_beat(rank, Instant::now());
        let record = protocol::read_end(self.context.attempt, rank).unwrap_or_else(|error| {
            tracing::warn!("{error}");
            None
        });
        tracing::info!("rank {rank} ended: {exit:?}, last words {record:?}");
        if let Some(record) = &record {
            self.note_step(rank, record.step);
        }
        let failed = match &record {
            Some(record) => record.outcome == Outcome::Failed,
            None => self.protocol || exit != Exit::Code(0),
        };
        // Of a step that was killed as a whole, srun does not tell how each rank ended.
        let killed =
            self.killed && matches!(exit, Exit::Unknown | Exit::Signal(nix::libc::SIGKILL));
        self.ends.push((
            rank,
            RankEnd {
                exit,
                record,
                killed,
            },
        ));
        if self.ends.len() == self.world_size as usize {
            return;
        }
        if failed && !self.protocol {
            self.running.control.signal(Signal::SIGTERM);
        }
        match (failed, self.protocol) {
            (true, true) => self.set_deadline(PEER_GRACE),
            (true, false) => self.set_deadline(COMMAND_GRACE),
            // A rank of the trainer leaves on purpose only when all do.
            (false, true) => self.set_deadline(self.stop_grace()),
            (false, false) => {}
        }
    }

    fn on_signal(&mut self, asked: Asked, events: &mut Events) {
        match asked {
            // A scheduler sends the same signal for every reason; which it was, is asked afterwards.
            Asked::Stop(StopReason::Preempted) if self.context.backend.job().is_some() => {
                self.stop(StopReason::Signal, events);
            }
            Asked::Stop(reason) => self.stop(reason, events),
            Asked::Interrupt if self.did.stop.is_some() => self.kill(),
            Asked::Interrupt => {
                // A person at the terminal wants it to end; `rocket resume` goes on.
                if let Err(error) =
                    requests::cancel(self.context.run, requests::Cancel { now: false })
                {
                    tracing::warn!("{error}");
                }
            }
        }
    }

    fn look_at_requests(&mut self, events: &mut Events) {
        if let Some(cancel) = requests::cancelled(self.context.run) {
            if self.did.stop != Some(StopReason::Cancelled) {
                self.stop(StopReason::Cancelled, events);
            }
            if cancel.now && !self.killed {
                self.kill();
            }
        } else if self.did.stop.is_none()
            && let Some(reason) = requests::stop_asked(self.context.attempt)
        {
            self.stop(reason, events);
        }
    }

    fn look_at_ranks(&mut self, now: Instant) {
        if let Err(error) = self.context.run.fence_check(self.context.attempt.number()) {
            if error.kind() == ExitKind::Fenced {
                tracing::warn!("{error}");
                self.did.fenced = true;
                self.kill();
                return;
            }
            tracing::warn!("{error}");
        }
        for rank in 0..self.world_size {
            self.note_beat(rank, now);
        }
        if !self.killed
            && self.did.hung.is_none()
            && let Some((rank, cause)) = self.watchdog.hung(now)
        {
            tracing::warn!("{cause}: stacks are saved, then the ranks are killed");
            self.did.hung = Some((rank, cause));
            self.running.control.save_stacks();
            self.set_deadline(STACKS);
        }
    }

    fn note_beat(&mut self, rank: u32, now: Instant) {
        match protocol::read_heartbeat(self.context.attempt, rank) {
            Ok(Some(beat)) => {
                self.watchdog.observe(rank, &beat, now);
                self.note_step(rank, beat.step);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!("{error}"),
        }
    }

    fn note_step(&mut self, rank: u32, step: u64) {
        let seen = self.steps.entry(rank).or_default();
        *seen = step.max(*seen);
    }

    fn step(&self) -> u64 {
        self.steps.values().copied().max().unwrap_or_default()
    }

    /// Asks the ranks to save and leave. A cancel overrules an earlier reason.
    fn stop(&mut self, reason: StopReason, events: &mut Events) {
        if self.did.stop.is_some() && reason != StopReason::Cancelled {
            return;
        }
        let first = self.did.stop.replace(reason).is_none();
        tracing::info!("stop requested: {reason:?}");
        let control = Control { stop: Some(reason) };
        if let Err(error) = protocol::write_control(self.context.attempt, &control) {
            tracing::warn!("{error}");
        }
        for rank in 0..self.world_size {
            self.note_beat(rank, Instant::now());
        }
        let event = Event::new(EventKind::StopRequested { reason });
        events.add(self.event_at_step(event));
        if !self.reads_control() {
            self.running.control.signal(Signal::SIGTERM);
        }
        if first {
            self.set_deadline(self.stop_grace());
        }
    }

    /// Whether the ranks agree on a stop by themselves, so that a signal would only disturb them: the
    /// trainer does, and any program of which every rank writes heartbeats.
    fn reads_control(&self) -> bool {
        let ended = |rank: u32| self.ends.iter().any(|(of, _)| *of == rank);
        let speaks = |rank: u32| ended(rank) || self.watchdog.has_beaten(rank);
        self.protocol || (0..self.world_size).all(speaks)
    }

    fn stop_grace(&self) -> Duration {
        Duration::from_secs(self.context.experiment.cluster.stop_grace_seconds)
    }

    fn set_deadline(&mut self, grace: Duration) {
        let at = Instant::now().checked_add(grace);
        self.deadline = match (self.deadline, at) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
    }

    fn kill(&mut self) {
        self.killed = true;
        self.deadline = None;
        self.running.control.kill();
    }

    fn report(&self, events: &mut Events) -> Report {
        let ending = ending(&self.ends, &self.did, self.protocol);
        tracing::info!(
            "attempt {} ended: {ending:?}",
            self.context.attempt.number()
        );
        if let Some(event) = self.failure_event(&ending) {
            events.add(event);
        }
        let node = blamed(&ending).and_then(|rank| Report::node_of(self.context.attempt, rank));
        Report {
            ending,
            step: self.step(),
            node,
            stop: self.did.stop,
        }
    }

    /// With the attempt, and the step if the ranks count any.
    fn event_at_step(&self, event: Event) -> Event {
        at_step(event.attempt(self.context.attempt.number()), self.step())
    }

    fn failure_event(&self, ending: &Ending) -> Option<Event> {
        let (rank, cause, hint) = match ending {
            Ending::Failed {
                rank, cause, hint, ..
            } => (*rank, cause, hint.clone()),
            Ending::Crashed { rank, cause } | Ending::Hung { rank, cause } => (*rank, cause, None),
            _ => return None,
        };
        let end = self
            .ends
            .iter()
            .find(|(of, _)| *of == rank)
            .map(|(_, end)| end);
        let (exit, signal) = match (ending, end.map(|end| end.exit)) {
            (Ending::Failed { kind, .. }, _) => (Some(*kind), None),
            (_, Some(Exit::Signal(signal))) => (None, Some(signal)),
            (_, Some(Exit::Code(code))) if self.protocol => (Some(ExitKind::from_code(code)), None),
            _ => (None, None),
        };
        let node = Report::node_of(self.context.attempt, rank);
        let event = Event::new(EventKind::RankFailed { rank, exit, signal })
            .cause(cause)
            .nodes(node.into_iter().collect());
        let mut event = self.event_at_step(event);
        event.hint = hint;
        Some(event)
    }
}

/// The rank that failed first.
fn blamed(ending: &Ending) -> Option<u32> {
    match ending {
        Ending::Failed { rank, .. } | Ending::Crashed { rank, .. } | Ending::Hung { rank, .. } => {
            Some(*rank)
        }
        _ => None,
    }
}
