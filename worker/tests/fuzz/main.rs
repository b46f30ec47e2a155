//! Fuzzes every reader of files that others wrote: whatever the bytes are, there is a value or an error,
//! no panic, and no more memory than the input warrants (libjpeg's own, which is bounded by the size that the
//! header says, is not counted).
//!
//! Inputs are made from good files by changing bytes, and the pieces of which the format consists; those
//! that a reader has new words for are kept and changed further. A run is repeated from its seed. In CI
//! each reader gets a fixed number of inputs; `scripts/fuzz.sh` gives each as many minutes as are asked for
//! (`ROCKET_FUZZ_SECONDS`, `ROCKET_FUZZ_SEED`). An input that is not survived is kept in
//! `target/tmp/fuzz`.

mod formats;
mod memory;
mod mutate;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use memory::{Counting, peak_of};
use mutate::{Dice, Grammar, mutate};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Inputs that a reader gets in CI.
const SHORT: u64 = 3000;
/// Inputs that are kept because a reader had new words for them.
const KEPT: usize = 4000;

/// Reads an input, and says what came of it.
type Read = Box<dyn Fn(&[u8]) -> String>;

/// A reader, what it is given first, and what it may take.
struct Target {
    name: &'static str,
    grammar: Grammar,
    seeds: Vec<Vec<u8>>,
    read: Read,
    /// Most bytes for an input of a length.
    memory: fn(usize) -> u64,
}

/// Gives a reader many inputs.
fn fuzz(target: &Target) {
    // Decoders may panic where that is made an error; of that nothing is printed.
    rocket_worker::failure::print_panics_as_sentences();
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let time = number("ROCKET_FUZZ_SECONDS").map(Duration::from_secs);
    let seed = number("ROCKET_FUZZ_SEED").unwrap_or(0);
    let mut dice = Dice::new(seed ^ target.name.bytes().fold(0, |h, b| h * 31 + u64::from(b)));
    let mut corpus = target.seeds.clone();
    let mut words = HashSet::new();
    // The files themselves, and every beginning of them.
    for file in &target.seeds {
        let step = (file.len() / 200).max(1);
        for length in (0..file.len()).step_by(step).chain([file.len()]) {
            words.insert(one(target, &file[..length]));
        }
    }
    let began = Instant::now();
    let (mut inputs, mut most) = (0_u64, 0);
    while time.map_or(inputs < SHORT, |time| began.elapsed() < time) {
        inputs += 1;
        let input = mutate(&mut dice, &target.grammar, &corpus, target.seeds.len());
        let (said, peak) = peak_of(|| one(target, &input));
        most = most.max(peak);
        if corpus.len() < KEPT && !words.contains(&said) {
            corpus.push(input);
            words.insert(said);
        }
    }
    println!(
        "{}: {inputs} inputs in {:.0} s, {} different answers, at most {} kB",
        target.name,
        began.elapsed().as_secs_f64(),
        words.len(),
        most / 1000
    );
}

/// Gives a reader one input, and gives the words of its answer.
fn one(target: &Target, input: &[u8]) -> String {
    let (said, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| (target.read)(input))));
    let said = said.unwrap_or_else(|_| fail(target, input, "a panic"));
    let allowed = (target.memory)(input.len());
    if peak > allowed {
        fail(
            target,
            input,
            &format!("{peak} bytes of memory, of {allowed} that are allowed"),
        );
    }
    words(&said)
}

/// The words of an answer, without what it repeats of the input: quotations, numbers, bytes. Otherwise any
/// rubbish would have an answer of its own, and be kept.
fn words(said: &str) -> String {
    let outside = said.split('\'').step_by(2);
    let words = outside.flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric()));
    let words =
        words.filter(|word| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_alphabetic()));
    let words: Vec<&str> = words.take(40).collect();
    words.join(" ")
}

fn fail(target: &Target, input: &[u8], what: &str) -> ! {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    let hash = input.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    let file = folder.join(format!("{}-{hash:016x}", target.name));
    let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, input));
    let kept = kept.map_or_else(|error| error.to_string(), |()| file.display().to_string());
    panic!("{}: {what}; the input: {kept}", target.name);
}

macro_rules! readers {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            fuzz(&formats::$name());
        }
    )*};
}

readers!(
    npy,
    numbers,
    column_of_npy,
    pickle,
    yfcc_pickle,
    torch_pickle,
    jpeg,
    png,
    gif,
    webp,
    bmp,
    tsv,
    yfcc_tsv,
    lines,
    jsonl,
    coco,
    redcaps,
    zip,
    tar,
    tar_gz,
    index,
    mnist,
    cifar,
    mat,
    hdf5,
    ppm,
);

#[test]
fn answers_are_told_apart_by_their_words_alone() {
    let said = "it begins with 3c 68 74 6d: 'any thing' holds 12,000 bytes";
    assert_eq!(words(said), "begins with holds bytes");
}

/// Inputs that were not survived once.
#[test]
fn inputs_that_were_not_survived() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/found");
    for target in formats::all() {
        let Ok(files) = std::fs::read_dir(folder.join(target.name)) else {
            continue;
        };
        for file in files {
            let path = file.expect("a file").path();
            let input = std::fs::read(&path).expect("a file");
            one(&target, &input);
        }
    }
}
