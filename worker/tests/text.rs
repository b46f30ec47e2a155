//! Captions against recorded ones, and their views.

use std::path::Path;

use rocket_common::experiment::{CaptionSampling, Text};
use rocket_worker::parity;
use rocket_worker::random::{Purpose, Stream};
use rocket_worker::text::{
    CONTEXT_LENGTH, CaptionViews, CaptionViewsError, Tokenizer, clean, random_deletion,
    random_swap, remove_stopwords, unescape, word_tokenize,
};

fn golden(name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/text")
        .join(name);
    let groups = parity::check(&file).unwrap();
    let report = &groups[0].report;
    let wrong: Vec<_> = report
        .checks
        .iter()
        .filter(|check| !check.passed())
        .collect();
    assert!(report.checks.len() >= 600, "{} checks", report.checks.len());
    assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
}

#[test]
fn tokens_are_the_recorded_ones() {
    golden("tokenizer.jsonl");
}

#[test]
fn words_and_stop_words_are_the_recorded_ones() {
    golden("text_stopwords.jsonl");
}
