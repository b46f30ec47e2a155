//! Reads a [`Node`] into any serde type, with errors that people understand. The structs stay the
//! only description of what may be written: their names, types and choices come from here.

use std::fmt::Display;

use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

use super::diagnostic::Place;
use super::tree::{Entry, Node, Value};
use crate::run_dir::suggest;

/// Why a value cannot be read. `text` follows the key's name: "must be a number, not ...".
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) place: Option<Place>,
    /// What stands between the key's name and the value within: `[1]`, `.width`.
    pub(crate) within: String,
    pub(crate) text: String,
    /// The mistake is that this key is missing.
    pub(crate) missing: Option<&'static str>,
}

impl Mistake {
    fn new(text: impl Into<String>) -> Self {
        Self {
            place: None,
            within: String::new(),
            text: text.into(),
            missing: None,
        }
    }

    fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }

    fn inside(mut self, step: &str) -> Self {
        self.within.insert_str(0, step);
        self
    }
}

impl Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Mistake {}

impl serde::de::Error for Mistake {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Bool(value) => value.to_string(),
            Unexpected::Unsigned(value) => value.to_string(),
            Unexpected::Signed(value) => value.to_string(),
            Unexpected::Float(value) => value.to_string(),
            Unexpected::Str(text) => format!("the text '{text}'"),
            Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            _ => "a group of keys".to_owned(),
        };
        Self::new(format!("must be {expected}, not {found}"))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let choices: Vec<String> = expected.iter().map(|name| format!("'{name}'")).collect();
        let choices = match choices.as_slice() {
            [only] => only.clone(),
            [all @ .., last] => format!("{} or {last}", all.join(", ")),
            [] => "nothing".to_owned(),
        };
        let meant = suggest(variant, expected.iter().copied());
        let meant = meant.map(|name| format!("; did you mean '{name}'?"));
        Self::new(format!(
            "must be {choices}, not '{variant}'{}",
            meant.unwrap_or_default()
        ))
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            missing: Some(field),
            ..Self::new(format!("lacks the key '{field}'"))
        }
    }
}

/// What a scalar means by YAML's core schema.
enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
}

fn resolve(text: &str, plain: bool) -> Scalar<'_> {
    if !plain {
        return Scalar::Text(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        _ => {}
    }
    if let Some(digits) = text.strip_prefix("0x")
        && let Ok(number) = i128::from_str_radix(digits, 16)
    {
        return Scalar::Int(number);
    }
    if let Ok(number) = text.parse() {
        return Scalar::Int(number);
    }
    // `1e-3` without a point is a text to some YAML readers; here it is the number it looks like.
    let like_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    match text.parse::<f64>() {
        Ok(number) if text.chars().all(like_number) => Scalar::Float(number),
        _ => Scalar::Text(text),
    }
}

impl Node {
    /// "must be <wanted>, not <what is there>".
    fn not(&self, wanted: &str) -> Mistake {
        let found = match &self.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a group of keys".to_owned(),
            Value::Scalar { text, plain } => match resolve(text, *plain) {
                Scalar::Null => {
                    let text = format!("has no value; it must be {wanted}");
                    return Mistake::new(text).at(self.place);
                }
                Scalar::Text(_) if !plain && !matches!(resolve(text, true), Scalar::Text(_)) => {
                    format!("the text '{text}' (without quotes it would not be a text)")
                }
                Scalar::Text(_) => format!("the text '{text}'"),
                _ => text.clone(),
            },
        };
        Mistake::new(format!("must be {wanted}, not {found}")).at(self.place)
    }

    fn scalar(&self) -> Option<Scalar<'_>> {
        match &self.value {
            Value::Scalar { text, plain } => Some(resolve(text, *plain)),
            _ => None,
        }
    }

    /// A whole number within bounds. `1e5` and `64.0` are whole numbers.
    fn whole(&self, least: i128, most: i128) -> Result<i128, Mistake> {
        /// Up to here every whole number is exact in a float.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let number = match self.scalar() {
            Some(Scalar::Int(number)) => number,
            Some(Scalar::Float(number)) if number.fract() == 0.0 && number.abs() <= EXACT => {
                number as i128
            }
            _ => return Err(self.not("a whole number")),
        };
        if number < least {
            return Err(self.not(&format!("a whole number of at least {least}")));
        }
        if number > most {
            return Err(self.not(&format!("a whole number of at most {most}")));
        }
        Ok(number)
    }

    fn text(&self) -> Result<&str, Mistake> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Ok(text),
            _ => Err(self.not("a text")),
        }
    }
}

