//! What a pickle may name and call, and what comes of it.

use super::machine::{Machine, Step};
use super::{Dialect, Node, PickleError, Value};
use crate::data::npy::fixed_text;

/// Types of torch's storages that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// float32.
    Float,
    /// float64.
    Double,
    /// float16.
    Half,
    /// bfloat16.
    BFloat16,
    /// int64.
    Long,
    /// int32.
    Int,
    /// int16.
    Short,
    /// int8.
    Char,
    /// uint8.
    Byte,
    /// bool.
    Bool,
}

const STORAGES: [(&str, Storage); 10] = [
    ("FloatStorage", Storage::Float),
    ("DoubleStorage", Storage::Double),
    ("HalfStorage", Storage::Half),
    ("BFloat16Storage", Storage::BFloat16),
    ("LongStorage", Storage::Long),
    ("IntStorage", Storage::Int),
    ("ShortStorage", Storage::Short),
    ("CharStorage", Storage::Char),
    ("ByteStorage", Storage::Byte),
    ("BoolStorage", Storage::Bool),
];

/// The only names that are resolved, the types of storages apart.
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
    /// `torch._utils._rebuild_tensor_v2`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// `torch.Size`, `torch.device`: their arguments are all there is to them.
    Arguments,
    /// `dict`, as the factory of a defaultdict or by itself; `collections.OrderedDict`.
    Dict,
    /// `collections.defaultdict`.
    DefaultDict,
    /// What else a defaultdict makes new values with; it is never called.
    Factory,
    /// `argparse.Namespace`.
    Namespace,
}

impl Known {
    /// Each at the place of its number.
    pub(super) const ALL: [Self; 12] = [
        Self::Reconstruct,
        Self::NdArray,
        Self::Dtype,
        Self::Scalar,
        Self::Encode,
        Self::RebuildTensor,
        Self::RebuildParameter,
        Self::Arguments,
        Self::Dict,
        Self::DefaultDict,
        Self::Factory,
        Self::Namespace,
    ];

    pub(super) fn of_numpy(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
                Self::Reconstruct
            }
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::Scalar,
            ("numpy", "ndarray") => Self::NdArray,
            ("numpy", "dtype") => Self::Dtype,
            ("_codecs", "encode") => Self::Encode,
            _ => return None,
        })
    }

    fn of_torch(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "Size" | "device") => Self::Arguments,
            ("collections", "OrderedDict") | ("builtins" | "__builtin__", "dict") => Self::Dict,
            ("collections", "defaultdict") => Self::DefaultDict,
            ("builtins" | "__builtin__", "list" | "int" | "float") => Self::Factory,
            ("argparse", "Namespace") => Self::Namespace,
            _ => return None,
        })
    }
}

