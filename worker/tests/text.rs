//! Captions against recorded ones, and their views.

use std::path::Path;

use rocket_common::experiment::{CaptionSampling, Text};
use rocket_worker::parity;
use rocket_worker::random::{Purpose, Stream};
use rocket_worker::text::{
    CONTEXT_LENGTH, CaptionViews, CaptionViewsError, Tokenizer, WordNet, clean, random_deletion,
    random_swap, remove_stopwords, synonym_replacement, unescape, word_tokenize,
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

#[test]
fn html_is_replaced_as_python_does() {
    let cases = [
        (
            "&amp;lt; &lt &notit; &notin; &nosuch; &#39;&#x41;&#65",
            "&lt; < ¬it; ∉ &nosuch; 'AA",
        ),
        (
            "&#0;&#128;&#1;&#xFDD0;&#xD800;&#99999999999;",
            "\u{fffd}€\u{fffd}\u{fffd}",
        ),
        ("& &; &# &#x; &a", "& &; &# &#x; &a"),
        ("&copy2024 &ampere &AMP;", "©2024 &ere &"),
    ];
    for (text, want) in cases {
        assert_eq!(unescape(text), want, "{text}");
    }
}

#[test]
fn colours_of_a_terminal_are_removed_as_ftfy_does() {
    let cases = [
        ("\x1b[31mred\x1b[0m fish", "red fish"),
        ("\x1b[1;36;44mblue\x1b[m sea\x1b[2J", "blue sea"),
        ("two\x1b\x1b[0m[31mone", "two[31mone"),
        ("\x1b[31 \x1b]x [0m", "[31 ]x [0m"),
        ("\x1b[31mÄ°zmir\x1b[0m &amp; sea", "i\u{307}zmir & sea"),
    ];
    for (text, want) in cases {
        assert_eq!(clean(text), want, "{text:?}");
    }
}

#[test]
fn mojibake_is_read_again_beside_other_scripts() {
    // As ftfy 6.3.1 gives them.
    let cases = [
        ("Ä°zmir 🌊", "i\u{307}zmir 🌊"),
        ("Ä°zmir őr", "i\u{307}zmir őr"),
        ("5 µm Ä°zmir", "5 µm i\u{307}zmir"),
        ("Ä°zmir, Ä°stanbul ő", "i\u{307}zmir, i\u{307}stanbul ő"),
        ("🌊 Å° Ã±", "🌊 ű ñ"),
        // Nothing is meant but what is there.
        ("İstanbul 20°C 🌊", "i\u{307}stanbul 20°c 🌊"),
        ("Crème brûlée, N° 5 ő", "crème brûlée, n° 5 ő"),
        ("É ° ő", "é ° ő"),
        ("ŁÉ° ő", "łé° ő"),
    ];
    for (text, want) in cases {
        assert_eq!(clean(text), want, "{text:?}");
    }
}

#[test]
fn long_captions_keep_their_end() {
    let tokenizer = Tokenizer::new();
    let row = tokenizer.row(&"dog ".repeat(200));
    assert_eq!((row[0], row[75], row[76]), (49406, 1929, 49407));
    assert_eq!(tokenizer.row("")[..3], [49406, 49407, 0]);
    assert_eq!(tokenizer.row("a <|endoftext|> b")[2], 49407);
    // The crate's own marker is plain text to CLIP.
    assert!(tokenizer.encode("<start_of_text>").len() > 1);
}

#[test]
fn abbreviations_keep_their_period() {
    let words = word_tokenize(
        "Dr. Smith of the U.S. Navy met J. Bach at 5 p.m. yesterday. He left (at last.) \"Why?\"",
    );
    let want = "Dr.|Smith|of|the|U.S.|Navy|met|J.|Bach|at|5|p.m.|yesterday|.|He|left|(|at|last|.|)|``|Why|?|''";
    assert_eq!(words.join("|"), want);
    let left = remove_stopwords("We cannot do it, gonna wanna see");
    assert_eq!(left, ", gon na wan na see");
}

fn text() -> Text {
    Text {
        text_augment: true,
        synonym_replacement_prob: 0.0,
        ..Text::default()
    }
}

#[test]
fn augmentation_keeps_words() {
    let words = "one two three four five";
    for sample in 0..50 {
        let mut stream = Stream::new(1, 0, sample, Purpose::Caption(1));
        let mut swapped: Vec<String> = random_swap(words, &mut stream)
            .split(' ')
            .map(str::to_owned)
            .collect();
        let deleted = random_deletion(words, 0.5, &mut stream);
        assert!(!deleted.is_empty() && deleted.split(' ').all(|word| words.contains(word)));
        swapped.sort();
        assert_eq!(swapped, ["five", "four", "one", "three", "two"]);
    }
    // Three draws: of two words one in eight stays as it is, and as many of one word drawn four times would
    // be one in sixteen.
    let kept = (0..4000)
        .filter(|&sample| {
            let mut stream = Stream::new(1, 0, sample, Purpose::Caption(1));
            random_swap("one two", &mut stream) == "one two"
        })
        .count();
    assert!((420..580).contains(&kept), "{kept} of 4000");
    let mut stream = Stream::new(1, 0, 0, Purpose::Caption(1));
    assert_eq!(random_swap("", &mut stream), "");
    assert_eq!(random_deletion("alone", 1.0, &mut stream), "alone");
}

#[test]
fn views_draw_from_one_caption_or_all() {
    let captions = ["red fish", "blue bird", "green frog"];
    let none = Text {
        remove_stopwords_prob: 0.0,
        text_augment: false,
        ..Text::default()
    };
    let distinct = |sampling| {
        let views = CaptionViews::new(&none, sampling, 4).unwrap();
        let counts = (0..40).map(|sample| {
            let mut texts = views.texts(&captions, 0, 0, sample);
            assert_eq!(texts.len(), 5);
            texts.sort();
            texts.dedup();
            texts.len()
        });
        counts.max().unwrap()
    };
    assert_eq!(distinct(CaptionSampling::Single), 1);
    assert!(distinct(CaptionSampling::Multi) > 1);
}

#[test]
fn captions_of_white_space_are_empty() {
    let views = CaptionViews::new(&text(), CaptionSampling::Single, 2).unwrap();
    let mut rows = vec![0; 3 * CONTEXT_LENGTH];
    for caption in ["", " \t\u{1c}\n"] {
        let texts = views.texts(&[caption], 0, 0, 0);
        views.tokens_into(&texts, &mut rows);
        for row in rows.chunks(CONTEXT_LENGTH) {
            assert_eq!(row[..3], [49406, 49407, 0]);
        }
    }
}

#[test]
fn one_word_becomes_a_synonym_wherever_it_stands() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/text/wordnet");
    let wordnet = WordNet::open(folder.as_ref()).unwrap();
    let caption = "the axis and the axis xyzzy";
    let axes = wordnet.synonyms("axis");
    assert!(axes.len() > 2, "{axes:?}");
    let mut seen = std::collections::BTreeSet::new();
    for sample in 0..200 {
        let mut stream = Stream::new(1, 0, sample, Purpose::Caption(1));
        let text = synonym_replacement(caption, &wordnet, &mut stream);
        let synonym = axes
            .iter()
            .find(|axis| text == caption.replace("axis", axis))
            .unwrap_or_else(|| panic!("'{text}' replaces no axis"));
        seen.insert(synonym.clone());
    }
    // Stop words and unknown words stay; every sense is drawn.
    assert_eq!(seen.len(), axes.len());
    let mut stream = Stream::new(1, 0, 0, Purpose::Caption(1));
    for text in ["", "the and of", "xyzzy"] {
        assert_eq!(synonym_replacement(text, &wordnet, &mut stream), text);
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    let refuse = |text: &Text| {
        CaptionViews::new(text, CaptionSampling::Single, 2)
            .err()
            .unwrap()
    };
    let nothing = Text {
        random_swap_prob: 0.0,
        random_deletion_prob: 0.0,
        ..text()
    };
    assert!(matches!(refuse(&nothing), CaptionViewsError::NoWeights));
    assert_eq!(clean("A &amp;amp;  B\u{3000}"), "a & b");
}
