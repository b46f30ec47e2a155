//! Batches of decoded images: threads decode the next batch while the model works on this one.

use std::ops::ControlFlow;
use std::sync::mpsc::sync_channel;
use std::thread;

use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::{EvalError, Samples};

/// Images of consecutive samples.
pub struct ImageBatch {
    /// Index of the first sample.
    pub first: usize,
    /// Label index of each.
    pub targets: Vec<usize>,
    /// `[B, 3, side, side]` float32 on the CPU.
    pub images: Tensor,
}

/// Decodes the batches `units` of a grid of `batch_size` consecutive samples with `threads` threads,
/// one batch ahead, and hands them to `consume` in order, until it breaks off.
///
/// # Errors
/// The first image that cannot be read, or what `consume` returns.
pub fn for_each(
    samples: &dyn Samples,
    units: impl Iterator<Item = usize> + Send,
    batch_size: usize,
    side: usize,
    threads: usize,
    mut consume: impl FnMut(ImageBatch) -> Result<ControlFlow<()>, EvalError>,
) -> Result<(), EvalError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(|i| format!("eval-decode-{i}"))
        .build()
        .map_err(|error| EvalError::Io {
            path: "decoding threads".into(),
            what: "start them",
            cause: std::io::Error::other(error),
        })?;
    // One batch waits in the channel's sender while another is consumed.
    let (sender, receiver) = sync_channel(0);
    thread::scope(|scope| {
        scope.spawn(move || {
            for unit in units {
                let first = unit * batch_size;
                let last = samples.len().min(first + batch_size);
                let decoded = pool.install(|| decode(samples, first, last, side));
                let failed = decoded.is_err();
                // The receiver is gone when the consumer failed.
                if sender.send((first, last, decoded)).is_err() || failed {
                    return;
                }
            }
        });
        for (first, last, decoded) in receiver {
            let shape = [(last - first) as i64, 3, side as i64, side as i64];
            let images = Tensor::from_slice(&decoded?)
                .view(shape)
                .to_kind(Kind::Float);
            let targets = (first..last).map(|i| samples.target(i)).collect();
            let batch = ImageBatch {
                first,
                targets,
                images,
            };
            if consume(batch)?.is_break() {
                break;
            }
        }
        Ok(())
    })
}

fn decode(
    samples: &dyn Samples,
    first: usize,
    last: usize,
    side: usize,
) -> Result<Vec<f32>, EvalError> {
    let pixels = 3 * side * side;
    let mut values = vec![0.0_f32; (last - first) * pixels];
    let failures: Vec<EvalError> = values
        .par_chunks_mut(pixels)
        .enumerate()
        .filter_map(|(i, out)| samples.pixels(first + i, side, out).err())
        .collect();
    // rayon keeps the order, so that the same image is named every time.
    match failures.into_iter().next() {
        Some(failure) => Err(failure),
        None => Ok(values),
    }
}
