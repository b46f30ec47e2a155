//! A bounded reader of Python pickles: values only, no code. It knows plain Python values and what the
//! asked [`Dialect`] adds (protocols 2 to 5); any other class or function is refused by name. Nodes live in an arena and are shared, not copied, so memory grows with the file's
//! length whatever it says.
//!
//! The opcodes are those of Python's `pickletools`.

mod calls;
mod cells;
mod machine;
mod refusal;
mod stream;

use std::ops::Range;

pub use calls::{Known, Storage};
pub use cells::{Cell, Heap};
use machine::Machine;
pub use refusal::PickleError;
pub use stream::{Elements, ElementsError};

/// Whose classes a pickle may name, besides plain values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// numpy's arrays and scalars.
    Numpy,
    /// Those, and what torch.save writes: tensors, ordered dicts, and the arguments of a command line
    /// (`argparse.Namespace`).
    Torch,
}

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
    /// A numpy array of numbers.
    Numbers {
        /// Length of each axis.
        shape: Vec<usize>,
        /// Its dtype.
        dtype: Node,
        /// Its bytes, in C order.
        data: Node,
    },
    /// What the file says lies elsewhere: the name of a torch storage, say.
    Persistent(Node),
    /// A type of torch storage.
    Storage(Storage),
    /// A torch tensor: the arguments from which it is to be rebuilt (`_rebuild_tensor_v2`).
    Tensor(Node),
    /// An `argparse.Namespace`, its attributes in the order of writing.
    Namespace(Vec<(Node, Node)>),
    /// A class or function that is known and may be called.
    Known(Known),
}

/// A pickle that was read.
#[derive(Debug)]
pub struct Pickle<'file> {
    file: &'file [u8],
    nodes: Vec<Value>,
    root: Node,
}

impl<'file> Pickle<'file> {
    /// Reads the first pickle in `file`, in numpy's dialect.
    ///
    /// # Errors
    /// [`PickleError`].
    pub fn read(file: &'file [u8]) -> Result<Self, PickleError> {
        Self::read_as(file, Dialect::Numpy)
    }

    /// Reads the first pickle in `file`.
    ///
    /// # Errors
    /// [`PickleError`].
    pub fn read_as(file: &'file [u8], dialect: Dialect) -> Result<Self, PickleError> {
        let mut machine = Machine::new(file, dialect);
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

    /// Bytes of a node, if it is bytes or text; Python 2 wrote no difference between them.
    #[must_use]
    pub fn bytes(&self, node: Node) -> Option<&[u8]> {
        match self.value(node) {
            Value::Text(range) | Value::Bytes(range) => Some(&self.file[range.clone()]),
            Value::OwnedText(text) => Some(text.as_bytes()),
            Value::OwnedBytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Shape, dtype (`u1`, `i8`) and bytes of an array of numbers.
    #[must_use]
    pub fn numbers(&self, node: Node) -> Option<(&[usize], &[u8], &[u8])> {
        let Value::Numbers { shape, dtype, data } = self.value(node) else {
            return None;
        };
        let &Value::Dtype(name) = self.value(*dtype) else {
            return None;
        };
        Some((shape, self.bytes(name)?, self.bytes(*data)?))
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

    /// Keys and values of a dict, or names and values of a namespace, in the order of writing.
    #[must_use]
    pub fn pairs(&self, node: Node) -> Option<&[(Node, Node)]> {
        match self.value(node) {
            Value::Dict(pairs) | Value::Namespace(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The value of a key of a dict or namespace; the last one, if it was written twice.
    #[must_use]
    pub fn get(&self, dict: Node, key: &str) -> Option<Node> {
        self.pairs(dict)?
            .iter()
            .rev()
            .find(|&&(name, _)| self.text(name) == Some(key))
            .map(|&(_, value)| value)
    }
}
