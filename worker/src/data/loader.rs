//! The loader of one rank: threads that make samples ahead of training, in bounded memory, and a
//! consumer that gets micro-batches strictly in order. What a batch holds depends on the order and
//! the position alone, not on threads or ranks.
//!
//! Threads take one sample after another from one list, so that none rests while there is one left.
//! Deques to steal from would do no more for work of milliseconds, and would make a batch's samples
//! in less of their order.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bad::{BadLedger, LoadError};
use super::batch::HostBatch;
use super::budget::{Budget, DECODE_MEMORY};
use super::order::{GlobalPosition, Order};
use super::sample::{Made, Maker};
use super::slots::Slots;
use rocket_common::experiment::{Base, Experiment};

use super::source::Source;
use crate::image::ImageViews;
use crate::text::{CONTEXT_LENGTH, CaptionViews};

/// What a loader is made of.
pub struct LoaderOptions {
    /// Where samples come from.
    pub source: Arc<dyn Source>,
    /// Which samples, when.
    pub order: Order,
    /// This rank.
    pub rank: u64,
    /// Image views.
    pub images: ImageViews,
    /// Caption views.
    pub captions: CaptionViews,
    /// Threads; 0 counts as 1.
    pub workers: usize,
    /// Micro-batches made ahead; 0 counts as 1.
    pub prefetch: usize,
    /// Largest share of the data set that may be unreadable.
    pub max_bad: f64,
    /// Whether large JPEGs may be decoded smaller.
    pub fast_decode: bool,
}

impl LoaderOptions {
    /// The loader of an experiment on one rank.
    ///
    /// # Errors
    /// When a section asks for views that cannot be made.
    pub fn of(
        experiment: &Experiment,
        source: Arc<dyn Source>,
        order: Order,
        rank: u64,
    ) -> anyhow::Result<Self> {
        let (images, captions) = views(experiment)?;
        let data = &experiment.data;
        Ok(Self {
            source,
            order,
            rank,
            images,
            captions,
            workers: data.workers,
            prefetch: PREFETCH,
            max_bad: data.max_bad,
            fast_decode: data.fast_decode,
        })
    }
}

/// The views of images and captions that an experiment trains on.
///
/// # Errors
/// When a section asks for views that cannot be made.
pub fn views(experiment: &Experiment) -> anyhow::Result<(ImageViews, CaptionViews)> {
    let augmented = match experiment.model.base {
        Some(Base::Cl2l) => experiment.augment.num_augs,
        _ => 0,
    };
    let image_size = usize::try_from(experiment.image_size()).unwrap_or(0);
    let sampling = experiment.data.caption_sampling;
    Ok((
        ImageViews::new(&experiment.augment, image_size, augmented)?,
        CaptionViews::new(&experiment.text, sampling, augmented)?,
    ))
}

/// Micro-batches that are made ahead: one for the step, one in reserve.
const PREFETCH: usize = 2;

/// How often a consumer that waits looks whether a file system still answers.
const WATCH: Duration = Duration::from_secs(1);

/// The longest pause between two looks whether the threads have ended.
const ENDING: Duration = Duration::from_millis(50);

/// How the loader fares, since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counters {
    /// Samples handed out.
    pub samples: u64,
    /// Bytes of image files behind them.
    pub bytes: u64,
    /// Time the consumer waited for a batch.
    pub wait: Duration,
    /// Time since the start.
    pub elapsed: Duration,
    /// Unreadable samples met, each once.
    pub bad: usize,
    /// Unreadable samples met in the current epoch: summed over ranks, it is the data set's.
    pub bad_this_epoch: usize,
}

