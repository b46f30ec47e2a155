//! Pickles, by themselves and in npy files.

use std::hint::black_box;
use std::ops::Range;

use rocket_common::experiment::Dataset;
use rocket_worker::data::npy::{Column, column, object_pickle, whole_numbers};
use rocket_worker::data::npy_write::{DictsWriter, Field, texts};
use rocket_worker::data::pickle::{Dialect, Pickle, Value};

use super::{Set, cut, files, nothing};
use crate::mutate::Grammar;
use crate::{Read, Target};

const OPCODES: &[&[u8]] = &[
    b"\x80\x04",
    b"\x95\0\0\0\0\0\0\0\x10",
    b"(",
    b")",
    b"]",
    b"}",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"a",
    b"e",
    b"s",
    b"u",
    b"d",
    b"l",
    b"0",
    b"1",
    b"2",
    b"N",
    b"\x88",
    b"K\x01",
    b"J\xff\xff\xff\x7f",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"G\0\0\0\0\0\0\0\0",
    b"\x8c\x01x",
    b"X\x01\0\0\0x",
    b"X\xff\xff\xff\xff",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
    b"C\x01x",
    b"\x94",
    b"q\x00",
    b"h\x00",
    b"r\xff\xff\xff\xff",
    b"j\xff\xff\xff\xff",
    b"R",
    b"\x81",
    b"b",
    b"Q",
    b"\x93",
    b".",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy.core.multiarray\nscalar\n",
    b"cnumpy\nndarray\n",
    b"cnumpy\ndtype\n",
    b"c_codecs\nencode\n",
    b"cposix\nsystem\n",
    b"ccollections\nOrderedDict\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"cargparse\nNamespace\n",
];

/// Pieces of a pickle, about an opcode each: nobody needs to know all arguments to cut at likely places.
fn opcodes(bytes: &[u8]) -> Vec<Range<usize>> {
    let opcodes =
        b"()]}tasuedl012NKJMGXCBcqhrjRbQ.\x80\x85\x86\x87\x88\x89\x8a\x8c\x8e\x93\x94\x95\x81";
    let starts = (1..bytes.len()).filter(|&at| opcodes.contains(&bytes[at]));
    cut(bytes, starts.collect())
}

/// Reads the first values of a pickle, in which a list may hold itself many times.
fn walk(pickle: &Pickle<'_>) -> String {
    let root = pickle.root();
    let mut said = String::new();
    let mut todo = vec![root];
    let mut left = 500;
    while let Some(node) = todo.pop() {
        let kind = match pickle.value(node) {
            Value::Text(_) | Value::OwnedText(_) => "text",
            Value::Sequence(_) => "list",
            Value::Dict(_) => "dict",
            Value::Array { .. } => "array",
            Value::Int(_) => "int",
            _ => "other",
        };
        if said.len() < 60 {
            said.push_str(kind);
        }
        black_box((pickle.text(node), pickle.get(node, "captions")));
        let items = pickle.items(node).unwrap_or_default();
        let pairs = pickle.pairs(node).unwrap_or_default();
        let pairs = pairs.iter().flat_map(|&(key, value)| [key, value]);
        let before = todo.len();
        todo.extend(items.iter().copied().chain(pairs).take(left));
        left -= todo.len() - before;
    }
    said
}

/// A file of a few bytes may show one text to many samples, up to a bound of its own.
fn list_memory(length: usize) -> u64 {
    2200 * length as u64 + (64 << 20)
}

pub(crate) fn npy() -> Target {
    let mut seeds = files![
        "../golden/cc/cc3m_protocol2.npy",
        "../golden/cc/cc3m_protocol3.npy",
        "../golden/cc/cc3m_protocol4.npy",
        "../golden/cc/cc3m_protocol5.npy",
        "../golden/cc/cc12m.npy",
        "../golden/cc/numbers.npy",
        "../golden/cc/dangerous.npy",
    ];
    let mut own = DictsWriter::new(Vec::new(), 3, &["image_id", "captions"]).expect("memory");
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        own.add(&[Field::Text(name), Field::Texts(&["one", "two"])])
            .expect("memory");
    }
    seeds.push(own.finish().expect("memory"));
    Target {
        name: "npy",
        grammar: Grammar {
            words: &[
                b"\x93NUMPY\x01\x00",
                b"\x93NUMPY\x02\x00",
                b"\x93NUMPY\x03\x00",
                b"'descr': '|O'",
                b"'descr': '<i8'",
                b"'descr': [('a', '<i8')]",
                b"'fortran_order': True",
                b"'shape': (99999999999,)",
                b"'shape': ()",
                b"\xff\xff\xff\xff",
            ],
            split: opcodes,
            mend: nothing,
        },
        seeds,
        read: Set::of_lists(Dataset::Cc3m, "list.npy"),
        memory: list_memory,
    }
}

