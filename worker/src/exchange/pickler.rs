//! Writes pickles of protocol 2 as torch.save does, which torch.load reads with `weights_only` too.

use std::collections::HashMap;

use tch::{Device, Kind, TchError, Tensor};

/// A Python value.
#[derive(Debug)]
pub(super) enum Py {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Py>),
    Tuple(Vec<Py>),
    Dict(Vec<(Py, Py)>),
    /// `collections.OrderedDict`.
    OrderedDict(Vec<(Py, Py)>),
    /// `argparse.Namespace`.
    Namespace(Vec<(Py, Py)>),
    Tensor(Tensor),
}

impl Py {
    /// A dict with text keys.
    pub(super) fn dict<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Py)>) -> Self {
        Self::Dict(keyed(pairs))
    }

    /// Tensors by name, as `state_dict()` gives them.
    pub(super) fn state_dict<'a>(pairs: impl IntoIterator<Item = (String, &'a Tensor)>) -> Self {
        let tensors = pairs
            .into_iter()
            .map(|(name, tensor)| (name, Self::Tensor(tensor.shallow_clone())));
        Self::OrderedDict(keyed(tensors))
    }

    /// A JSON value as the Python value of the same meaning.
    pub(super) fn from_json(value: &serde_json::Value) -> Self {
        use serde_json::Value as Json;

        match value {
            Json::Null => Self::None,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(value) => Self::Int(value),
                None => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::Text(text.clone()),
            Json::Array(items) => Self::List(items.iter().map(Self::from_json).collect()),
            Json::Object(map) => {
                Self::dict(map.iter().map(|(key, value)| (key, Self::from_json(value))))
            }
        }
    }
}

/// Pairs whose keys are text.
pub(super) fn keyed<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Py)>) -> Vec<(Py, Py)> {
    pairs
        .into_iter()
        .map(|(key, value)| (Py::Text(key.into()), value))
        .collect()
}

/// A pickle, and the storages that it refers to as `data/<index>`.
#[derive(Debug)]
pub(super) struct Pickled {
    pub(super) pickle: Vec<u8>,
    /// Contiguous, on the CPU.
    pub(super) storages: Vec<Tensor>,
}

/// Pickles a value.
///
/// # Errors
/// If a tensor cannot be brought to the CPU, or is of a type that torch.save has no storage for.
pub(super) fn pickle(value: &Py) -> Result<Pickled, TchError> {
    let mut pickler = Pickler::default();
    pickler.out.extend(b"\x80\x02");
    pickler.value(value)?;
    pickler.out.push(b'.');
    Ok(Pickled {
        pickle: pickler.out,
        storages: pickler.storages,
    })
}

#[derive(Default)]
struct Pickler {
    out: Vec<u8>,
    storages: Vec<Tensor>,
    /// Index of a storage by address, size and type: a tied tensor is written once.
    known: HashMap<(usize, usize, &'static str), usize>,
}

impl Pickler {
    fn value(&mut self, value: &Py) -> Result<(), TchError> {
        match value {
            Py::None => self.out.push(b'N'),
            Py::Bool(value) => self.out.push(if *value { 0x88 } else { 0x89 }),
            Py::Int(value) => self.int(*value),
            Py::Float(value) => {
                self.out.push(b'G');
                self.out.extend(value.to_be_bytes());
            }
            Py::Text(text) => self.text(text),
            Py::List(items) => {
                self.out.extend(b"](");
                items.iter().try_for_each(|item| self.value(item))?;
                self.out.push(b'e');
            }
            Py::Tuple(items) => {
                self.out.push(b'(');
                items.iter().try_for_each(|item| self.value(item))?;
                self.out.push(b't');
            }
            Py::Dict(pairs) => {
                self.out.push(b'}');
                self.pairs(pairs)?;
            }
            Py::OrderedDict(pairs) => {
                self.out.extend(b"ccollections\nOrderedDict\n)R");
                self.pairs(pairs)?;
            }
            Py::Namespace(pairs) => {
                self.out.extend(b"cargparse\nNamespace\n)\x81}");
                self.pairs(pairs)?;
                self.out.push(b'b');
            }
            Py::Tensor(tensor) => self.tensor(tensor)?,
        }
        Ok(())
    }

    fn pairs(&mut self, pairs: &[(Py, Py)]) -> Result<(), TchError> {
        self.out.push(b'(');
        for (key, value) in pairs {
            self.value(key)?;
            self.value(value)?;
        }
        self.out.push(b'u');
        Ok(())
    }

    fn int(&mut self, value: i64) {
        match (u8::try_from(value), i32::try_from(value)) {
            (Ok(byte), _) => self.out.extend([b'K', byte]),
            (_, Ok(value)) => {
                self.out.push(b'J');
                self.out.extend(value.to_le_bytes());
            }
            _ => {
                self.out.extend([0x8A, 8]);
                self.out.extend(value.to_le_bytes());
            }
        }
    }

    fn text(&mut self, text: &str) {
        // Names and values of a command line: far below the 4 GiB that the length has room for.
        self.out.push(b'X');
        self.out.extend((text.len() as u32).to_le_bytes());
        self.out.extend(text.as_bytes());
    }

    fn ints(&mut self, values: &[i64]) {
        self.out.push(b'(');
        values.iter().for_each(|&value| self.int(value));
        self.out.push(b't');
    }

    /// `torch._utils._rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())`.
    fn tensor(&mut self, tensor: &Tensor) -> Result<(), TchError> {
        let tensor = tensor
            .f_detach()?
            .f_to_device(Device::Cpu)?
            .f_contiguous()?;
        let kind = tensor.f_kind()?;
        let class = class_of(kind).ok_or_else(|| {
            TchError::Torch(format!(
                "tensors of type {kind:?} have no place in torch.save's format here"
            ))
        })?;
        let place = (tensor.data_ptr() as usize, tensor.numel(), class);
        // Tensors without elements may share an address by chance.
        let known = self.known.get(&place).filter(|_| tensor.numel() > 0);
        let index = match known {
            Some(&index) => index,
            None => {
                self.storages.push(tensor.shallow_clone());
                let index = self.storages.len() - 1;
                self.known.insert(place, index);
                index
            }
        };
        self.out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.out.extend(format!("ctorch\n{class}\n").as_bytes());
        self.text(&index.to_string());
        self.text("cpu");
        self.int(tensor.numel() as i64);
        self.out.extend(b"tQ");
        self.int(0);
        self.ints(&tensor.size());
        self.ints(&tensor.stride());
        self.out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        Ok(())
    }
}

fn class_of(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Float => "FloatStorage",
        Kind::Double => "DoubleStorage",
        Kind::Half => "HalfStorage",
        Kind::BFloat16 => "BFloat16Storage",
        Kind::Int64 => "LongStorage",
        Kind::Int => "IntStorage",
        Kind::Int16 => "ShortStorage",
        Kind::Int8 => "CharStorage",
        Kind::Uint8 => "ByteStorage",
        Kind::Bool => "BoolStorage",
        _ => return None,
    })
}
