//! The stack machine. The opcodes are those of Python's `pickletools`.

use std::ops::Range;

use super::refusal::opcode_name;
use super::{Dialect, Node, PickleError, Value};

/// The stack machine.
pub(super) struct Machine<'file> {
    pub(super) file: &'file [u8],
    pub(super) dialect: Dialect,
    at: usize,
    /// Offset of the current opcode, for messages.
    pub(super) start: usize,
    pub(super) nodes: Vec<Value>,
    stack: Vec<Node>,
    marks: Vec<usize>,
    memo: Vec<Option<Node>>,
    /// Bytes of text and bytes that lie nowhere in the file as they are.
    owned: usize,
}

/// Result of a step.
pub(super) type Step<T> = Result<T, PickleError>;

impl<'file> Machine<'file> {
    pub(super) fn new(file: &'file [u8], dialect: Dialect) -> Self {
        Self {
            file,
            dialect,
            at: 0,
            start: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            owned: 0,
        }
    }

    /// Runs to the end, and gives the value that was pickled.
    pub(super) fn run(&mut self) -> Step<Node> {
        loop {
            self.start = self.at;
            let opcode = self.byte()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Step<()> {
        match opcode {
            // Framing and protocol say nothing about values.
            0x80 => self.take(1).map(drop),
            0x95 => self.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_to_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let value = self.number::<4>()? as u32 as i32;
                self.push(Value::Int(value.into()))
            }
            b'K' => {
                let value = self.number::<1>()?;
                self.push(Value::Int(value as i64))
            }
            b'M' => {
                let value = self.number::<2>()?;
                self.push(Value::Int(value as i64))
            }
            0x8A => self.long(),
            b'G' => {
                let bytes: [u8; 8] = self.array()?;
                self.push(Value::Float(f64::from_be_bytes(bytes)))
            }
            b'X' => self.text::<4>(),
            0x8C => self.text::<1>(),
            0x8D => self.text::<8>(),
            b'B' | b'T' => self.bytes::<4>(),
            b'C' | b'U' => self.bytes::<1>(),
            0x8E | 0x96 => self.bytes::<8>(),
            b']' | b')' => self.push(Value::Sequence(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b'l' | b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Sequence(items))
            }
            0x85 => self.tuple(1),
            0x86 => self.tuple(2),
            0x87 => self.tuple(3),
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)
            }
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Dict(Vec::new()))?;
                self.set_items(&items)
            }
            b'q' => {
                let index = self.number::<1>()?;
                self.remember(index)
            }
            b'r' => {
                let index = self.number::<4>()?;
                self.remember(index)
            }
            0x94 => self.remember(self.memo.len() as u64),
            b'h' => {
                let index = self.number::<1>()?;
                self.recall(index)
            }
            b'j' => {
                let index = self.number::<4>()?;
                self.recall(index)
            }
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(&module, &name)
            }
            0x93 => {
                let name = self.pop_text()?;
                let module = self.pop_text()?;
                self.global(&module, &name)
            }
            b'R' | 0x81 => self.call(),
            b'b' => self.build(),
            b'Q' if self.dialect == Dialect::Torch => {
                let name = self.pop()?;
                self.push(Value::Persistent(name))
            }
            other => Err(PickleError::Opcode {
                name: opcode_name(other),
                at: self.start,
            }),
        }
    }

    /// Counts what is made out of the file, which may recall one text for many values: only a file that is made
    /// to do so comes to several times its own length.
    pub(super) fn charge(&mut self, bytes: usize) -> Step<()> {
        self.owned += bytes;
        if self.owned > self.file.len().saturating_mul(4) {
            return Err(self.broken("it repeats itself too often"));
        }
        Ok(())
    }

    pub(super) fn broken(&self, what: &'static str) -> PickleError {
        PickleError::Broken {
            what,
            at: self.start,
        }
    }

    fn take(&mut self, count: usize) -> Step<Range<usize>> {
        match self.at.checked_add(count) {
            Some(end) if end <= self.file.len() => {
                let range = self.at..end;
                self.at = end;
                Ok(range)
            }
            _ => Err(PickleError::Truncated { at: self.start }),
        }
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let range = self.take(N)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.file[range]);
        Ok(out)
    }

    fn byte(&mut self) -> Step<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A little-endian number of `N` bytes, at most 8.
    fn number<const N: usize>(&mut self) -> Step<u64> {
        let bytes: [u8; N] = self.array()?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |value, &byte| (value << 8) | u64::from(byte)))
    }

    fn length<const N: usize>(&mut self) -> Step<usize> {
        usize::try_from(self.number::<N>()?).map_err(|_| PickleError::Truncated { at: self.start })
    }

    fn line(&mut self) -> Step<String> {
        let rest = &self.file[self.at..];
        let end = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(PickleError::Truncated { at: self.start })?;
        let text = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.at += end + 1;
        Ok(text)
    }

    fn node(&mut self, value: Value) -> Step<Node> {
        let index =
            u32::try_from(self.nodes.len()).map_err(|_| self.broken("it holds too many values"))?;
        self.nodes.push(value);
        Ok(Node(index))
    }

    pub(super) fn push(&mut self, value: Value) -> Step<()> {
        let node = self.node(value)?;
        self.stack.push(node);
        Ok(())
    }

    pub(super) fn push_node(&mut self, node: Node) {
        self.stack.push(node);
    }

    pub(super) fn pop(&mut self) -> Step<Node> {
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

    pub(super) fn top(&self) -> Step<Node> {
        self.stack
            .last()
            .copied()
            .ok_or_else(|| self.broken("a value is missing"))
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Node>> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| self.broken("a mark is missing"))?;
        if mark > self.stack.len() {
            return Err(self.broken("a mark is missing"));
        }
        Ok(self.stack.split_off(mark))
    }

    fn pop_text(&mut self) -> Step<String> {
        let node = self.pop()?;
        match &self.nodes[node.0 as usize] {
            Value::Text(range) => Ok(String::from_utf8_lossy(&self.file[range.clone()]).into()),
            Value::OwnedText(text) => Ok(text.clone()),
            _ => Err(self.broken("a name is no text")),
        }
    }

    fn text<const N: usize>(&mut self) -> Step<()> {
        let length = self.length::<N>()?;
        let range = self.take(length)?;
        let bytes = &self.file[range.clone()];
        if std::str::from_utf8(bytes).is_ok() {
            self.push(Value::Text(range))
        } else {
            // Python may write lone surrogates, which are no text elsewhere.
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.push(Value::OwnedText(text))
        }
    }

    fn bytes<const N: usize>(&mut self) -> Step<()> {
        let length = self.length::<N>()?;
        let range = self.take(length)?;
        self.push(Value::Bytes(range))
    }

    fn long(&mut self) -> Step<()> {
        let length = self.length::<1>()?;
        let range = self.take(length)?;
        let bytes = &self.file[range];
        if bytes.len() > 8 {
            return Err(self.broken("an integer has more than 64 bits"));
        }
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut wide = if negative { [0xFF; 8] } else { [0; 8] };
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn tuple(&mut self, length: usize) -> Step<()> {
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Sequence(items))
    }

    fn append(&mut self, items: Vec<Node>) -> Step<()> {
        let list = self.top()?;
        match &mut self.nodes[list.0 as usize] {
            Value::Sequence(list) => {
                list.extend(items);
                Ok(())
            }
            _ => Err(self.broken("it appends to what is no list")),
        }
    }

    fn set_items(&mut self, items: &[Node]) -> Step<()> {
        if !items.len().is_multiple_of(2) {
            return Err(self.broken("a dict has a key without a value"));
        }
        let dict = self.top()?;
        match &mut self.nodes[dict.0 as usize] {
            Value::Dict(dict) => {
                dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => Err(self.broken("it sets items of what is no dict")),
        }
    }

    fn remember(&mut self, index: u64) -> Step<()> {
        let node = self.top()?;
        // Python numbers the memo from 0 up; a number beyond the file's length is no honest one.
        let index = usize::try_from(index)
            .ok()
            .filter(|&index| index <= self.file.len())
            .ok_or_else(|| self.broken("a memo number is out of range"))?;
        if index >= self.memo.len() {
            self.memo.resize(index + 1, None);
        }
        self.memo[index] = Some(node);
        Ok(())
    }

    fn recall(&mut self, index: u64) -> Step<()> {
        let node = usize::try_from(index)
            .ok()
            .and_then(|index| self.memo.get(index).copied().flatten())
            .ok_or_else(|| self.broken("it recalls what was not remembered"))?;
        self.stack.push(node);
        Ok(())
    }
}
