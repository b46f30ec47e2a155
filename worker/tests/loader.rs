//! Order, randomness and the loader: the same samples whatever the threads and ranks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use rocket_common::experiment::{Augment, CaptionSampling, Text};
use rocket_worker::data::source::{Place, ReadError, Source, Stalled};
use rocket_worker::data::{GlobalPosition, HostBatch, LoadError, Loader, LoaderOptions, Order};
use rocket_worker::image::ImageViews;
use rocket_worker::random::{Permutation, Purpose, Stream};
use rocket_worker::text::CaptionViews;

/// Six pictures under many names; some of them bad.
struct Pictures {
    count: usize,
    missing: Vec<usize>,
    truncated: Vec<usize>,
    scratch: tempfile::TempDir,
}

impl Pictures {
    fn new(count: usize) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let good = std::fs::read(folder().join("00.jpg")).unwrap();
        std::fs::write(scratch.path().join("cut.jpg"), &good[..good.len() - 150]).unwrap();
        Self {
            count,
            missing: Vec::new(),
            truncated: Vec::new(),
            scratch,
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cc/images")
}

impl Source for Pictures {
    fn len(&self) -> usize {
        self.count
    }
    fn captions(&self, sample: usize) -> Vec<&str> {
        ["a red fish in the sea", "two of the birds", "  "][..1 + sample % 3].to_vec()
    }
    fn place(&self, sample: usize) -> Result<Place, ReadError> {
        let file = if self.missing.contains(&sample) {
            folder().join("missing.jpg")
        } else if self.truncated.contains(&sample) {
            self.scratch.path().join("cut.jpg")
        } else {
            folder().join(format!("{:02}.jpg", sample % 6))
        };
        Ok(Place::whole(file))
    }
    fn name(&self, sample: usize) -> String {
        format!("sample-{sample}.jpg")
    }
}

/// Pictures of a file system that answers no more, which shows at the second look.
struct Hanging {
    pictures: Pictures,
    begun: Sender<()>,
    release: Mutex<Receiver<()>>,
    looks: AtomicU32,
}

impl Source for Hanging {
    fn len(&self) -> usize {
        self.pictures.len()
    }
    fn captions(&self, sample: usize) -> Vec<&str> {
        self.pictures.captions(sample)
    }
    fn place(&self, sample: usize) -> Result<Place, ReadError> {
        let _ = self.begun.send(());
        // Until the other end is dropped.
        let _ = self.release.lock().unwrap().recv();
        self.pictures.place(sample)
    }
    fn name(&self, sample: usize) -> String {
        self.pictures.name(sample)
    }
    fn stalled(&self) -> Option<Stalled> {
        let looked = self.looks.fetch_add(1, Ordering::SeqCst) > 0;
        looked.then(|| Stalled {
            file: "dead/00.jpg".into(),
            seconds: 1,
        })
    }
}

fn loader(
    source: Arc<impl Source + 'static>,
    order: Order,
    rank: u64,
    workers: usize,
    start: GlobalPosition,
) -> Loader {
    let augment = Augment {
        multicrop_resize: Some(24),
        ..Augment::default()
    };
    let text = Text {
        text_augment: true,
        synonym_replacement_prob: 0.0,
        clean_before_augment: true,
        ..Text::default()
    };
    let options = LoaderOptions {
        source,
        order,
        rank,
        images: ImageViews::new(&augment, 32, 2).unwrap(),
        captions: CaptionViews::new(&text, CaptionSampling::Multi, 2).unwrap(),
        workers,
        prefetch: 2,
        max_bad: 0.05,
        fast_decode: false,
    };
    Loader::new(options, start).unwrap()
}

const fn order(world_size: u64, batch_size: u64, update_freq: u64) -> Order {
    Order {
        seed: 7,
        samples: 50,
        world_size,
        batch_size,
        update_freq,
    }
}

/// Per (epoch, offset, sample): views and tokens.
type Seen = BTreeMap<(u64, u64, u64), (Vec<Vec<f32>>, Vec<i64>)>;

fn note(seen: &mut Seen, batch: &HostBatch) {
    let tokens = batch.tokens.len() / batch.len();
    for (slot, &sample) in batch.samples.iter().enumerate() {
        let views = batch
            .images
            .iter()
            .map(|view| {
                view.chunks(view.len() / batch.len())
                    .nth(slot)
                    .unwrap()
                    .to_vec()
            })
            .collect();
        let row = batch.tokens[slot * tokens..][..tokens].to_vec();
        let key = (batch.position.epoch, batch.position.offset, sample);
        assert!(seen.insert(key, (views, row)).is_none(), "{key:?} twice");
    }
}

fn run(order: Order, workers: usize, steps: u64) -> Seen {
    let mut seen = Seen::new();
    for rank in 0..order.world_size {
        let source = Arc::new(Pictures::new(50));
        let mut loader = loader(source, order, rank, workers, GlobalPosition::default());
        for _ in 0..steps * order.update_freq {
            note(&mut seen, &loader.next_batch().unwrap());
        }
    }
    seen
}

#[test]
fn threads_and_ranks_change_no_sample() {
    let want = run(order(1, 8, 1), 1, 8);
    assert_eq!(want.len(), 64);
    for (order, workers) in [
        (order(1, 8, 1), 2),
        (order(1, 8, 1), 4),
        (order(2, 4, 1), 2),
        (order(4, 2, 1), 1),
        (order(2, 2, 2), 3),
    ] {
        assert!(
            run(order, workers, 8) == want,
            "{order:?} with {workers} threads"
        );
    }
}

#[test]
fn a_start_in_the_middle_goes_on_where_it_was() {
    let order = order(2, 2, 2);
    let source = Arc::new(Pictures::new(50));
    let mut whole = loader(Arc::clone(&source), order, 1, 2, GlobalPosition::default());
    let batches: Vec<HostBatch> = (0..20).map(|_| whole.next_batch().unwrap()).collect();
    // Step 7 lies in the second epoch: 50 samples are 6 steps of 8.
    for step in [0, 3, 6, 7] {
        let position = order.at_step(step);
        let mut again = loader(Arc::clone(&source), order, 1, 2, position);
        for want in &batches[step as usize * 2..][..4] {
            assert_eq!(&again.next_batch().unwrap(), want, "step {step}");
        }
    }
}

#[test]
fn micro_batches_and_ranks_are_slices_of_the_joined_batch() {
    let joined = order(1, 8, 2);
    let split = order(4, 2, 2);
    let position = joined.at_step(2);
    for micro_batch in 0..2 {
        let parts: Vec<u64> = (0..4)
            .flat_map(|rank| split.samples_of(position, rank, micro_batch))
            .collect();
        assert_eq!(parts, joined.samples_of(position, 0, micro_batch));
    }
}

#[test]
fn missing_pictures_are_replaced_from_outside_and_named() {
    let order = order(1, 8, 1);
    let mut pictures = Pictures::new(50);
    let first = order.samples_of(GlobalPosition::default(), 0, 0);
    pictures.missing = vec![first[2] as usize, first[5] as usize];
    pictures.truncated = vec![first[0] as usize];
    let source = Arc::new(pictures);
    let run = |workers| {
        let mut loader = loader(
            Arc::clone(&source),
            order,
            0,
            workers,
            GlobalPosition::default(),
        );
        let batch = loader.next_batch().unwrap();
        (batch, loader.counters())
    };
    let (batch, counters) = run(1);
    assert_eq!(counters.bad, 2);
    assert_eq!(counters.bad_this_epoch, 2);
    assert_eq!(counters.samples, 8);
    let names: Vec<&str> = batch.bad.iter().map(|bad| bad.name.as_str()).collect();
    assert_eq!(
        names,
        [
            format!("sample-{}.jpg", first[2]),
            format!("sample-{}.jpg", first[5])
        ]
    );
    assert!(
        batch.bad[0].cause.contains("missing.jpg"),
        "{}",
        batch.bad[0].cause
    );
    for (slot, sample) in batch.samples.iter().enumerate() {
        let replaced = slot == 2 || slot == 5;
        assert_eq!(!first.contains(sample), replaced, "slot {slot}");
    }
    assert_ne!(batch.samples[2], batch.samples[5]);
    assert_eq!(run(3).0, batch, "replacements do not depend on threads");
}

#[test]
fn too_many_missing_pictures_end_the_run_in_words() {
    let mut pictures = Pictures::new(50);
    pictures.missing = (0..10).collect();
    let mut loader = loader(
        Arc::new(pictures),
        order(1, 8, 1),
        0,
        2,
        GlobalPosition::default(),
    );
    let error = (0..6).find_map(|_| loader.next_batch().err()).unwrap();
    let LoadError::TooManyBad {
        bad: 3,
        samples: 50,
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    let text = error.to_string();
    assert!(text.starts_with("3 of the 50 samples are unreadable, more than data.max_bad (0.05) allows; the last ones: sample-"), "{text}");
    assert!(loader.judge_bad(2).is_ok());
    assert!(loader.judge_bad(3).is_err());
}

#[test]
fn everything_missing_is_an_error_and_not_a_hang() {
    let mut pictures = Pictures::new(50);
    pictures.missing = (0..50).collect();
    let mut loader = loader(
        Arc::new(pictures),
        order(1, 8, 1),
        0,
        2,
        GlobalPosition::default(),
    );
    assert!(loader.next_batch().is_err());
}

#[test]
fn a_loader_is_dropped_at_once() {
    let source = Arc::new(Pictures::new(50));
    for taken in 0..3 {
        let mut loader = loader(
            Arc::clone(&source),
            order(1, 8, 1),
            0,
            3,
            GlobalPosition::default(),
        );
        for _ in 0..taken {
            loader.next_batch().unwrap();
        }
    }
    assert_eq!(Arc::strong_count(&source), 1);
}

/// It was looked once whether a read had stalled, and then waited for a thread that never ended.
#[test]
fn a_drop_ends_once_a_read_has_stalled() {
    let (begun, begins) = channel();
    let (release, wait) = channel();
    let source = Hanging {
        pictures: Pictures::new(50),
        begun,
        release: Mutex::new(wait),
        looks: AtomicU32::new(0),
    };
    let loader = loader(
        Arc::new(source),
        order(1, 8, 1),
        0,
        1,
        GlobalPosition::default(),
    );
    let patience = Duration::from_secs(60);
    begins.recv_timeout(patience).expect("a read begins");
    let (dropped, drops) = channel();
    std::thread::spawn(move || {
        drop(loader);
        let _ = dropped.send(());
    });
    let ended = drops.recv_timeout(patience);
    drop(release);
    ended.expect("the loader waits for no read that hangs");
}

#[test]
fn a_data_set_smaller_than_a_step_is_refused() {
    let options = LoaderOptions {
        source: Arc::new(Pictures::new(50)),
        order: order(4, 16, 1),
        rank: 0,
        images: ImageViews::new(&Augment::default(), 32, 0).unwrap(),
        captions: CaptionViews::new(&Text::default(), CaptionSampling::Single, 0).unwrap(),
        workers: 1,
        prefetch: 1,
        max_bad: 0.0,
        fast_decode: false,
    };
    let error = Loader::new(options, GlobalPosition::default())
        .err()
        .unwrap();
    assert_eq!(
        error,
        LoadError::TooSmall {
            samples: 50,
            step: 64
        }
    );
}

#[test]
fn tensors_have_the_shapes_of_a_batch() {
    let mut loader = loader(
        Arc::new(Pictures::new(50)),
        order(1, 8, 1),
        0,
        1,
        GlobalPosition::default(),
    );
    let (images, tokens) = loader.next_batch().unwrap().to_tensors();
    let shapes: Vec<Vec<i64>> = images.iter().map(tch::Tensor::size).collect();
    assert_eq!(shapes, [[8, 3, 32, 32], [8, 3, 24, 24], [8, 3, 24, 24]]);
    assert_eq!(tokens.size(), [8, 3, 77]);
    assert_eq!(tokens.kind(), tch::Kind::Int64);
}

/// Frozen: checkpoints and results rest on these numbers.
#[test]
fn random_numbers_and_orders_are_frozen() {
    let mut stream = Stream::new(7, 3, 11, Purpose::Image(2));
    let bits: Vec<String> = (0..5).map(|_| format!("{:016x}", stream.bits())).collect();
    insta::assert_debug_snapshot!("stream", bits);
    let order: Vec<u64> = {
        let permutation = Permutation::new(7, 1, 20);
        (0..20).map(|position| permutation.at(position)).collect()
    };
    insta::assert_debug_snapshot!("permutation", order);
    let mut stream = Stream::new(1, 2, 3, Purpose::CaptionChoice);
    let mut items: Vec<u32> = (0..8).collect();
    stream.shuffle(&mut items);
    let drawn = (
        items,
        stream.below(1000),
        stream.range(-1.0, 1.0),
        stream.normal(),
        stream.weighted(&[0.2, 0.0, 0.8]),
    );
    insta::assert_debug_snapshot!("draws", drawn);
}

proptest! {
    #[test]
    fn a_permutation_meets_everything_once(seed: u64, epoch in 0u64..1000, len in 1u64..700) {
        let permutation = Permutation::new(seed, epoch, len);
        let mut all: Vec<u64> = (0..len).map(|position| permutation.at(position)).collect();
        all.sort_unstable();
        prop_assert!(all.into_iter().eq(0..len));
    }

    #[test]
    fn a_sample_is_seen_at_most_once_per_epoch(
        seed: u64, samples in 1u64..400, world in 1u64..5, batch in 1u64..9, freq in 1u64..4,
        interruptions in proptest::collection::vec(0u64..40, 0..5),
    ) {
        let order = Order { seed, samples, world_size: world, batch_size: batch, update_freq: freq };
        prop_assume!(order.steps_per_epoch() > 0);
        let mut seen = std::collections::HashSet::new();
        let mut position = GlobalPosition::default();
        for step in 0..order.steps_per_epoch() {
            prop_assert_eq!(order.at_step(step), position);
            for (rank, micro) in (0..world).flat_map(|rank| (0..freq).map(move |micro| (rank, micro))) {
                for sample in order.samples_of(position, rank, micro) {
                    prop_assert!(seen.insert(sample), "{} twice", sample);
                }
            }
            position = order.after(position, 1);
        }
        prop_assert_eq!(seen.len() as u64, samples - order.dropped());
        prop_assert_eq!(position, GlobalPosition { epoch: 1, offset: 0 });
        // However a run is cut into pieces, the position after n steps is the same.
        let mut place = GlobalPosition::default();
        for &steps in &interruptions {
            place = order.after(place, steps);
        }
        prop_assert_eq!(place, order.at_step(interruptions.iter().sum()));
    }

    #[test]
    fn replacements_lie_outside_of_the_step_and_differ(seed: u64, step in 0u64..6, slots in (0u64..8, 0u64..8)) {
        let order = Order { seed, samples: 50, world_size: 2, batch_size: 2, update_freq: 2 };
        let position = order.at_step(step);
        let inside: Vec<u64> = (0..2).flat_map(|rank| (0..2).flat_map(move |micro| order.samples_of(position, rank, micro))).collect();
        let [first, second] = [slots.0, slots.1].map(|slot| order.replacement(position, slot, 0).unwrap());
        prop_assert!(!inside.contains(&first) && !inside.contains(&second));
        prop_assert_eq!(first == second, slots.0 == slots.1);
    }
}
