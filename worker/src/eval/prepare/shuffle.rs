//! Ways to draw a split: Python's `random.Random(seed).shuffle`, with which VISSL's splits of
//! RESISC45 are made, and an order by digest, where theirs cannot be had again.

use sha2::{Digest, Sha256};

/// The Mersenne Twister MT19937 (Matsumoto and Nishimura 1998), seeded as Python seeds it.
pub(super) struct Python {
    state: [u32; 624],
    at: usize,
}

impl Python {
    /// `random.Random(seed)` for a seed below 2^32.
    pub(super) fn new(seed: u32) -> Self {
        let mut state = [0_u32; 624];
        state[0] = 19_650_218;
        for i in 1..624 {
            let last = state[i - 1];
            state[i] = 1_812_433_253_u32
                .wrapping_mul(last ^ (last >> 30))
                .wrapping_add(i as u32);
        }
        // init_by_array with a key of one word.
        let mut i = 1;
        for _ in 0..624 {
            let last = state[i - 1];
            state[i] =
                (state[i] ^ (last ^ (last >> 30)).wrapping_mul(1_664_525)).wrapping_add(seed);
            i += 1;
            if i == 624 {
                state[0] = state[623];
                i = 1;
            }
        }
        for _ in 0..623 {
            let last = state[i - 1];
            state[i] = (state[i] ^ (last ^ (last >> 30)).wrapping_mul(1_566_083_941))
                .wrapping_sub(i as u32);
            i += 1;
            if i == 624 {
                state[0] = state[623];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        Self { state, at: 624 }
    }

    fn next(&mut self) -> u32 {
        if self.at == 624 {
            for i in 0..624 {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7FFF_FFFF);
                let odd = if y & 1 == 1 { 0x9908_B0DF } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ (y >> 1) ^ odd;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9D2C_5680;
        y ^= (y << 15) & 0xEFC6_0000;
        y ^ (y >> 18)
    }

    /// A number below `n`, at least 1: as many random bits as `n` has, drawn until they are below it.
    fn below(&mut self, n: u32) -> u32 {
        let bits = 32 - n.leading_zeros();
        loop {
            let drawn = self.next() >> (32 - bits);
            if drawn < n {
                return drawn;
            }
        }
    }

    /// `shuffle(items)`.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u32 + 1) as usize;
            items.swap(i, j);
        }
    }
}

/// Names in the order of the SHA-256 of `set/name`: the same on every machine, and no other order.
pub(super) fn by_digest<'a>(set: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut drawn: Vec<_> = names
        .into_iter()
        .map(|name| (Sha256::digest(format!("{set}/{name}")), name))
        .collect();
    drawn.sort_unstable();
    drawn.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::Python;

    /// `r = random.Random(42); a = list(range(10)); r.shuffle(a); b = list(range(700)); r.shuffle(b)`
    #[test]
    fn lists_are_shuffled_as_python_does() {
        let mut random = Python::new(42);
        let mut short: Vec<u32> = (0..10).collect();
        random.shuffle(&mut short);
        assert_eq!(short, PYTHON_10);
        let mut long: Vec<u32> = (0..700).collect();
        random.shuffle(&mut long);
        assert_eq!(long[..8], PYTHON_700);
    }

    const PYTHON_10: [u32; 10] = [7, 3, 2, 8, 5, 6, 9, 4, 0, 1];
    const PYTHON_700: [u32; 8] = [384, 567, 328, 251, 613, 412, 101, 626];
}