impl Counters {
    /// Samples handed out per second.
    #[must_use]
    pub fn samples_per_second(&self) -> f64 {
        self.samples as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// A micro-batch in the making.
struct Filling {
    position: GlobalPosition,
    micro_batch: u64,
    first_slot: u64,
    samples: Vec<u64>,
    images: Vec<Slots<f32>>,
    tokens: Slots<i64>,
}

/// A micro-batch in the making and what came of its slots. A thread lets go of `filling` before it
/// puts its outcome here, so that the last outcome leaves one owner.
struct Entry {
    filling: Arc<Filling>,
    made: Vec<Option<Made>>,
    missing: usize,
}

struct State {
    stop: bool,
    /// Micro-batches handed out; `open[0]` is the next one.
    consumed: u64,
    open: VecDeque<Entry>,
    /// Next slot of the last open micro-batch that nobody works on.
    next_slot: usize,
}

struct Shared {
    maker: Maker,
    rank: u64,
    start: GlobalPosition,
    prefetch: usize,
    state: Mutex<State>,
    work: Condvar,
    ready: Condvar,
    /// Memory of batches that are done with, for new ones: the system would have to clear it anew.
    spare: Mutex<Vec<Vec<f32>>>,
}

/// The loader of one rank.
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    ledger: BadLedger,
    counters: Counters,
    began: Instant,
}

impl Loader {
    /// Starts the threads at `start`, which is settled to where a step begins.
    ///
    /// # Errors
    /// If the data set holds less than one step, or a thread cannot be started.
    pub fn new(options: LoaderOptions, start: GlobalPosition) -> Result<Self, LoadError> {
        let order = options.order;
        if order.steps_per_epoch() == 0 || order.batch_size == 0 || order.update_freq == 0 {
            return Err(LoadError::TooSmall {
                samples: order.samples,
                step: order.step_samples(),
            });
        }
        let shared = Arc::new(Shared {
            maker: Maker {
                source: options.source,
                order,
                images: options.images,
                captions: options.captions,
                may_reduce: options.fast_decode,
                budget: Budget::new(DECODE_MEMORY),
            },
            rank: options.rank,
            start: order.settle(start),
            prefetch: options.prefetch.max(1),
            state: Mutex::new(State {
                stop: false,
                consumed: 0,
                open: VecDeque::new(),
                next_slot: 0,
            }),
            work: Condvar::new(),
            ready: Condvar::new(),
            spare: Mutex::default(),
        });
        let mut loader = Self {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
            ledger: BadLedger::new(options.max_bad, order.samples),
            counters: Counters::default(),
            began: Instant::now(),
        };
        for number in 0..options.workers.max(1) {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new()
                .name(format!("data-{number}"))
                .spawn(move || shared.work())
                .map_err(|cause| LoadError::Thread {
                    cause: cause.to_string(),
                })?;
            loader.threads.push(thread);
        }
        Ok(loader)
    }

    /// The order it follows.
    #[must_use]
    pub fn order(&self) -> Order {
        self.shared.maker.order
    }

    /// The next micro-batch; U of them make an optimiser step. Epoch follows on epoch without end.
    ///
    /// # Errors
    /// [`LoadError`] if too much is unreadable. The loader is of no use after that.
    pub fn next_batch(&mut self) -> Result<HostBatch, LoadError> {
        let began = Instant::now();
        let entry = {
            let mut state = self.shared.lock();
            loop {
                if state.open.front().is_some_and(|entry| entry.missing == 0) {
                    break;
                }
                let (guard, waited) = self
                    .shared
                    .ready
                    .wait_timeout(state, WATCH)
                    .unwrap_or_else(PoisonError::into_inner);
                state = guard;
                if waited.timed_out()
                    && let Some(stalled) = self.shared.maker.source.stalled()
                {
                    return Err(LoadError::Stalled {
                        file: stalled.file,
                        seconds: stalled.seconds,
                    });
                }
            }
            state.consumed += 1;
            state.open.pop_front()
        };
        self.shared.work.notify_all();
        self.counters.wait += began.elapsed();
        let entry = entry.ok_or(LoadError::Internal)?;
        let filling = Arc::into_inner(entry.filling).ok_or(LoadError::Internal)?;
        self.hand_out(filling, entry.made)
    }

    fn hand_out(
        &mut self,
        filling: Filling,
        made: Vec<Option<Made>>,
    ) -> Result<HostBatch, LoadError> {
        let mut samples = Vec::with_capacity(made.len());
        let mut bad = Vec::new();
        self.ledger.enter_epoch(filling.position.epoch);
        for (made, &wanted) in made.into_iter().zip(&filling.samples) {
            let made = made.ok_or(LoadError::Internal)?;
            self.counters.bytes += made.bytes;
            for sample in made.bad {
                self.ledger.add(&sample)?;
                bad.push(sample);
            }
            let name = || self.shared.maker.source.name(wanted as usize);
            samples.push(
                made.sample
                    .ok_or_else(|| LoadError::NoReplacement { name: name() })?,
            );
        }
        self.counters.samples += samples.len() as u64;
        let views = &self.shared.maker.images;
        Ok(HostBatch {
            position: filling.position,
            micro_batch: filling.micro_batch,
            samples,
            bad,
            images: filling.images.into_iter().map(Slots::into_vec).collect(),
            sizes: (0..views.len()).map(|view| views.size(view)).collect(),
            tokens: filling.tokens.into_vec(),
            caption_views: self.shared.maker.captions.len(),
        })
    }

