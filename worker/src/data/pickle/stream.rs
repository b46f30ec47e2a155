//! Reads a pickled list, or a pickled array of objects, one element after the other: millions of samples
//! pass without being held, and without an allocation for each. The opcodes are those of Python's
//! `pickletools`; what may be named is what [`super::Pickle`] reads as numpy's.

use super::calls::Known;
use super::cells::{Cell, Heap, Tag};
use super::refusal::opcode_name;
use super::{Dialect, PickleError};
use crate::data::npy::fixed_text;

/// Why the elements of a pickle cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElementsError {
    /// The pickle itself.
    #[error("holds no data that can be read: {0}")]
    Pickle(#[from] PickleError),
    /// It holds something else.
    #[error("holds {0} where a list of samples is needed")]
    NoList(&'static str),
    /// An element is not what it should be.
    #[error("sample {element}: {what}")]
    Element {
        /// Its place in the list, from 0.
        element: u64,
        /// What is wrong.
        what: String,
    },
    /// An element shows again what an earlier one held, which was let go of: begin again with
    /// [`Elements::keep_all`].
    #[error("an element shows what an earlier one held")]
    Forgotten,
}

type Step<T> = Result<T, ElementsError>;

/// Reads the elements of one list.
pub struct Elements<'f> {
    heap: Heap<'f>,
    at: usize,
    /// Offset of the current opcode, for messages.
    start: usize,
    stack: Vec<Cell>,
    marks: Vec<usize>,
    memo: Vec<Cell>,
    /// The list whose elements are asked for, once it was begun.
    list: Option<Cell>,
    /// The array around it.
    in_array: bool,
    keep_all: bool,
    seen: u64,
}

impl<'f> Elements<'f> {
    /// Begins with the first pickle in `file`.
    #[must_use]
    pub fn new(file: &'f [u8]) -> Self {
        Self {
            heap: Heap::new(file),
            at: 0,
            start: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            list: None,
            in_array: false,
            keep_all: false,
            seen: 0,
        }
    }

    /// Holds every element to the end, so that later ones can show parts of them.
    #[must_use]
    pub fn keep_all(mut self) -> Self {
        self.keep_all = true;
        self
    }

