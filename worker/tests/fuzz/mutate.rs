//! Changes to inputs: of bytes, blind, and of the pieces that a format consists of.

use std::ops::Range;

/// A small generator of random numbers (splitmix64), so that a run can be repeated from its seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    /// Below `n`; 0 if `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    fn range(&mut self, length: usize, most: usize) -> Range<usize> {
        let start = self.below(length + 1);
        let size = self.below(most.min(length - start) + 1);
        start..start + size
    }
}

/// Numbers at which readers trip.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    60_000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x7FFF_FFFF_FFFF_FFFF,
    u64::MAX,
];

/// What a format says about its inputs.
pub(crate) struct Grammar {
    /// Words that mean something in it.
    pub(crate) words: &'static [&'static [u8]],
    /// Cuts an input into its pieces, which follow on each other.
    pub(crate) split: fn(&[u8]) -> Vec<Range<usize>>,
    /// Makes checksums right again, for those who look at nothing else otherwise.
    pub(crate) mend: fn(&mut [u8]),
}

/// Inputs do not grow beyond this.
const LONGEST: usize = 1 << 16;

/// A new input out of old ones, of which the first so many are good files: every other input is made of one,
/// since what is made of broken ones seldom gets far into a reader.
pub(crate) fn mutate(
    dice: &mut Dice,
    grammar: &Grammar,
    corpus: &[Vec<u8>],
    good: usize,
) -> Vec<u8> {
    let from = if dice.below(2) == 0 {
        &corpus[..good]
    } else {
        corpus
    };
    let mut input = dice.pick(from).clone();
    for _ in 0..1 << dice.below(4) {
        if dice.below(4) == 0 {
            pieces(dice, grammar, corpus, &mut input);
        } else {
            bytes(dice, grammar, corpus, &mut input);
        }
    }
    input.truncate(LONGEST);
    if dice.below(8) != 0 {
        (grammar.mend)(&mut input);
    }
    input
}

/// Takes out, doubles, exchanges and takes over whole pieces.
fn pieces(dice: &mut Dice, grammar: &Grammar, corpus: &[Vec<u8>], input: &mut Vec<u8>) {
    let ranges = (grammar.split)(input);
    if ranges.is_empty() {
        return;
    }
    let mut parts: Vec<Vec<u8>> = ranges
        .iter()
        .map(|range| input[range.clone()].to_vec())
        .collect();
    let (a, b) = (dice.below(parts.len()), dice.below(parts.len()));
    match dice.below(5) {
        0 => drop(parts.remove(a)),
        1 => parts.insert(b, parts[a].clone()),
        2 => parts.swap(a, b),
        3 => {
            let other = dice.pick(corpus);
            let ranges = (grammar.split)(other);
            if !ranges.is_empty() {
                let range = dice.pick(&ranges).clone();
                parts[a] = other[range].to_vec();
            }
        }
        _ => {
            // The same piece many times.
            let many = 1 << dice.below(9);
            let room = LONGEST / parts[a].len().max(1);
            let again = vec![parts[a].clone(); many.min(room)];
            parts.splice(b..b, again);
        }
    }
    *input = parts.concat();
}

fn bytes(dice: &mut Dice, grammar: &Grammar, corpus: &[Vec<u8>], input: &mut Vec<u8>) {
    let length = input.len();
    match dice.below(10) {
        0 if length > 0 => {
            let at = dice.below(length);
            input[at] ^= 1 << dice.below(8);
        }
        1 if length > 0 => {
            let at = dice.below(length);
            input[at] = dice.bits() as u8;
        }
        2 | 3 if length > 0 => {
            // A number of some width, in one order of bytes or the other.
            let width = *dice.pick(&[1, 2, 4, 8]);
            let mut number = *dice.pick(&NUMBERS);
            if dice.below(3) == 0 {
                number = (length as u64)
                    .wrapping_add(dice.below(16) as u64)
                    .wrapping_sub(8);
            }
            let mut field = number.to_le_bytes()[..width].to_vec();
            if dice.below(2) == 0 {
                field.reverse();
            }
            let at = dice.below(length);
            for (byte, new) in input[at..].iter_mut().zip(field) {
                *byte = new;
            }
        }
        4 => input.truncate(dice.below(length + 1)),
        5 => {
            let range = dice.range(length, 64);
            input.drain(range);
        }
        6 => {
            let copy = input[dice.range(length, 256)].to_vec();
            let at = dice.below(input.len() + 1);
            input.splice(at..at, copy);
        }
        7 if !grammar.words.is_empty() => {
            let word = dice.pick(grammar.words).to_vec();
            let at = dice.below(length + 1);
            let over = if dice.below(2) == 0 { word.len() } else { 0 };
            input.splice(at..length.min(at + over), word);
        }
        8 => {
            let other = dice.pick(corpus);
            let part = other[dice.range(other.len(), 512)].to_vec();
            let at = dice.below(length + 1);
            let over = if dice.below(2) == 0 { part.len() } else { 0 };
            input.splice(at..length.min(at + over), part);
        }
        _ => {
            let count = 1 + dice.below(16);
            let noise: Vec<u8> = (0..count).map(|_| dice.bits() as u8).collect();
            let at = dice.below(length + 1);
            input.splice(at..at, noise);
        }
    }
}
