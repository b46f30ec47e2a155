//! Which samples repeat others, found from small fingerprints: 12 bytes a sample for equal files, 24 for
//! pictures that look alike, whatever the size of the data set.

use std::collections::{BTreeMap, HashMap};

use super::looks::Fingerprint;

/// First 64 bits of the SHA-256 of a file, and its sample. In halves, so that it takes 12 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Content {
    high: u32,
    low: u32,
    sample: u32,
}

impl Content {
    pub(super) fn new(hash: u64, sample: u32) -> Self {
        Self {
            high: (hash >> 32) as u32,
            low: hash as u32,
            sample,
        }
    }

    fn hash(self) -> (u32, u32) {
        (self.high, self.low)
    }
}

/// How a picture looks, and its sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    print: Fingerprint,
    sample: u32,
}

impl Look {
    pub(super) fn new(print: Fingerprint, sample: u32) -> Self {
        Self { print, sample }
    }
}

/// Samples that repeat an earlier one: the later to the earlier.
pub(super) fn equal(contents: &mut [Content]) -> BTreeMap<u32, u32> {
    contents.sort_unstable();
    let mut repeats = BTreeMap::new();
    for same in contents.chunk_by(|a, b| a.hash() == b.hash()) {
        for later in &same[1..] {
            repeats.insert(later.sample, same[0].sample);
        }
    }
    repeats
}

/// Within a group of equal bands all are compared with all up to this many, and beyond it each with as
/// many neighbours: a picture that the web is full of makes no quadratic work.
const COMPARED: usize = 256;

/// Samples that look like an earlier one, the later to the earliest, without those that equal one.
pub(super) fn alike(looks: &mut [Look], equal: &BTreeMap<u32, u32>) -> BTreeMap<u32, u32> {
    // Bits that differ at up to 3 of 128 places leave one of 4 bands as it is.
    let mut groups = Groups::default();
    for band in 0..4 {
        looks.sort_unstable_by_key(|look| (look.print.bands[band], look.sample));
        for same in looks.chunk_by(|a, b| a.print.bands[band] == b.print.bands[band]) {
            for (index, one) in same.iter().enumerate() {
                for other in same[index + 1..].iter().take(COMPARED) {
                    if one.print.is_like(&other.print) {
                        groups.join(one.sample, other.sample);
                    }
                }
            }
        }
    }
    let members: Vec<u32> = groups.parents.keys().copied().collect();
    let mut repeats = BTreeMap::new();
    for sample in members {
        let first = groups.root(sample);
        if first != sample && !equal.contains_key(&sample) {
            repeats.insert(sample, first);
        }
    }
    repeats
}

/// Sets of samples, each known by its least one. Only samples that are like another are in it.
#[derive(Default)]
struct Groups {
    parents: HashMap<u32, u32>,
}

impl Groups {
    fn root(&mut self, sample: u32) -> u32 {
        let mut root = sample;
        while let Some(&parent) = self.parents.get(&root).filter(|&&parent| parent != root) {
            root = parent;
        }
        let mut at = sample;
        while at != root {
            at = self.parents.insert(at, root).unwrap_or(root);
        }
        root
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.parents.insert(a.max(b), a.min(b));
        self.parents.entry(a.min(b)).or_insert(a.min(b));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(bits: u128) -> Fingerprint {
        Fingerprint {
            bands: std::array::from_fn(|band| (bits >> (32 * band)) as u32),
            color: [1, 2, 3],
            contrast: 100,
        }
    }

    #[test]
    fn a_fingerprint_takes_what_is_said() {
        assert_eq!(size_of::<Content>(), 12);
        assert_eq!(size_of::<Look>(), 24);
    }

    #[test]
    fn equal_files_are_named_with_the_first() {
        let hashes = [7_u64 << 40, 9, 7 << 40, 9, 9, 1];
        let mut contents: Vec<Content> = hashes
            .iter()
            .enumerate()
            .map(|(sample, &hash)| Content::new(hash, sample as u32))
            .rev()
            .collect();
        let want = BTreeMap::from([(2, 0), (3, 1), (4, 1)]);
        assert_eq!(equal(&mut contents), want);
    }

    #[test]
    fn few_differing_bits_are_alike_wherever_they_are() {
        let base = 0x0123_4567_89AB_CDEF_0011_2233_4455_6677_u128;
        let mut bits = Vec::new();
        // Three bits in every choice of bands, against the base, each from a base of its own.
        for (turn, flips) in [
            (0, [0, 40, 80]),
            (1, [31, 64, 127]),
            (2, [1, 2, 3]),
            (3, [90, 95, 33]),
        ] {
            let base = base.rotate_left(turn * 7);
            bits.push(base);
            bits.push(flips.iter().fold(base, |bits, flip| bits ^ (1 << flip)));
        }
        bits.push(base ^ 0b1111);
        let mut looks: Vec<Look> = bits
            .iter()
            .enumerate()
            .map(|(sample, &bits)| Look::new(print(bits), sample as u32))
            .collect();
        let want = BTreeMap::from([(1, 0), (3, 2), (5, 4), (7, 6)]);
        assert_eq!(alike(&mut looks, &BTreeMap::new()), want);
        // What equals another is said to be that.
        let equal = BTreeMap::from([(3, 2)]);
        let want = BTreeMap::from([(1, 0), (5, 4), (7, 6)]);
        assert_eq!(alike(&mut looks, &equal), want);
    }

    #[test]
    fn chains_have_one_first() {
        let mut groups = Groups::default();
        for (a, b) in [(9, 8), (8, 7), (3, 9), (5, 5)] {
            groups.join(a, b);
        }
        for sample in [3, 7, 8, 9] {
            assert_eq!(groups.root(sample), 3);
        }
        assert_eq!(groups.root(5), 5);
    }
}
