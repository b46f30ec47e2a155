//! A bound on the memory that threads take for pictures at one time, however large these are.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::image::{DecodeError, Format, Need, Picture, decode_part};

/// Bytes of files and pictures that the threads of a process hold at one time: some hundred photos, or one
/// that is larger alone.
pub(super) const DECODE_MEMORY: u64 = 1 << 30;

/// Bytes that a file and its picture take while it is decoded, at most.
pub(super) fn decode_bytes(file: &[u8], width: usize, height: usize) -> u64 {
    let per_pixel = Format::of(file).map_or(0, Format::decode_bytes_per_pixel);
    (width * height) as u64 * per_pixel + file.len() as u64
}

/// So many bytes may be in use.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    used: Mutex<u64>,
    freed: Condvar,
}

/// Bytes in use, until it is dropped.
#[derive(Debug)]
pub(super) struct Share<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: Mutex::new(0),
            freed: Condvar::new(),
        }
    }

    /// Waits until there is room. What is larger than all there is waits until nothing else is in use, and
    /// goes alone; so does every thread come to its turn as long as it holds one share at a time.
    pub(super) fn take(&self, bytes: u64) -> Share<'_> {
        let mut used = self.lock();
        while *used > 0 && used.saturating_add(bytes) > self.limit {
            used = self
                .freed
                .wait(used)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *used = used.saturating_add(bytes);
        Share {
            budget: self,
            bytes,
        }
    }

    /// Decodes all of a file once there is room for it, which is given back with the share. A decoder that
    /// panics has found a broken file.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<(Picture, Share<'_>), DecodeError> {
        let mut share = None;
        let mut need = |width: usize, height: usize| {
            share = Some(self.take(decode_bytes(bytes, width, height)));
            Need::all(height)
        };
        let decoded = catch_unwind(AssertUnwindSafe(|| decode_part(bytes, &mut need)));
        let gave_up = |_| {
            Err(DecodeError::Broken {
                format: "image",
                cause: "the decoder gave up".to_owned(),
            })
        };
        let picture = decoded.unwrap_or_else(gave_up)?;
        Ok((picture, share.unwrap_or_else(|| self.take(0))))
    }

    /// The number is right whenever the lock is free, so poison is ignored.
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut used = self.budget.lock();
        *used = used.saturating_sub(self.bytes);
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn threads_stay_within_the_limit_unless_one_alone_is_above_it() {
        let budget = Budget::new(100);
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (budget, now, most) = (&budget, &now, &most);
                scope.spawn(move || {
                    for round in 0..200 {
                        let bytes = [30, 60, 250, 1][((thread + round) % 4) as usize];
                        let share = budget.take(bytes);
                        let together = now.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        assert!(together <= 100 || together == 250, "{together}");
                        most.fetch_max(together, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(bytes, Ordering::SeqCst);
                        drop(share);
                    }
                });
            }
        });
        assert_eq!(*budget.lock(), 0);
        assert_eq!(most.into_inner(), 250);
    }
}
