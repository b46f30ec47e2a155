//! A bounded reader of Python pickles: values only, no code. It knows what numpy writes for an
//! array of objects (protocols 2 to 5) and plain Python values; any other class or function is
//! refused by name. Nodes live in an arena and are shared, not copied, so memory grows with the file's
//! length whatever it says.
//!
//! The opcodes are those of Python's `pickletools`.

mod refusal;

use std::ops::Range;

pub use refusal::PickleError;
use refusal::opcode_name;

/// A node in a [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node(u32);

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` and `False`.
    Bool(bool),
    /// An integer of up to 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text: a place in the file.
    Text(Range<usize>),
    /// Text that had to be converted.
    OwnedText(String),
    /// Bytes: a place in the file.
    Bytes(Range<usize>),
    /// Bytes that were written as text (protocol 2).
    OwnedBytes(Vec<u8>),
    /// A list or a tuple.
    Sequence(Vec<Node>),
    /// A dict, in the order of writing.
    Dict(Vec<(Node, Node)>),
    /// A numpy dtype, by its name (`O8`, `<i8`).
    Dtype(Node),
    /// A numpy array: shape and its elements, once its state is known.
    Array {
        /// Length of each axis.
        shape: Vec<usize>,
        /// The elements in C order.
        items: Vec<Node>,
    },
    /// A class or function that is known and may be called.
    Known(Known),
}

/// The only names that are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// `numpy.core.multiarray._reconstruct`.
    Reconstruct,
    /// `numpy.ndarray`.
    NdArray,
    /// `numpy.dtype`.
    Dtype,
    /// `numpy.core.multiarray.scalar`.
    Scalar,
    /// `_codecs.encode`, how protocol 2 writes bytes.
    Encode,
}

/// A pickle that was read.
#[derive(Debug)]
pub struct Pickle<'file> {
    file: &'file [u8],
    nodes: Vec<Value>,
    root: Node,
}

impl<'file> Pickle<'file> {
    /// Reads the first pickle in `file`.
    ///
    /// # Errors
    /// [`PickleError`].
    pub fn read(file: &'file [u8]) -> Result<Self, PickleError> {
        let mut machine = Machine::new(file);
        let root = machine.run()?;
        Ok(Self {
            file,
            nodes: machine.nodes,
            root,
        })
    }

    /// The value that was pickled.
    #[must_use]
    pub fn root(&self) -> Node {
        self.root
    }

    /// What a node is.
    #[must_use]
    pub fn value(&self, node: Node) -> &Value {
        &self.nodes[node.0 as usize]
    }

    /// Text of a node, if it is text.
    #[must_use]
    pub fn text(&self, node: Node) -> Option<&str> {
        match self.value(node) {
            Value::Text(range) => std::str::from_utf8(&self.file[range.clone()]).ok(),
            Value::OwnedText(text) => Some(text),
            _ => None,
        }
    }

    /// Elements of a list, a tuple or an array of one axis.
    #[must_use]
    pub fn items(&self, node: Node) -> Option<&[Node]> {
        match self.value(node) {
            Value::Sequence(items) => Some(items),
            Value::Array { shape, items } if shape.len() == 1 => Some(items),
            _ => None,
        }
    }

    /// The value of a key of a dict; the last one, if it was written twice.
    #[must_use]
    pub fn get(&self, dict: Node, key: &str) -> Option<Node> {
        match self.value(dict) {
            Value::Dict(pairs) => pairs
                .iter()
                .rev()
                .find(|&&(name, _)| self.text(name) == Some(key))
                .map(|&(_, value)| value),
            _ => None,
        }
    }
}

/// The stack machine.
struct Machine<'file> {
    file: &'file [u8],
    at: usize,
    /// Offset of the current opcode, for messages.
    start: usize,
    nodes: Vec<Value>,
    stack: Vec<Node>,
    marks: Vec<usize>,
    memo: Vec<Option<Node>>,
}

type Step<T> = Result<T, PickleError>;

impl<'file> Machine<'file> {
    fn new(file: &'file [u8]) -> Self {
        Self {
            file,
            at: 0,
            start: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
        }
    }

    fn run(&mut self) -> Step<Node> {
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
            other => Err(PickleError::Opcode {
                name: opcode_name(other),
                at: self.start,
            }),
        }
    }

    fn broken(&self, what: &'static str) -> PickleError {
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

    fn push(&mut self, value: Value) -> Step<()> {
        let node = self.node(value)?;
        self.stack.push(node);
        Ok(())
    }

    fn pop(&mut self) -> Step<Node> {
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

    fn top(&self) -> Step<Node> {
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

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        let known = match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
                Known::Reconstruct
            }
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Known::Scalar,
            ("numpy", "ndarray") => Known::NdArray,
            ("numpy", "dtype") => Known::Dtype,
            ("_codecs", "encode") => Known::Encode,
            _ => {
                return Err(PickleError::Refused {
                    name: format!("{module}.{name}"),
                    at: self.start,
                });
            }
        };
        self.push(Value::Known(known))
    }

    fn call(&mut self) -> Step<()> {
        let arguments = self.pop()?;
        let function = self.pop()?;
        // Not cloned: a long tuple may be recalled for many calls.
        let (first, second) = match &self.nodes[arguments.0 as usize] {
            Value::Sequence(items) => (items.first().copied(), items.get(1).copied()),
            _ => return Err(self.broken("a call has no arguments")),
        };
        let Value::Known(known) = self.nodes[function.0 as usize] else {
            return Err(self.broken("it calls what is no function"));
        };
        let value = match (known, first, second) {
            (Known::Reconstruct | Known::NdArray, _, _) => Value::Array {
                shape: Vec::new(),
                items: Vec::new(),
            },
            (Known::Dtype, Some(name), _) => Value::Dtype(name),
            (Known::Encode, Some(text), _) => self.encode(text)?,
            (Known::Scalar, Some(dtype), Some(data)) => self.scalar(dtype, data)?,
            _ => return Err(self.broken("a call has the wrong arguments")),
        };
        self.push(value)
    }

    /// Bytes that were written as text of the same code points (latin-1).
    fn encode(&self, text: Node) -> Step<Value> {
        let text = match &self.nodes[text.0 as usize] {
            Value::Text(range) => std::str::from_utf8(&self.file[range.clone()]).unwrap_or(""),
            _ => return Err(self.broken("bytes are written as what is no text")),
        };
        text.chars()
            .map(|character| u8::try_from(u32::from(character)))
            .collect::<Result<_, _>>()
            .map(Value::OwnedBytes)
            .map_err(|_| self.broken("bytes are written as text beyond latin-1"))
    }

    /// numpy's scalars: integers, floats and text.
    fn scalar(&self, dtype: Node, data: Node) -> Step<Value> {
        let unread = || self.broken("a numpy scalar is of a kind that is not read");
        let Value::Dtype(name) = self.nodes[dtype.0 as usize] else {
            return Err(unread());
        };
        let name = match &self.nodes[name.0 as usize] {
            Value::Text(range) => std::str::from_utf8(&self.file[range.clone()]).unwrap_or(""),
            _ => "",
        };
        let bytes = match &self.nodes[data.0 as usize] {
            Value::Bytes(range) => &self.file[range.clone()],
            Value::OwnedBytes(bytes) => bytes,
            _ => return Err(unread()),
        };
        if let Some(characters) = name.strip_prefix('U') {
            let count: usize = characters.parse().map_err(|_| unread())?;
            let text: String = bytes
                .chunks_exact(4)
                .take(count)
                .map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]))
                .take_while(|&code| code != 0)
                .map(|code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect();
            return Ok(Value::OwnedText(text));
        }
        match (name, bytes) {
            ("i8" | "u8", &[a, b, c, d, e, f, g, h]) => {
                Ok(Value::Int(i64::from_le_bytes([a, b, c, d, e, f, g, h])))
            }
            ("i4", &[a, b, c, d]) => Ok(Value::Int(i32::from_le_bytes([a, b, c, d]).into())),
            ("u4", &[a, b, c, d]) => Ok(Value::Int(u32::from_le_bytes([a, b, c, d]).into())),
            ("f8", &[a, b, c, d, e, f, g, h]) => {
                Ok(Value::Float(f64::from_le_bytes([a, b, c, d, e, f, g, h])))
            }
            _ => Err(unread()),
        }
    }

    /// Gives an object its state: (version, shape, dtype, Fortran order, elements) for an array;
    /// (version, byte order, ...) for a dtype, of which only big-endian matters: it is refused.
    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let object = self.top()?;
        match &self.nodes[object.0 as usize] {
            Value::Dtype(_) => return self.check_byte_order(state),
            Value::Array { .. } => {}
            _ => return Err(self.broken("it gives a state to what has none")),
        }
        let fields = match &self.nodes[state.0 as usize] {
            Value::Sequence(fields) if fields.len() == 5 => fields.clone(),
            _ => return Err(self.broken("an array has no state")),
        };
        let shape = match &self.nodes[fields[1].0 as usize] {
            // numpy allows 64 axes.
            Value::Sequence(shape) if shape.len() <= 64 => shape.clone(),
            _ => return Err(self.broken("an array has no shape")),
        };
        let mut sides = Vec::with_capacity(shape.len());
        for side in shape {
            match self.nodes[side.0 as usize] {
                Value::Int(side) if side >= 0 => sides.push(side as usize),
                _ => return Err(self.broken("an array's shape is no shape")),
            }
        }
        let Value::Sequence(items) = &self.nodes[fields[4].0 as usize] else {
            return Err(self.broken("an array is not of objects"));
        };
        let count = sides
            .iter()
            .try_fold(1usize, |all, &side| all.checked_mul(side));
        if count != Some(items.len()) {
            return Err(self.broken("an array's shape and its elements do not agree"));
        }
        // Moved, not copied: the state is of no further use.
        let Value::Sequence(items) = std::mem::replace(
            &mut self.nodes[fields[4].0 as usize],
            Value::Sequence(Vec::new()),
        ) else {
            return Err(self.broken("an array is not of objects"));
        };
        self.nodes[object.0 as usize] = Value::Array {
            shape: sides,
            items,
        };
        Ok(())
    }
}

impl Machine<'_> {
    fn check_byte_order(&self, state: Node) -> Step<()> {
        let order = match &self.nodes[state.0 as usize] {
            Value::Sequence(fields) => fields.get(1).map(|order| &self.nodes[order.0 as usize]),
            _ => None,
        };
        match order {
            Some(Value::Text(range)) if &self.file[range.clone()] == b">" => {
                Err(self.broken("numbers are big-endian, which is not read"))
            }
            _ => Ok(()),
        }
    }
}