impl Machine<'_> {
    /// Resolves a name.
    pub(super) fn global(&mut self, module: &str, name: &str) -> Step<()> {
        let torch = self.dialect == Dialect::Torch;
        let storage = (torch && module == "torch")
            .then(|| STORAGES.iter().find(|(known, _)| *known == name))
            .flatten();
        if let Some(&(_, storage)) = storage {
            return self.push(Value::Storage(storage));
        }
        let known = Known::of_numpy(module, name)
            .or_else(|| torch.then(|| Known::of_torch(module, name)).flatten());
        match known {
            Some(known) => self.push(Value::Known(known)),
            None => Err(PickleError::Refused {
                name: format!("{module}.{name}"),
                at: self.start,
                dialect: self.dialect,
            }),
        }
    }

    /// Calls what was resolved; nothing is run but the arms below.
    pub(super) fn call(&mut self) -> Step<()> {
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
            (Known::RebuildTensor, Some(_), Some(_)) => Value::Tensor(arguments),
            // A parameter is its tensor.
            (Known::RebuildParameter, Some(tensor), _) => {
                self.push_node(tensor);
                return Ok(());
            }
            (Known::Arguments, _, _) => {
                self.push_node(arguments);
                return Ok(());
            }
            // Filled by SETITEMS; torch writes no ordered dict from a list of pairs.
            (Known::Dict, None, _) | (Known::DefaultDict, _, None) => Value::Dict(Vec::new()),
            (Known::Namespace, None, _) => Value::Namespace(Vec::new()),
            _ => return Err(self.broken("a call has the wrong arguments")),
        };
        self.push(value)
    }

    /// Bytes that were written as text of the same code points (latin-1).
    fn encode(&mut self, text: Node) -> Step<Value> {
        let text = match &self.nodes[text.0 as usize] {
            Value::Text(range) => std::str::from_utf8(&self.file[range.clone()]).unwrap_or(""),
            _ => return Err(self.broken("bytes are written as what is no text")),
        };
        let bytes: Vec<u8> = text
            .chars()
            .map(|character| u8::try_from(u32::from(character)))
            .collect::<Result<_, _>>()
            .map_err(|_| self.broken("bytes are written as text beyond latin-1"))?;
        self.charge(bytes.len())?;
        Ok(Value::OwnedBytes(bytes))
    }

    /// numpy's scalars: integers, floats and text.
    fn scalar(&mut self, dtype: Node, data: Node) -> Step<Value> {
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
            let text = fixed_text(&bytes[..bytes.len().min(count.saturating_mul(4))]);
            self.charge(text.len())?;
            return Ok(Value::OwnedText(text));
        }
        match (name, bytes) {
            ("i8" | "u8", &[a, b, c, d, e, f, g, h]) => {
                Ok(Value::Int(i64::from_le_bytes([a, b, c, d, e, f, g, h])))
            }
            ("i4", &[a, b, c, d]) => Ok(Value::Int(i32::from_le_bytes([a, b, c, d]).into())),
            ("u4", &[a, b, c, d]) => Ok(Value::Int(u32::from_le_bytes([a, b, c, d]).into())),
            ("b1", &[a]) => Ok(Value::Bool(a != 0)),
            ("f4", &[a, b, c, d]) => Ok(Value::Float(f32::from_le_bytes([a, b, c, d]).into())),
            ("f8", &[a, b, c, d, e, f, g, h]) => {
                Ok(Value::Float(f64::from_le_bytes([a, b, c, d, e, f, g, h])))
            }
            _ => Err(unread()),
        }
    }

    /// Gives an object its state: (version, shape, dtype, Fortran order, elements) for an array;
    /// (version, byte order, ...) for a dtype, of which only big-endian matters: it is refused.
    pub(super) fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let object = self.top()?;
        match &self.nodes[object.0 as usize] {
            Value::Dtype(_) => return self.check_byte_order(state),
            // Attributes of an ordered dict: torch's notes on the versions of modules.
            Value::Dict(_) if self.dialect == Dialect::Torch => return Ok(()),
            Value::Namespace(_) => return self.fill_namespace(object, state),
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
        if let Value::Bytes(_) | Value::OwnedBytes(_) = &self.nodes[fields[4].0 as usize] {
            return self.fill_numbers(object, sides, &fields);
        }
        let Value::Sequence(items) = &self.nodes[fields[4].0 as usize] else {
            return Err(self.broken("an array is neither of objects nor of bytes"));
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

    /// An array of numbers stays in its bytes, whose length must be that of its shape.
    fn fill_numbers(&mut self, array: Node, shape: Vec<usize>, fields: &[Node]) -> Step<()> {
        if self.nodes[fields[3].0 as usize] != Value::Bool(false) {
            return Err(self.broken("an array is not in C order"));
        }
        let (dtype, data) = (fields[2], fields[4]);
        let text = |node: Node| match &self.nodes[node.0 as usize] {
            Value::Text(range) | Value::Bytes(range) => &self.file[range.clone()],
            Value::OwnedText(text) => text.as_bytes(),
            Value::OwnedBytes(bytes) => bytes,
            _ => &[],
        };
        let size = match self.nodes[dtype.0 as usize] {
            // `u1`, `i8`, `f4`: the kind, and the bytes of one.
            Value::Dtype(name) => match text(name) {
                &[b'u' | b'i' | b'f' | b'b', digit @ b'1'..=b'8'] => usize::from(digit - b'0'),
                _ => return Err(self.broken("an array's numbers are of a kind that is not read")),
            },
            _ => return Err(self.broken("an array has no dtype")),
        };
        let length = shape
            .iter()
            .try_fold(size, |all, &side| all.checked_mul(side));
        if length != Some(text(data).len()) {
            return Err(self.broken("an array's shape and its bytes do not agree"));
        }
        self.nodes[array.0 as usize] = Value::Numbers { shape, dtype, data };
        Ok(())
    }

    fn fill_namespace(&mut self, object: Node, state: Node) -> Step<()> {
        // Moved, not copied, so that no pickle can make many out of one.
        let state = &mut self.nodes[state.0 as usize];
        if !matches!(state, Value::Dict(_)) {
            return Err(self.broken("a namespace has no attributes"));
        }
        if let Value::Dict(pairs) = std::mem::replace(state, Value::None) {
            self.nodes[object.0 as usize] = Value::Namespace(pairs);
        }
        Ok(())
    }

    fn check_byte_order(&self, state: Node) -> Step<()> {
        let order = match &self.nodes[state.0 as usize] {
            Value::Sequence(fields) => fields.get(1).map(|order| &self.nodes[order.0 as usize]),
            _ => None,
        };
        match order {
            Some(Value::Text(range) | Value::Bytes(range)) if &self.file[range.clone()] == b">" => {
                Err(self.broken("numbers are big-endian, which is not read"))
            }
            _ => Ok(()),
        }
    }
}
