//! Records of a torch.save file as tensors. A storage is read once, however many tensors show parts of it.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::archive::Archive;
use super::{Result, refuse};
use crate::data::pickle::{Node, Pickle, Storage, Value};

/// Elements that a tensor may have beyond those of its storage, by strides of 0.
const MOST_REPEATED: i64 = 1 << 20;

/// The storages of a file, read on demand.
#[derive(Debug)]
pub(super) struct Storages<'a> {
    archive: &'a Archive,
    /// As bytes: one storage may be seen as several types.
    read: HashMap<String, Tensor>,
}

/// Fields of `_rebuild_tensor_v2`, checked.
struct Place<'p> {
    key: &'p str,
    kind: Kind,
    numel: i64,
    offset: i64,
    size: Vec<i64>,
    stride: Vec<i64>,
}

impl<'a> Storages<'a> {
    pub(super) fn new(archive: &'a Archive) -> Self {
        Self {
            archive,
            read: HashMap::new(),
        }
    }

    /// The tensor of a node.
    ///
    /// # Errors
    /// If the node is no tensor, leaves its storage, or its record is absent or damaged.
    pub(super) fn tensor(&mut self, pickle: &Pickle<'_>, node: Node, name: &str) -> Result<Tensor> {
        let wrong = |what: &str| {
            refuse(
                self.archive.path(),
                format!("has a broken '{name}': {what}"),
            )
        };
        let place = place(pickle, node).map_err(&wrong)?;
        let element = place.kind.elt_size_in_bytes() as i64;
        let record = format!("data/{}", place.key);
        let bytes = place.numel.checked_mul(element);
        let size = self
            .archive
            .size(&record)
            .ok_or_else(|| wrong(&format!("the file has no record '{record}'")))?;
        if bytes.and_then(|bytes| u64::try_from(bytes).ok()) != Some(size) {
            return Err(wrong(&format!(
                "its storage should have {} elements of {element} bytes, but '{record}' has {size} bytes",
                place.numel
            )));
        }
        place.check().map_err(&wrong)?;
        let failed = |error: tch::TchError| wrong(&error.to_string());
        let storage = match self.read.get(place.key) {
            Some(storage) => storage.shallow_clone(),
            None => {
                let storage = Tensor::f_empty([bytes.unwrap_or(0)], (Kind::Uint8, Device::Cpu))
                    .map_err(failed)?;
                if size > 0 {
                    // SAFETY: a fresh contiguous tensor of as many bytes, which nobody else holds.
                    let into = unsafe {
                        std::slice::from_raw_parts_mut(
                            storage.data_ptr().cast::<u8>(),
                            storage.numel(),
                        )
                    };
                    self.archive.read(&record, into)?;
                }
                self.read
                    .insert(place.key.to_owned(), storage.shallow_clone());
                storage
            }
        };
        storage
            .f_view_dtype(place.kind)
            .and_then(|flat| flat.f_as_strided(&place.size, &place.stride, place.offset))
            .map_err(failed)
    }
}

impl Place<'_> {
    /// Whether every element lies in the storage.
    fn check(&self) -> Result<(), &'static str> {
        const OUT: &str = "it reaches beyond its storage";
        let mut last = self.offset;
        let mut count: i64 = 1;
        for (&side, &stride) in self.size.iter().zip(&self.stride) {
            if side < 0 || stride < 0 {
                return Err("a size or a stride is negative");
            }
            count = count.checked_mul(side).ok_or(OUT)?;
            let reach = (side - 1).max(0).checked_mul(stride).ok_or(OUT)?;
            last = last.checked_add(reach).ok_or(OUT)?;
        }
        if self.offset < 0 || self.size.len() != self.stride.len() {
            return Err("its size, stride and offset do not agree");
        }
        if count > 0 && last >= self.numel {
            return Err(OUT);
        }
        if count > self.numel.max(MOST_REPEATED) {
            return Err("it repeats its storage too often");
        }
        Ok(())
    }
}

/// What `_rebuild_tensor_v2` was given: storage, offset, size, stride, and more that does not matter.
fn place<'p>(pickle: &'p Pickle<'_>, node: Node) -> Result<Place<'p>, &'static str> {
    let &Value::Tensor(arguments) = pickle.value(node) else {
        return Err("it is no tensor");
    };
    let Some(&[storage, offset, size, stride, ..]) = pickle.items(arguments) else {
        return Err("arguments are missing");
    };
    let &Value::Persistent(id) = pickle.value(storage) else {
        return Err("its storage is none");
    };
    let Some(&[tag, kind, key, _device, numel]) = pickle.items(id) else {
        return Err("its storage is none");
    };
    let (Some("storage"), &Value::Storage(kind), Some(key), &Value::Int(numel)) = (
        pickle.text(tag),
        pickle.value(kind),
        pickle.text(key),
        pickle.value(numel),
    ) else {
        return Err("its storage is none");
    };
    let integer = |node: Node| match *pickle.value(node) {
        Value::Int(value) => Some(value),
        _ => None,
    };
    let integers = |node: Node| -> Option<Vec<i64>> {
        // torch allows 64 axes.
        let items = pickle.items(node).filter(|items| items.len() <= 64)?;
        items.iter().map(|&item| integer(item)).collect()
    };
    match (integer(offset), integers(size), integers(stride)) {
        (Some(offset), Some(size), Some(stride)) => Ok(Place {
            key,
            kind: kind_of(kind),
            numel,
            offset,
            size,
            stride,
        }),
        _ => Err("its size, stride or offset is no number"),
    }
}

fn kind_of(storage: Storage) -> Kind {
    match storage {
        Storage::Float => Kind::Float,
        Storage::Double => Kind::Double,
        Storage::Half => Kind::Half,
        Storage::BFloat16 => Kind::BFloat16,
        Storage::Long => Kind::Int64,
        Storage::Int => Kind::Int,
        Storage::Short => Kind::Int16,
        Storage::Char => Kind::Int8,
        Storage::Byte => Kind::Uint8,
        Storage::Bool => Kind::Bool,
    }
}