/// Passes a mistake on with this node's place, if it has none.
fn placed<T>(node: &Node, result: Result<T, Mistake>) -> Result<T, Mistake> {
    result.map_err(|mistake| mistake.at(node.place))
}

macro_rules! whole_numbers {
    ($($method:ident $type:ty, $visit:ident $wide:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
            let number = self.whole(<$type>::MIN as i128, <$type>::MAX as i128)?;
            // Within the bounds of $type, which is no wider than $wide.
            placed(self, visitor.$visit(number as $wide))
        }
    )*};
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Mistake;

    whole_numbers! {
        deserialize_i8 i8, visit_i64 i64;
        deserialize_i16 i16, visit_i64 i64;
        deserialize_i32 i32, visit_i64 i64;
        deserialize_i64 i64, visit_i64 i64;
        deserialize_u8 u8, visit_u64 u64;
        deserialize_u16 u16, visit_u64 u64;
        deserialize_u32 u32, visit_u64 u64;
        deserialize_u64 u64, visit_u64 u64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let result = match &self.value {
            Value::List(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Map(entries) => visitor.visit_map(Entries::new(entries)),
            Value::Scalar { text, plain } => match resolve(text, *plain) {
                Scalar::Null => visitor.visit_unit(),
                Scalar::Bool(value) => visitor.visit_bool(value),
                Scalar::Int(value) => match (u64::try_from(value), i64::try_from(value)) {
                    (Ok(value), _) => visitor.visit_u64(value),
                    (_, Ok(value)) => visitor.visit_i64(value),
                    _ => visitor.visit_f64(value as f64),
                },
                Scalar::Float(value) => visitor.visit_f64(value),
                Scalar::Text(text) => visitor.visit_str(text),
            },
        };
        placed(self, result)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.scalar() {
            Some(Scalar::Bool(value)) => visitor.visit_bool(value),
            _ => Err(self.not("true or false")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.scalar() {
            Some(Scalar::Int(value)) => visitor.visit_f64(value as f64),
            Some(Scalar::Float(value)) if value.is_finite() => visitor.visit_f64(value),
            Some(Scalar::Float(_)) => Err(self.not("a number that is not infinite")),
            _ => Err(self.not("a number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        placed(self, visitor.visit_str(self.text()?))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        if self.is_null() {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.value {
            Value::List(items) => placed(self, visitor.visit_seq(Items(items.iter().enumerate()))),
            _ => Err(self.not("a list")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let wanted = format!("a list of {length} values");
        match &self.value {
            Value::List(items) if items.len() == length => self.deserialize_seq(visitor),
            Value::List(items) => {
                let text = format!("must be {wanted}, not of {}", items.len());
                Err(Mistake::new(text).at(self.place))
            }
            _ => Err(self.not(&wanted)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.value {
            Value::Map(entries) => placed(self, visitor.visit_map(Entries::new(entries))),
            _ => Err(self.not("a group of keys")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let Value::Scalar { text, .. } = &self.value else {
            return Err(self.not("one word"));
        };
        if self.is_null() {
            return Err(Mistake::unknown_variant("", variants).at(self.place));
        }
        let word: StringDeserializer<Mistake> = text.clone().into_deserializer();
        placed(self, visitor.visit_enum(word))
    }

    serde::forward_to_deserialize_any! {
        char bytes byte_buf unit unit_struct tuple_struct ignored_any
    }
}

struct Items<'de>(std::iter::Enumerate<std::slice::Iter<'de, Node>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mistake> {
        let Some((index, node)) = self.0.next() else {
            return Ok(None);
        };
        let result = placed(node, seed.deserialize(node)).map(Some);
        result.map_err(|mistake| mistake.inside(&format!("[{index}]")))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint().1
    }
}

struct Entries<'de> {
    rest: std::slice::Iter<'de, Entry>,
    current: Option<&'de Entry>,
}

impl<'de> Entries<'de> {
    fn new(entries: &'de [Entry]) -> Self {
        Self {
            rest: entries.iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Mistake> {
        self.current = self.rest.next();
        let Some(entry) = self.current else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Mistake> = entry.key.as_str().into_deserializer();
        let result = seed.deserialize(key).map(Some);
        result.map_err(|mistake| mistake.at(entry.place))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        let Some(entry) = self.current.take() else {
            return Err(Mistake::custom("a value was asked for before its key"));
        };
        let result = placed(&entry.node, seed.deserialize(&entry.node));
        result.map_err(|mistake| mistake.inside(&format!(".{}", entry.key)))
    }
}