pub(crate) fn numbers() -> Target {
    Target {
        name: "numbers",
        seeds: files!["../golden/cc/numbers.npy", "../golden/lists/ids.npy"],
        read: Box::new(|bytes| match whole_numbers(bytes) {
            Ok(numbers) => format!("numbers {}", numbers.fold(0, i64::wrapping_add)),
            Err(error) => error.to_string(),
        }),
        memory: |length| 8 * length as u64 + (1 << 16),
        ..npy()
    }
}

/// Lists of paths and labels: text of fixed length, numbers, or objects.
pub(crate) fn column_of_npy() -> Target {
    let mut seeds = numbers().seeds;
    seeds.push(texts(&["images/1.png", "images/zwei Übersichten.png"]));
    // What numpy.save writes of an array of objects, two texts, the second of them three times.
    let list = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(K\x01K\x04\x85cnumpy\ndtype\nX\x02\0\0\0O8\x89\x88\x87R(K\x03X\x01\0\0\0|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb\x89](X\x07\0\0\0count_7X\x07\0\0\0count_3q\0h\0h\0etb.";
    let header = b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (4,), }";
    let mut file = header.to_vec();
    file.resize(127, b' ');
    file.push(b'\n');
    file.extend(list);
    assert!(matches!(column(&file), Ok(Column::Texts(texts)) if texts.len() == 4));
    seeds.push(file);
    Target {
        name: "column_of_npy",
        seeds,
        read: Box::new(|bytes| match column(bytes) {
            Ok(Column::Texts(texts)) => format!("texts {}", texts.concat()),
            Ok(Column::Integers(numbers)) => format!("numbers {numbers:?}"),
            Err(error) => error.to_string(),
        }),
        memory: |length| 600 * length as u64 + (1 << 16),
        ..npy()
    }
}

fn pickles(dialect: Dialect) -> Read {
    Box::new(move |bytes| match Pickle::read_as(bytes, dialect) {
        Ok(pickle) => walk(&pickle),
        Err(error) => error.to_string(),
    })
}

pub(crate) fn pickle() -> Target {
    Target {
        name: "pickle",
        grammar: Grammar {
            words: OPCODES,
            split: opcodes,
            mend: nothing,
        },
        seeds: npy()
            .seeds
            .iter()
            .filter_map(|file| object_pickle(file).ok().map(<[u8]>::to_vec))
            .collect(),
        read: pickles(Dialect::Numpy),
        memory: |length| 200 * length as u64 + (1 << 16),
    }
}

pub(crate) fn yfcc_pickle() -> Target {
    let mut seeds = files![
        "../golden/lists/yfcc15m_protocol2.pkl",
        "../golden/lists/yfcc15m_protocol3.pkl",
        "../golden/lists/yfcc15m_protocol4.pkl",
        "../golden/lists/yfcc15m_protocol5.pkl",
        "../golden/lists/dict.pkl",
    ];
    seeds.push(b"\x80\x04cos\nsystem\n(X\x04\0\0\0trueo.".to_vec());
    Target {
        name: "yfcc_pickle",
        seeds,
        read: Set::of_lists(Dataset::Yfcc15m, "list.pkl"),
        memory: list_memory,
        ..pickle()
    }
}

pub(crate) fn torch_pickle() -> Target {
    let mut target = pickle();
    target.name = "torch_pickle";
    // {'a': tensor} and a Namespace, as torch.save has them.
    target.seeds.push(
        b"\x80\x02}q\x00X\x01\0\0\0aq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\0\0\0storageq\x03ctorch\nFloatStorage\nq\x04X\x01\0\0\x000q\x05X\x03\0\0\0cpuq\x06K\x04tq\x07QK\0K\x02K\x02\x86q\x08K\x02K\x01\x86q\x09\x89ccollections\nOrderedDict\nq\x0a)Rq\x0btq\x0cRq\x0ds."
            .to_vec(),
    );
    target.seeds.push(
        b"\x80\x02cargparse\nNamespace\nq\x00)\x81q\x01}q\x02(X\x02\0\0\0lrq\x03G?PbM\xd2\xf1\xa9\xfcX\x01\0\0\0bq\x04K\x80ub."
            .to_vec(),
    );
    target.read = pickles(Dialect::Torch);
    target
}