    /// Takes back the memory of a batch that is done with, for a coming one.
    pub fn recycle(&mut self, batch: HostBatch) {
        // No more than are open at one time.
        let most = (self.shared.prefetch + 1) * batch.images.len();
        let mut spare = self.shared.spare();
        spare.extend(batch.images);
        let surplus = spare.len().saturating_sub(most);
        spare.drain(..surplus);
    }

    /// How it fares.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            elapsed: self.began.elapsed(),
            bad: self.ledger.distinct(),
            bad_this_epoch: self.ledger.this_epoch(),
            ..self.counters
        }
    }

    /// Judges unreadable samples that all ranks together met in the current epoch (the sum of
    /// [`Counters::bad_this_epoch`]); a rank alone sees only its part.
    ///
    /// # Errors
    /// [`LoadError::TooManyBad`].
    pub fn judge_bad(&self, over_all_ranks: usize) -> Result<(), LoadError> {
        self.ledger.judge(over_all_ranks)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.work.notify_all();
        let mut pause = Duration::from_millis(1);
        while !self.threads.iter().all(JoinHandle::is_finished) {
            // A thread that waits for a dead file system cannot be waited for; that it is dead may show only
            // meanwhile.
            if self.shared.maker.source.stalled().is_some() {
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(ENDING);
        }
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing left to say.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// A panic while the lock is held leaves counts that are still true, so poison is ignored.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<f32>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for `length` values, with anything in it.
    fn memory(&self, length: usize) -> Vec<f32> {
        let mut spare = self.spare();
        match spare.iter().position(|memory| memory.len() == length) {
            Some(place) => spare.swap_remove(place),
            None => vec![0.0; length],
        }
    }

    fn work(&self) {
        while let Some((number, slot, filling)) = self.take() {
            let outcome = catch_unwind(AssertUnwindSafe(|| self.fill(&filling, slot)));
            drop(filling);
            let made = outcome.unwrap_or_else(|_| Made {
                sample: None,
                bytes: 0,
                bad: Vec::new(),
            });
            let mut state = self.lock();
            let index = number.saturating_sub(state.consumed) as usize;
            if let Some(entry) = state.open.get_mut(index) {
                entry.made[slot] = Some(made);
                entry.missing -= 1;
                if entry.missing == 0 && index == 0 {
                    self.ready.notify_all();
                }
            }
        }
    }

    /// The next slot to fill, in order, once there is room; `None` to stop.
    fn take(&self) -> Option<(u64, usize, Arc<Filling>)> {
        let batch = self.maker.order.batch_size as usize;
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            if state.open.is_empty() || state.next_slot == batch {
                if state.open.len() < self.prefetch {
                    let number = state.consumed + state.open.len() as u64;
                    let filling = Arc::new(self.open(number));
                    state.open.push_back(Entry {
                        filling,
                        made: (0..batch).map(|_| None).collect(),
                        missing: batch,
                    });
                    state.next_slot = 0;
                    // Others can help with the new one.
                    self.work.notify_all();
                } else {
                    state = self
                        .work
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            }
            let slot = state.next_slot;
            let number = state.consumed + state.open.len() as u64 - 1;
            if let Some(entry) = state.open.back() {
                let filling = Arc::clone(&entry.filling);
                state.next_slot += 1;
                return Some((number, slot, filling));
            }
        }
    }

    /// Memory and samples of the micro-batch `number` since the start.
    fn open(&self, number: u64) -> Filling {
        let order = self.maker.order;
        let position = order.after(self.start, number / order.update_freq);
        let micro_batch = number % order.update_freq;
        let count = order.batch_size as usize;
        let views = &self.maker.images;
        Filling {
            position,
            micro_batch,
            first_slot: order.slots(self.rank, micro_batch).start,
            samples: order.samples_of(position, self.rank, micro_batch),
            images: (0..views.len())
                .map(|view| {
                    let length = 3 * views.size(view) * views.size(view);
                    Slots::new(self.memory(count * length), length)
                })
                .collect(),
            tokens: {
                let length = self.maker.captions.len() * CONTEXT_LENGTH;
                Slots::new(vec![0; count * length], length)
            },
        }
    }

    fn fill(&self, filling: &Filling, slot: usize) -> Made {
        let images: Option<Vec<&mut [f32]>> =
            filling.images.iter().map(|view| view.claim(slot)).collect();
        let tokens = filling.tokens.claim(slot);
        match (images, tokens) {
            (Some(mut images), Some(tokens)) => self.maker.make(
                filling.position,
                filling.first_slot + slot as u64,
                filling.samples[slot],
                &mut images,
                tokens,
            ),
            // A slot is taken once; without its memory there is no sample.
            _ => Made {
                sample: None,
                bytes: 0,
                bad: Vec::new(),
            },
        }
    }
}
