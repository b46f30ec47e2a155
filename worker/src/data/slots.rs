//! A buffer cut into equal slots which different threads fill at the same time.

use std::sync::atomic::{AtomicBool, Ordering};

/// Slots of `length` values each, in one contiguous vector. Each slot can be claimed once.
pub(super) struct Slots<T> {
    values: *mut T,
    capacity: usize,
    length: usize,
    claimed: Vec<AtomicBool>,
}

// SAFETY: the buffer is owned by this value alone (it was a `Vec<T>`), and may move with it.
unsafe impl<T: Send> Send for Slots<T> {}
// SAFETY: shared access only hands out disjoint slots, each to one claimant (see `claim`).
unsafe impl<T: Send> Sync for Slots<T> {}

impl<T: Copy> Slots<T> {
    /// As many as `values` hold; what is beyond the last whole one is not reached.
    pub(super) fn new(values: Vec<T>, length: usize) -> Self {
        let count = values.len() / length.max(1);
        let mut values = std::mem::ManuallyDrop::new(values);
        Self {
            values: values.as_mut_ptr(),
            capacity: values.capacity(),
            length,
            claimed: (0..count).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// The values of a slot, to whoever asks first.
    #[allow(
        clippy::mut_from_ref,
        reason = "disjoint parts of one buffer, each handed out once"
    )]
    pub(super) fn claim(&self, slot: usize) -> Option<&mut [T]> {
        if self.claimed.get(slot)?.swap(true, Ordering::AcqRel) {
            return None;
        }
        // SAFETY: slot < count, so the range lies inside of the buffer; the flag above lets a slot be
        // handed out once in the life of the buffer, so no two slices overlap; `into_vec` and `drop`
        // need the value itself, so no slice outlives the buffer.
        Some(unsafe {
            std::slice::from_raw_parts_mut(self.values.add(slot * self.length), self.length)
        })
    }

    /// The whole buffer, `[count, length]`.
    pub(super) fn into_vec(self) -> Vec<T> {
        let this = std::mem::ManuallyDrop::new(self);
        let length = this.claimed.len() * this.length;
        // SAFETY: the flags are read out once and not used again, since `this` is never dropped.
        drop(unsafe { std::ptr::read(&this.claimed) });
        // SAFETY: pointer, length and capacity are those of the vector this was made from, which was
        // not dropped; `this` is not dropped either, so that there is one owner.
        unsafe { Vec::from_raw_parts(this.values, length, this.capacity) }
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        // SAFETY: as in `into_vec`; values are `Copy`, so a length of 0 only frees the memory.
        drop(unsafe { Vec::from_raw_parts(self.values, 0, self.capacity) });
    }
}