    /// Hands every element to `visit`, in order, and says how many there were. `visit` also gets the bytes
    /// that were read so far; an error of its own is about the element.
    ///
    /// # Errors
    /// [`ElementsError`].
    pub fn each(
        mut self,
        mut visit: impl FnMut(&Heap<'_>, Cell, usize) -> Result<(), String>,
    ) -> Result<u64, ElementsError> {
        loop {
            self.start = self.at;
            let opcode = self.byte()?;
            if opcode == b'.' {
                break;
            }
            self.step(opcode, &mut visit)?;
        }
        let root = self.pop()?;
        match self.list {
            Some(list) if list == root || (self.in_array && root.tag() == Tag::Array) => {
                Ok(self.seen)
            }
            _ => Err(ElementsError::NoList(match root.tag() {
                Tag::None => "nothing (None)",
                Tag::Bool | Tag::Int | Tag::Wide | Tag::Float => "a number",
                Tag::Text | Tag::Owned => "text",
                Tag::Bytes | Tag::OwnedBytes => "bytes",
                Tag::Tuple => "a tuple",
                Tag::Dict => "a dict",
                _ => "something else",
            })),
        }
    }

    fn step<V>(&mut self, opcode: u8, visit: &mut V) -> Step<()>
    where
        V: FnMut(&Heap<'_>, Cell, usize) -> Result<(), String>,
    {
        match opcode {
            // Framing and protocol say nothing about values.
            0x80 => self.take(1).map(drop)?,
            0x95 => self.take(8).map(drop)?,
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.pop().map(drop)?,
            b'1' => {
                let mark = self.mark()?;
                self.stack.truncate(mark);
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.stack.push(Cell::NONE),
            0x88 => self.stack.push(Cell::new(Tag::Bool, 1)),
            0x89 => self.stack.push(Cell::new(Tag::Bool, 0)),
            b'J' => {
                let value = self.number::<4>()? as u32 as i32;
                self.push_int(value.into());
            }
            b'K' => {
                let value = self.number::<1>()?;
                self.push_int(value as i64);
            }
            b'M' => {
                let value = self.number::<2>()?;
                self.push_int(value as i64);
            }
            0x8A => self.long()?,
            b'G' => {
                self.take(8)?;
                self.stack.push(Cell::new(Tag::Float, self.start));
            }
            b'X' => self.in_file::<4>(Tag::Text)?,
            0x8C => self.in_file::<1>(Tag::Text)?,
            0x8D => self.in_file::<8>(Tag::Text)?,
            b'B' | b'T' => self.in_file::<4>(Tag::Bytes)?,
            b'C' | b'U' => self.in_file::<1>(Tag::Bytes)?,
            0x8E | 0x96 => self.in_file::<8>(Tag::Bytes)?,
            b']' => self.begin_list(),
            b')' => {
                let tuple = self.heap.make(Tag::Tuple, &[]);
                self.stack.push(tuple);
            }
            b'}' => {
                let dict = self.heap.make(Tag::Dict, &[]);
                self.stack.push(dict);
            }
            b'l' => self.collect(Tag::List)?,
            b't' => self.collect(Tag::Tuple)?,
            b'd' => self.collect(Tag::Dict)?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b'a' => self.append(self.stack.len().saturating_sub(1), visit)?,
            b'e' => {
                let mark = self.mark()?;
                self.append(mark, visit)?;
            }
            b's' => self.set_items(self.stack.len().saturating_sub(2))?,
            b'u' => {
                let mark = self.mark()?;
                self.set_items(mark)?;
            }
            b'q' => {
                let index = self.number::<1>()?;
                self.remember(index as usize)?;
            }
            b'r' => {
                let index = self.number::<4>()?;
                self.remember(index as usize)?;
            }
            0x94 => self.remember(self.memo.len())?,
            b'h' => {
                let index = self.number::<1>()?;
                self.recall(index as usize)?;
            }
            b'j' => {
                let index = self.number::<4>()?;
                self.recall(index as usize)?;
            }
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(&module, &name)?;
            }
            0x93 => {
                let name = self.pop_text()?;
                let module = self.pop_text()?;
                self.global(&module, &name)?;
            }
            b'R' | 0x81 => self.call()?,
            b'b' => self.build()?,
            other => {
                return Err(PickleError::Opcode {
                    name: opcode_name(other),
                    at: self.start,
                }
                .into());
            }
        }
        Ok(())
    }

    fn broken(&self, what: &'static str) -> ElementsError {
        PickleError::Broken {
            what,
            at: self.start,
        }
        .into()
    }

    fn truncated(&self) -> ElementsError {
        PickleError::Truncated { at: self.start }.into()
    }

    fn take(&mut self, count: usize) -> Step<&'f [u8]> {
        let file = self.heap.file;
        let end = self.at.checked_add(count);
        match end.and_then(|end| file.get(self.at..end)) {
            Some(bytes) => {
                self.at += count;
                Ok(bytes)
            }
            None => Err(self.truncated()),
        }
    }

    fn byte(&mut self) -> Step<u8> {
        match self.heap.file.get(self.at) {
            Some(&byte) => {
                self.at += 1;
                Ok(byte)
            }
            None => Err(self.truncated()),
        }
    }

    /// A little-endian number of `N` bytes, at most 8.
    fn number<const N: usize>(&mut self) -> Step<u64> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(self.take(N)?);
        Ok(u64::from_le_bytes(wide))
    }

