//! Batches of decoded images: threads decode the next batch while the model works on this one.

use std::ops::ControlFlow;
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::{EvalError, Samples};

/// Images of consecutive samples.
pub struct ImageBatch {
    /// Index of the first sample.
    pub first: usize,
    /// Label index of each.
    pub targets: Vec<usize>,
    values: Vec<f32>,
    side: usize,
}

impl ImageBatch {
    /// Number of images, B.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The pixels `[B, 3, side, side]` float32 on `device`, to `f`. On the CPU they are not copied.
    pub fn with_images<R>(&self, device: Device, f: impl FnOnce(&Tensor) -> R) -> R {
        let side = self.side as i64;
        let shape = [self.len() as i64, 3, side, side];
        let strides = [3 * side * side, side * side, side, 1];
        // SAFETY: the values are B * 3 * side * side contiguous numbers, which `self` keeps while `f`
        // borrows the tensor; the model only reads it, and gives values of its own.
        let images = unsafe {
            Tensor::from_blob(
                self.values.as_ptr().cast(),
                &shape,
                &strides,
                Kind::Float,
                Device::Cpu,
            )
        };
        f(&images.to_device(device))
    }
}

/// Decodes the batches `units` of a grid of `batch_size` consecutive samples with `threads` threads,
/// one batch ahead, and hands them to `consume` in order, until it breaks off. The memory of two
/// batches is used over and over.
///
/// # Errors
/// The first image that cannot be read, or what `consume` returns.
pub fn for_each(
    samples: &dyn Samples,
    units: impl Iterator<Item = usize> + Send,
    batch_size: usize,
    side: usize,
    threads: usize,
    mut consume: impl FnMut(&ImageBatch) -> Result<ControlFlow<()>, EvalError>,
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
    let (give_back, given_back) = channel::<Vec<f32>>();
    thread::scope(|scope| {
        scope.spawn(move || {
            for unit in units {
                let first = unit * batch_size;
                let last = samples.len().min(first + batch_size);
                let memory = given_back.try_recv().unwrap_or_default();
                let decoded = pool.install(|| decode(samples, first, last, side, memory));
                let failed = decoded.is_err();
                // The receiver is gone when the consumer failed.
                if sender.send((first, last, decoded)).is_err() || failed {
                    return;
                }
            }
        });
        for (first, last, decoded) in receiver {
            let batch = ImageBatch {
                first,
                targets: (first..last).map(|i| samples.target(i)).collect(),
                values: decoded?,
                side,
            };
            if consume(&batch)?.is_break() {
                break;
            }
            // Whoever decodes may be gone: that was the last batch.
            let _ = give_back.send(batch.values);
        }
        Ok(())
    })
}

fn decode(
    samples: &dyn Samples,
    first: usize,
    last: usize,
    side: usize,
    mut values: Vec<f32>,
) -> Result<Vec<f32>, EvalError> {
    let pixels = 3 * side * side;
    values.resize((last - first) * pixels, 0.0);
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
