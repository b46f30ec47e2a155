//! Long lists in JSON, one element after the other.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Part;
use super::SourceError;
use super::watch::Reads;
use crate::data::mapped::Mapped;

/// Hands every element of a list to `each`: the file's only value, or the value of `key`.
///
/// # Errors
/// If the file cannot be read or is no such list; what `each` says is given a place in the file.
pub(super) fn each<T, F>(
    part: &Part,
    key: &'static str,
    reads: &Reads,
    mut each: F,
) -> Result<(), SourceError>
where
    T: for<'de> Deserialize<'de>,
    F: FnMut(T) -> Result<(), String>,
{
    let reading = reads.begin(&part.list);
    let file = Mapped::open(&part.list).map_err(|cause| SourceError::Unreadable {
        file: part.list.clone(),
        cause,
    })?;
    let mut deserializer = serde_json::Deserializer::from_slice(&file);
    let mut count = 0_u64;
    let each = RefCell::new(|element: T| {
        count += 1;
        if count.is_multiple_of(1 << 14) {
            reading.moved();
        }
        each(element)
    });
    let top = Top {
        key,
        each: &each,
        element: PhantomData::<T>,
    };
    deserializer
        .deserialize_any(top)
        .and_then(|()| deserializer.end())
        .map_err(|error| SourceError::Json {
            file: part.list.clone(),
            what: error.to_string(),
        })
}

struct Top<'a, T, F> {
    key: &'static str,
    each: &'a RefCell<F>,
    element: PhantomData<T>,
}

impl<'de, T, F> Visitor<'de> for Top<'_, T, F>
where
    T: Deserialize<'de>,
    F: FnMut(T) -> Result<(), String>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list, or an object with the list '{}'", self.key)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            (self.each.borrow_mut())(element).map_err(A::Error::custom)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.key {
                found = true;
                map.next_value_seed(List(Top {
                    key: self.key,
                    each: self.each,
                    element: PhantomData,
                }))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found {
            Ok(())
        } else {
            Err(A::Error::custom(format!("it has no list '{}'", self.key)))
        }
    }
}

struct List<'a, T, F>(Top<'a, T, F>);

impl<'de, T, F> DeserializeSeed<'de> for List<'_, T, F>
where
    T: Deserialize<'de>,
    F: FnMut(T) -> Result<(), String>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self.0)
    }
}
