//! Writes what `numpy.save` writes for one-dimensional arrays: of dicts, sample by sample, the form in which
//! the original keeps the metadata of CC3M and CC12M; and of texts, as lists of files are.

use std::io::{self, Write};

/// Elements between two marks, as Python's pickler has it: a reader's stack stays small.
const BATCH: u64 = 1000;

/// Value of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Int(i64),
    /// A list of texts.
    Texts(&'a [&'a str]),
}

/// An npy file of dicts in the writing (format 1.0, pickle protocol 3).
pub struct DictsWriter<W: Write> {
    out: W,
    keys: Vec<&'static str>,
    count: u64,
    written: u64,
}

impl<W: Write> DictsWriter<W> {
    /// Begins an array of `count` dicts, each with these keys in this order (at most 255).
    ///
    /// # Errors
    /// Of the writer.
    pub fn new(mut out: W, count: u64, keys: &[&'static str]) -> io::Result<Self> {
        out.write_all(&header("|O", count))?;
        // array = _reconstruct(ndarray, (0,), b"b")
        // array.__setstate__((1, (count,), dtype("O"), False, [...]))
        out.write_all(
            b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01",
        )?;
        int(&mut out, i64::try_from(count).unwrap_or(i64::MAX))?;
        out.write_all(b"\x85cnumpy\ndtype\n")?;
        text(&mut out, "O8")?;
        out.write_all(b"\x89\x88\x87R(K\x03")?;
        text(&mut out, "|")?;
        out.write_all(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb\x89]")?;
        Ok(Self {
            out,
            keys: keys.to_vec(),
            count,
            written: 0,
        })
    }

    /// Adds a dict: a value for each key, in the order of the keys.
    ///
    /// # Errors
    /// Of the writer, or if there are other than `count` dicts or other values than keys.
    pub fn add(&mut self, values: &[Field<'_>]) -> io::Result<()> {
        if values.len() != self.keys.len() || self.written == self.count {
            return Err(io::Error::other("a sample that was not announced"));
        }
        if self.written.is_multiple_of(BATCH) {
            if self.written > 0 {
                self.out.write_all(b"e")?;
            }
            self.out.write_all(b"(")?;
        }
        self.out.write_all(b"}(")?;
        for (index, (key, value)) in self.keys.iter().zip(values).enumerate() {
            let slot = index as u8;
            if self.written == 0 {
                // Keys are written once and then recalled.
                text(&mut self.out, key)?;
                self.out.write_all(&[b'q', slot])?;
            } else {
                self.out.write_all(&[b'h', slot])?;
            }
            match value {
                Field::Text(value) => text(&mut self.out, value)?,
                Field::Int(value) => int(&mut self.out, *value)?,
                Field::Texts(values) => {
                    self.out.write_all(b"](")?;
                    for value in *values {
                        text(&mut self.out, value)?;
                    }
                    self.out.write_all(b"e")?;
                }
            }
        }
        self.out.write_all(b"u")?;
        self.written += 1;
        Ok(())
    }

    /// Ends the file, and gives the writer back.
    ///
    /// # Errors
    /// Of the writer, or if fewer than `count` dicts were added.
    pub fn finish(mut self) -> io::Result<W> {
        if self.written != self.count {
            return Err(io::Error::other("fewer samples than announced"));
        }
        if self.written > 0 {
            self.out.write_all(b"e")?;
        }
        self.out.write_all(b"tb.")?;
        Ok(self.out)
    }
}

/// An npy file of texts (`<U` of the longest), as `numpy.save(file, numpy.array(texts))` writes it.
#[must_use]
pub fn texts(texts: &[&str]) -> Vec<u8> {
    let width = texts.iter().map(|text| text.chars().count()).max();
    let width = width.unwrap_or(0).max(1);
    let mut out = header(&format!("<U{width}"), texts.len() as u64);
    for text in texts {
        let codes = text.chars().map(u32::from).chain(std::iter::repeat(0));
        codes
            .take(width)
            .for_each(|code| out.extend(code.to_le_bytes()));
    }
    out
}

/// What precedes the data of `count` values (format 1.0).
fn header(dtype: &str, count: u64) -> Vec<u8> {
    let mut header =
        format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({count},), }}");
    // Magic, version and length take 10 bytes; the whole is a multiple of 64 with a newline at its end.
    let fill = (64 - (10 + header.len() + 1) % 64) % 64;
    header.extend(std::iter::repeat_n(' ', fill));
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.into_bytes());
    out
}