    fn line(&mut self) -> Step<String> {
        let rest = self.heap.file.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or_else(|| self.truncated())?;
        self.at += end + 1;
        Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    fn push_int(&mut self, value: i64) {
        let cell = self.heap.integer(value);
        self.stack.push(cell);
    }

    fn long(&mut self) -> Step<()> {
        let length = self.number::<1>()? as usize;
        let bytes = self.take(length)?;
        if bytes.len() > 8 {
            return Err(self.broken("an integer has more than 64 bits"));
        }
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut wide = if negative { [0xFF; 8] } else { [0; 8] };
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push_int(i64::from_le_bytes(wide));
        Ok(())
    }

    fn in_file<const N: usize>(&mut self, tag: Tag) -> Step<()> {
        let length = self.number::<N>()?;
        let length = usize::try_from(length).map_err(|_| self.truncated())?;
        self.take(length)?;
        self.stack.push(Cell::new(tag, self.start));
        Ok(())
    }

    fn pop(&mut self) -> Step<Cell> {
        // A value below a mark belongs to whatever the mark opened.
        if self
            .marks
            .last()
            .is_some_and(|&mark| mark >= self.stack.len())
        {
            return Err(self.broken("a value is missing"));
        }
        self.stack
            .pop()
            .ok_or_else(|| self.broken("a value is missing"))
    }

    fn top(&self) -> Step<Cell> {
        self.stack
            .last()
            .copied()
            .ok_or_else(|| self.broken("a value is missing"))
    }

    fn mark(&mut self) -> Step<usize> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(mark),
            _ => Err(self.broken("a mark is missing")),
        }
    }

    fn pop_text(&mut self) -> Step<String> {
        let cell = self.pop()?;
        let text = self.heap.text(cell).map(std::borrow::Cow::into_owned);
        text.ok_or_else(|| self.broken("a name is no text"))
    }

    /// An empty list: the one that is asked for, if it is all there is, or if it is the fifth part of the
    /// state of an array that is all there is.
    fn begin_list(&mut self) {
        let list = self.heap.make(Tag::List, &[]);
        let alone = self.stack.is_empty();
        let in_array =
            self.marks == [1] && self.stack.len() == 5 && self.stack[0].tag() == Tag::Array;
        if self.list.is_none() && (alone || in_array) {
            self.list = Some(list);
            self.in_array = in_array;
            if !self.keep_all {
                self.heap.mark();
            }
        }
        self.stack.push(list);
    }

    fn collect(&mut self, tag: Tag) -> Step<()> {
        let mark = self.mark()?;
        let cell = self.heap.make(tag, &self.stack[mark..]);
        if tag == Tag::Dict && !(self.stack.len() - mark).is_multiple_of(2) {
            return Err(self.broken("a dict has a key without a value"));
        }
        self.stack.truncate(mark);
        self.stack.push(cell);
        Ok(())
    }

    fn tuple(&mut self, length: usize) -> Step<()> {
        let from = self.stack.len().checked_sub(length);
        let below = self.marks.last().copied().unwrap_or(0);
        let from = from
            .filter(|&from| from >= below)
            .ok_or_else(|| self.broken("a value is missing"))?;
        let cell = self.heap.make(Tag::Tuple, &self.stack[from..]);
        self.stack.truncate(from);
        self.stack.push(cell);
        Ok(())
    }

    /// Hands on what lies on the stack from `from` on if the list below is the one that is asked for, and
    /// appends it to that list if not.
    fn append<V>(&mut self, from: usize, visit: &mut V) -> Step<()>
    where
        V: FnMut(&Heap<'_>, Cell, usize) -> Result<(), String>,
    {
        let list = self.below(from)?;
        if self.list == Some(list) {
            for &cell in &self.stack[from..] {
                let what = visit(&self.heap, cell, self.at);
                what.map_err(|what| ElementsError::Element {
                    element: self.seen,
                    what,
                })?;
                self.seen += 1;
            }
            if !self.keep_all {
                self.heap.release();
            }
        } else if list.tag() != Tag::List || !self.heap.append(list, &self.stack[from..]) {
            return Err(self.broken("it appends to what is no list"));
        }
        self.stack.truncate(from);
        Ok(())
    }

    fn set_items(&mut self, from: usize) -> Step<()> {
        let dict = self.below(from)?;
        if !(self.stack.len() - from).is_multiple_of(2) {
            return Err(self.broken("a dict has a key without a value"));
        }
        if dict.tag() != Tag::Dict || !self.heap.append(dict, &self.stack[from..]) {
            return Err(self.broken("it sets items of what is no dict"));
        }
        self.stack.truncate(from);
        Ok(())
    }

    /// The value below place `from` of the stack.
    fn below(&self, from: usize) -> Step<Cell> {
        let least = self.marks.last().copied().unwrap_or(0);
        from.checked_sub(1)
            .filter(|&place| place >= least)
            .and_then(|place| self.stack.get(place))
            .copied()
            .ok_or_else(|| self.broken("a value is missing"))
    }

    fn remember(&mut self, index: usize) -> Step<()> {
        let cell = self.top()?;
        // Python numbers the memo from 0 up; a number beyond the file's length is no honest one.
        if index > self.heap.file.len() {
            return Err(self.broken("a memo number is out of range"));
        }
        if index >= self.memo.len() {
            self.memo.resize(index + 1, Cell::ABSENT);
        }
        self.memo[index] = cell;
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Step<()> {
        let cell = self.memo.get(index).copied();
        let cell = cell.filter(|&cell| cell != Cell::ABSENT);
        let cell = cell.ok_or_else(|| self.broken("it recalls what was not remembered"))?;
        if self.heap.is_gone(cell) {
            return Err(ElementsError::Forgotten);
        }
        self.stack.push(cell);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        match Known::of_numpy(module, name) {
            Some(known) => {
                self.stack.push(Cell::new(Tag::Known, known as usize));
                Ok(())
            }
            None => Err(PickleError::Refused {
                name: format!("{module}.{name}"),
                at: self.start,
                dialect: Dialect::Numpy,
            }
            .into()),
        }
    }

    /// Calls what was named; nothing is run but the arms below.
    fn call(&mut self) -> Step<()> {
        let arguments = self.pop()?;
        let function = self.pop()?;
        if arguments.tag() != Tag::Tuple {
            return Err(self.broken("a call has no arguments"));
        }
        let items = self.heap.elements(arguments).unwrap_or_default();
        let (first, second) = (items.first().copied(), items.get(1).copied());
        let known = Heap::known(function);
        let known = known.ok_or_else(|| self.broken("it calls what is no function"))?;
        let value = match (known, first, second) {
            (Known::Reconstruct | Known::NdArray, _, _) => self.heap.make(Tag::Array, &[]),
            (Known::Dtype, Some(name), _) if name.tag() == Tag::Text => {
                Cell::new(Tag::Dtype, name.payload())
            }
            (Known::Encode, Some(text), _) => self.encode(text)?,
            (Known::Scalar, Some(dtype), Some(data)) => self.scalar(dtype, data)?,
            _ => return Err(self.broken("a call has the wrong arguments")),
        };
        self.stack.push(value);
        Ok(())
    }

    /// Bytes that were written as text of the same code points (latin-1).
    fn encode(&mut self, text: Cell) -> Step<Cell> {
        let text = self.heap.text(text);
        let text = text.ok_or_else(|| self.broken("bytes are written as what is no text"))?;
        let bytes: Result<Vec<u8>, _> = text
            .chars()
            .map(|character| u8::try_from(u32::from(character)))
            .collect();
        let bytes = bytes.map_err(|_| self.broken("bytes are written as text beyond latin-1"))?;
        let cell = self.heap.own_bytes(bytes);
        cell.ok_or_else(|| self.broken("it repeats itself too often"))
    }

    /// numpy's scalars: whole numbers, floats and text.
    fn scalar(&mut self, dtype: Cell, data: Cell) -> Step<Cell> {
        const UNREAD: &str = "a numpy scalar is of a kind that is not read";
        if dtype.tag() != Tag::Dtype {
            return Err(self.broken(UNREAD));
        }
        let name = self.heap.raw(Cell::new(Tag::Text, dtype.payload()));
        let bytes = self.heap.bytes(data);
        let bytes = bytes.ok_or_else(|| self.broken(UNREAD))?;
        if let Some(characters) = name.strip_prefix(b"U") {
            let count = std::str::from_utf8(characters).ok();
            let count: Option<usize> = count.and_then(|count| count.parse().ok());
            let count = count.ok_or_else(|| self.broken(UNREAD))?;
            let text = fixed_text(&bytes[..bytes.len().min(count.saturating_mul(4))]);
            let cell = self.heap.own(text);
            return cell.ok_or_else(|| self.broken("it repeats itself too often"));
        }
        let value = match (name, bytes) {
            (b"i8" | b"u8", &[a, b, c, d, e, f, g, h]) => {
                i64::from_le_bytes([a, b, c, d, e, f, g, h])
            }
            (b"i4", &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]).into(),
            (b"u4", &[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]).into(),
            (b"i2", &[a, b]) => i16::from_le_bytes([a, b]).into(),
            (b"u2", &[a, b]) => u16::from_le_bytes([a, b]).into(),
            (b"b1", &[a]) => return Ok(Cell::new(Tag::Bool, usize::from(a != 0))),
            // No sample is told by a float: that there is one is enough.
            (b"f4" | b"f8", _) => return Ok(Cell::new(Tag::Float, self.start)),
            _ => return Err(self.broken(UNREAD)),
        };
        Ok(self.heap.integer(value))
    }

    /// Gives an object its state: (version, shape, dtype, Fortran order, elements) for an array;
    /// (version, byte order, ...) for a dtype, of which only big-endian matters: it is refused.
    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let object = self.top()?;
        let fields = self.heap.items(state).unwrap_or_default();
        match object.tag() {
            Tag::Dtype => {
                let big = fields
                    .get(1)
                    .is_some_and(|&order| self.heap.is_text(order, ">"));
                if big {
                    return Err(self.broken("numbers are big-endian, which is not read"));
                }
                Ok(())
            }
            Tag::Array => {
                let &[_, shape, _, _, list] = fields else {
                    return Err(self.broken("an array has no state"));
                };
                if list.tag() != Tag::List {
                    return Err(self.broken("an array is not of objects"));
                }
                let count = if self.list == Some(list) {
                    usize::try_from(self.seen).ok()
                } else {
                    self.heap.items(list).map(<[Cell]>::len)
                };
                let shape = self.heap.items(shape).unwrap_or_default();
                let &[side] = shape else {
                    return Err(self.broken("an array has not one axis"));
                };
                let side = self
                    .heap
                    .int(side)
                    .and_then(|side| usize::try_from(side).ok());
                if side.is_none() || side != count {
                    return Err(self.broken("an array's shape and its elements do not agree"));
                }
                self.heap.share(object, list);
                Ok(())
            }
            _ => Err(self.broken("it gives a state to what has none")),
        }
    }
}
