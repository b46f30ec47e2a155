//! Lists: lines of text, and JSON.

use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use rocket_common::experiment::Dataset;
use rocket_worker::data::fetch::{List, Pairs};
use rocket_worker::data::yfcc15m::{Ids, make, subset};

use super::{Set, cut, files, nothing};
use crate::Target;
use crate::mutate::Grammar;

/// What lies between ends of lines and tabs.
fn fields(bytes: &[u8]) -> Vec<Range<usize>> {
    let ends = (1..bytes.len()).filter(|&at| matches!(bytes[at - 1], b'\n' | b'\t'));
    cut(bytes, ends.collect())
}

/// Indexes of small lists are made in memory, twice while they grow; their text is gathered in 2 MiB.
fn list_memory(length: usize) -> u64 {
    100 * length as u64 + (3 << 20)
}

/// The lists of CC3M and CC12M as they are published.
pub(crate) fn tsv() -> Target {
    Target {
        name: "tsv",
        grammar: Grammar {
            words: &[b"\t", b"\n", b"\r\n", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"http://", b"\xc3\x28"],
            split: fields,
            mend: nothing,
        },
        seeds: vec![
            b"a very typical bus station\thttp://a.example/x.jpg\nsierra looked stunning\thttps://b.example/%20y?z=1\n".to_vec(),
            b"http://a.example/x.jpg\tcaption with a\ttab\r\nhttps://b.example/\xc3\xbc\t\xc3\x9cbersicht\n\n".to_vec(),
        ],
        read: Box::new(|bytes| {
            let mut said = String::new();
            for pairs in [Pairs::Cc3m, Pairs::Cc12m] {
                let reader = Box::new(Cursor::new(bytes.to_vec()));
                let mut list = List::of(Path::new("list"), pairs, reader);
                while let Some(row) = list.next_row().expect("memory can be read") {
                    let word = match row {
                        Ok(row) => {
                            assert!(!row.caption.contains('\0') && !row.url.is_empty());
                            "row".to_owned()
                        }
                        Err(why) => why,
                    };
                    if said.len() < 200 {
                        said.push_str(&word);
                    }
                }
            }
            said
        }),
        // Two buffers, and a line of at most 64 KiB that is doubled while it grows.
        memory: |length| 8 * length as u64 + (1 << 20),
    }
}

/// What YFCC15M's list is made of.
pub(crate) fn yfcc_tsv() -> Target {
    let mut wanted = Ids::default();
    for id in 0..1000 {
        wanted.insert(id);
    }
    Target {
        name: "yfcc_tsv",
        seeds: files!["../golden/lists/subset.tsv", "../golden/lists/dataset.txt",],
        read: Box::new(move |bytes| {
            let ids = subset(Cursor::new(bytes)).map(|ids| format!("{} ids", ids.len()));
            let ids = ids.unwrap_or_else(|error| error.to_string());
            let mut out = Vec::new();
            let made = make(Cursor::new(bytes), &wanted, &wanted, &mut out, |_, _| {});
            let made = made.map(|samples| format!("{samples} samples"));
            let made = made.unwrap_or_else(|error| error.to_string());
            format!("{ids}, {made}")
        }),
        // A bit for each image of YFCC100M.
        memory: |length| 100 * length as u64 + (16 << 20),
        ..tsv()
    }
}

pub(crate) fn lines() -> Target {
    Target {
        name: "lines",
        seeds: vec![
            b"owl/d.jpg\tan owl\r\n\nred_fox/a.PNG\ta fox\tone more\n".to_vec(),
            b"\xef\xbb\xbf../x.jpg\tx\n/etc/passwd\tx\n".to_vec(),
        ],
        read: Set::of_lists(Dataset::Filelist, "list.tsv"),
        memory: list_memory,
        ..tsv()
    }
}

const JSON: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"[[[[[[[[[[[[[[[[",
    b"{\"a\":",
    b",",
    b":",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"true",
    b"-0",
    b"1e999",
    b"18446744073709551616",
    b"\"annotations\"",
    b"\"image_id\"",
    b"\"caption\"",
    b"\"captions\"",
    b"\"subreddit\"",
    b"\"image\"",
    b"\"../..\"",
    b"\n",
];

/// What lies between signs that mean something.
fn tokens(bytes: &[u8]) -> Vec<Range<usize>> {
    let signs = (1..bytes.len()).filter(|&at| b"{}[],:\"\n".contains(&bytes[at]));
    cut(bytes, signs.collect())
}

fn json(name: &'static str, dataset: Dataset, list: &str, seeds: &[&[u8]]) -> Target {
    Target {
        name,
        grammar: Grammar {
            words: JSON,
            split: tokens,
            mend: nothing,
        },
        seeds: seeds.iter().map(|seed| seed.to_vec()).collect(),
        read: Set::of_lists(dataset, list),
        memory: list_memory,
    }
}

pub(crate) fn jsonl() -> Target {
    json(
        "jsonl",
        Dataset::Filelist,
        "list.jsonl",
        &[
            br#"{"file_name": "owl/d.jpg", "text": "an owl"}
{"image": "red_fox/b.jpg", "captions": ["x", "y"]}
"#,
            br#"{"path": "a.jpg", "caption": "\u00fcber", "more": [1, {"a": null}]}"#,
        ],
    )
}

pub(crate) fn coco() -> Target {
    json(
        "coco",
        Dataset::Coco,
        "list.json",
        &[
            br#"{"info": {"year": 2017}, "images": [{"id": 9}], "annotations": [
{"image_id": 9, "id": 1, "caption": "one"}, {"image_id": 25, "id": 2, "caption": "two"},
{"image_id": 9, "id": 3, "caption": "three"}]}"#,
        ],
    )
}

pub(crate) fn redcaps() -> Target {
    json(
        "redcaps",
        Dataset::Redcaps,
        "list.json",
        &[
            br#"[{"image_id": "a1", "subreddit": "birds", "caption": "an owl"}]"#,
            br#"{"annotations": [{"image_id": "b", "subreddit": "../..", "caption": "x", "score": 3}]}"#,
        ],
    )
}
