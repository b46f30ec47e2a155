//! Counter-based randomness: every random number of the data path is a pure function of
//! (seed, epoch, sample index, purpose), never of a thread, a clock or what was drawn before.
//!
//! **Frozen**: the same key gives the same numbers in every version; `tests/loader.rs` holds
//! golden values. The generator is Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy
//! as 1, 2, 3", SC 2011; also numpy's `Philox`): key = (seed, epoch), counter =
//! (block, purpose, sample, 0), so that streams of different keys never overlap.

/// What a stream is for. A stream of one purpose does not disturb those of another, so that a new
/// augmentation does not change the numbers of the old ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Round keys of an epoch's permutation (sample is 0).
    Order,
    /// Where replacements of unreadable samples begin (sample is the batch's offset in the epoch).
    Replacement,
    /// Image view `v`; 0 is the first, weak one.
    Image(u32),
    /// Caption view `v`; 0 is the first.
    Caption(u32),
    /// Which captions of a sample are used.
    CaptionChoice,
    /// Torch's generator (dropout) on a rank; epoch is the optimiser step, sample the micro-batch.
    Dropout(u32),
    /// Which samples are looked at when data is checked.
    Check,
}

impl Purpose {
    /// The counter word of this purpose: kind in the high half, view in the low one. Frozen.
    const fn word(self) -> u64 {
        let (kind, view) = match self {
            Self::Order => (1, 0),
            Self::Replacement => (2, 0),
            Self::Image(view) => (3, view),
            Self::Caption(view) => (4, view),
            Self::CaptionChoice => (5, 0),
            Self::Dropout(rank) => (6, rank),
            Self::Check => (7, 0),
        };
        (kind << 32) | view as u64
    }
}

/// One stream of random numbers.
#[derive(Debug, Clone)]
pub struct Stream {
    key: [u64; 2],
    counter: [u64; 4],
    block: [u64; 4],
    used: usize,
}

impl Stream {
    /// The stream of a sample: same arguments, same numbers, for ever.
    #[must_use]
    pub fn new(seed: u64, epoch: u64, sample: u64, purpose: Purpose) -> Self {
        Self {
            key: [seed, epoch],
            counter: [0, purpose.word(), sample, 0],
            block: [0; 4],
            used: 4,
        }
    }

    /// 64 uniform bits.
    pub fn bits(&mut self) -> u64 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            // 2^64 blocks are never used up.
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        let bits = self.block[self.used];
        self.used += 1;
        bits
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in 0..n without bias (Lemire's multiplication with rejection); 0 if n is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.bits()) * u128::from(n);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// Uniform index into a slice of length `n` (0 if it is empty).
    pub fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    /// True with probability `p`. Always draws one number, also for 0 and 1.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Standard normal (Box-Muller; one of the two values is dropped, to keep the stream simple).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.unit()).cos()
    }

    /// Fisher-Yates, from the last element down.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.index(last + 1);
            items.swap(last, other);
        }
    }

    /// Index drawn with the given weights (not negative); `None` if they sum to 0. Always draws one number.
    pub fn weighted(&mut self, weights: &[f64]) -> Option<usize> {
        let total: f64 = weights.iter().sum();
        let mut left = self.unit() * total;
        if total <= 0.0 {
            return None;
        }
        let mut last = None;
        for (index, &weight) in weights.iter().enumerate() {
            if weight > 0.0 {
                last = Some(index);
                if left < weight {
                    return last;
                }
                left -= weight;
            }
        }
        // Rounding may leave a rest after the last weight.
        last
    }
}

/// Philox4x64 with 10 rounds.
fn philox(mut counter: [u64; 4], mut key: [u64; 2]) -> [u64; 4] {
    const MULTIPLIERS: [u64; 2] = [0xD2E7_470E_E14C_6C93, 0xCA5A_8263_9512_1157];
    const WEYL: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xBB67_AE85_84CA_A73B];
    for _ in 0..10 {
        let first = u128::from(MULTIPLIERS[0]) * u128::from(counter[0]);
        let second = u128::from(MULTIPLIERS[1]) * u128::from(counter[2]);
        counter = [
            (second >> 64) as u64 ^ counter[1] ^ key[0],
            second as u64,
            (first >> 64) as u64 ^ counter[3] ^ key[1],
            first as u64,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// A permutation of 0..n in constant memory: a Feistel network over the smallest even number of
/// bits that holds n, walked until it falls inside (Black and Rogaway, CT-RSA 2002). **Frozen.**
#[derive(Debug, Clone)]
pub struct Permutation {
    len: u64,
    half_bits: u32,
    keys: [u64; Self::ROUNDS],
}

impl Permutation {
    const ROUNDS: usize = 8;

    /// The order of an epoch: a pure function of (seed, epoch, n).
    #[must_use]
    pub fn new(seed: u64, epoch: u64, len: u64) -> Self {
        let mut stream = Stream::new(seed, epoch, 0, Purpose::Order);
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        Self {
            len,
            half_bits: bits.div_ceil(2).max(1),
            keys: std::array::from_fn(|_| stream.bits()),
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing to permute.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element at `position`.
    ///
    /// # Panics
    /// If `position` is not below [`Self::len`]; the walk would not end.
    #[must_use]
    pub fn at(&self, position: u64) -> u64 {
        assert!(
            position < self.len,
            "position {position} of a permutation of {} elements",
            self.len
        );
        let mut value = position;
        loop {
            value = self.encrypt(value);
            if value < self.len {
                return value;
            }
        }
    }

    fn encrypt(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        (left << self.half_bits) | right
    }
}

/// The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
