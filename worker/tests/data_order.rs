//! Epochs over any number of ranks, threads, stops and resumes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use rocket_common::experiment::{Augment, CaptionSampling, Text};
use rocket_worker::data::source::{Place, ReadError, Source};
use rocket_worker::data::{GlobalPosition, Loader, LoaderOptions, Order};
use rocket_worker::image::ImageViews;
use rocket_worker::random::Permutation;
use rocket_worker::text::CaptionViews;

/// A picture of one pixel.
const PICTURE: &[u8] =
    b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// One small picture under many names.
struct Same {
    count: usize,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Source for Same {
    fn len(&self) -> usize {
        self.count
    }
    fn captions(&self, _sample: usize) -> Vec<&str> {
        vec!["x"]
    }
    fn place(&self, _sample: usize) -> Result<Place, ReadError> {
        Ok(Place::whole(&self.file))
    }
    fn name(&self, sample: usize) -> String {
        sample.to_string()
    }
}

fn source(count: usize) -> Arc<Same> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("picture.gif");
    std::fs::write(&file, PICTURE).unwrap();
    Arc::new(Same {
        count,
        file,
        _folder: folder,
    })
}

fn loader(
    source: &Arc<Same>,
    order: Order,
    rank: u64,
    workers: usize,
    start: GlobalPosition,
) -> Loader {
    let source: Arc<dyn Source> = Arc::clone(source) as _;
    let options = LoaderOptions {
        source,
        order,
        rank,
        images: ImageViews::new(&Augment::default(), 8, 0).unwrap(),
        captions: CaptionViews::new(&Text::default(), CaptionSampling::Single, 0).unwrap(),
        workers,
        prefetch: 2,
        max_bad: 0.0,
        fast_decode: false,
    };
    Loader::new(options, start).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// A run that is stopped 50 times, and goes on with other numbers of threads and of ranks (with the same
    /// samples in a step), sees in every epoch each sample at most once, and all of them but the dropped tail.
    #[test]
    fn fifty_interruptions_lose_and_repeat_nothing(
        seed: u64,
        extra in 0u64..40,
        steps in proptest::collection::vec((1u64..4, 0usize..3, 1usize..5), 51),
    ) {
        // A step has 8 samples, however it is cut.
        let cuts = [(1, 8, 1), (2, 4, 1), (2, 2, 2), (4, 1, 2), (8, 1, 1)];
        let samples = 80 + extra;
        let source = source(samples as usize);
        let mut seen: HashMap<(u64, u64), u64> = HashMap::new();
        let mut step = 0;
        for (number, &(count, skip, workers)) in steps.iter().enumerate() {
            let (world_size, batch_size, update_freq) = cuts[(number + skip) % cuts.len()];
            let order = Order { seed, samples, world_size, batch_size, update_freq };
            for rank in 0..world_size {
                // Where the checkpoint says; nothing else is kept.
                let mut loader = loader(&source, order, rank, workers, order.at_step(step));
                for _ in 0..count * update_freq {
                    let batch = loader.next_batch().unwrap();
                    for &sample in &batch.samples {
                        *seen.entry((batch.position.epoch, sample)).or_default() += 1;
                    }
                }
                // Batches that were made ahead are thrown away with it, and made again.
            }
            step += count;
        }
        prop_assert!(seen.values().all(|&times| times == 1));
        let order = Order { seed, samples, world_size: 1, batch_size: 8, update_freq: 1 };
        let whole = step / order.steps_per_epoch();
        prop_assert!(whole >= 3, "{whole} epochs");
        for epoch in 0..whole {
            let count = seen.keys().filter(|(of, _)| *of == epoch).count() as u64;
            prop_assert_eq!(count, samples - order.dropped());
        }
    }

    #[test]
    fn no_two_epochs_have_the_same_order(seed: u64, samples in 40u64..2000) {
        let orders: std::collections::HashSet<Vec<u64>> = (0..60)
            .map(|epoch| {
                let permutation = Permutation::new(seed, epoch, samples);
                (0..samples).map(|place| permutation.at(place)).collect()
            })
            .collect();
        prop_assert_eq!(orders.len(), 60);
    }
}

/// Constant memory: the order of 15 million samples is a few numbers.
#[test]
fn an_order_takes_no_memory_for_its_samples() {
    assert!(std::mem::size_of::<Permutation>() <= 128);
    assert!(std::mem::size_of::<Order>() <= 64);
    let permutation = Permutation::new(3, 1, 15_000_000);
    let mut seen = vec![false; 15_000_000];
    for place in 0..15_000_000 {
        let sample = permutation.at(place) as usize;
        assert!(
            !std::mem::replace(&mut seen[sample], true),
            "{sample} twice"
        );
    }
}