fn int(out: &mut impl Write, value: i64) -> io::Result<()> {
    if let Ok(value) = i32::try_from(value) {
        out.write_all(b"J")?;
        return out.write_all(&value.to_le_bytes());
    }
    out.write_all(b"\x8a\x08")?;
    out.write_all(&value.to_le_bytes())
}

fn text(out: &mut impl Write, value: &str) -> io::Result<()> {
    let length = u32::try_from(value.len()).map_err(io::Error::other)?;
    out.write_all(b"X")?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::npy::{Column, column, object_pickle};
    use crate::data::pickle::{Pickle, Value};

    #[test]
    fn what_is_written_is_read() {
        for count in [0_u64, 1, 999, 1000, 1001, 2500] {
            let mut writer =
                DictsWriter::new(Vec::new(), count, &["image", "id", "captions"]).expect("memory");
            for sample in 0..count {
                let name = format!("{sample:09}.jpg");
                let captions = ["zwei Übersichten", &name];
                writer
                    .add(&[
                        Field::Text(&name),
                        Field::Int(i64::from(u32::MAX) + sample as i64),
                        Field::Texts(&captions[..sample as usize % 3]),
                    ])
                    .expect("memory");
            }
            let file = writer.finish().expect("memory");
            let pickle = Pickle::read(object_pickle(&file).expect("an npy")).expect("a pickle");
            let samples = pickle.items(pickle.root()).expect("an array");
            assert_eq!(samples.len() as u64, count);
            for (index, &node) in samples.iter().enumerate() {
                let name = pickle.get(node, "image").expect("a name");
                assert_eq!(pickle.text(name), Some(format!("{index:09}.jpg").as_str()));
                let id = pickle.get(node, "id").expect("an id");
                let want = Value::Int(i64::from(u32::MAX) + index as i64);
                assert_eq!(*pickle.value(id), want);
                let captions = pickle.get(node, "captions").expect("captions");
                let captions = pickle.items(captions).expect("a list");
                assert_eq!(captions.len(), index % 3);
            }
        }
    }

    /// `numpy.save(file, numpy.array(["a", "", "Übersicht"]))`
    #[test]
    fn texts_are_written_as_numpy_does() {
        let given = ["a", "", "Übersicht"];
        let file = texts(&given);
        let header = b"\x93NUMPY\x01\0v\0{'descr': '<U9', 'fortran_order': False, 'shape': (3,), }";
        assert!(file.starts_with(header));
        assert_eq!((file.len(), file[127]), (128 + 3 * 9 * 4, b'\n'));
        assert_eq!(file[128..136], [b'a', 0, 0, 0, 0, 0, 0, 0]);
        let read = column(&file).expect("a column");
        assert_eq!(read, Column::Texts(given.map(str::to_owned).to_vec()));
        assert_eq!(column(&texts(&[])), Ok(Column::Texts(Vec::new())));
    }

    #[test]
    fn other_counts_are_refused() {
        let mut writer = DictsWriter::new(Vec::new(), 1, &["a"]).expect("memory");
        assert!(writer.add(&[]).is_err());
        writer.add(&[Field::Int(1)]).expect("the one");
        assert!(writer.add(&[Field::Int(1)]).is_err());
        let writer = DictsWriter::new(Vec::new(), 1, &["a"]).expect("memory");
        assert!(writer.finish().is_err());
    }
}
