//! Values of a pickle that are no tensors, as JSON.

use serde_json::{Map, Value as Json};

use crate::data::pickle::{Node, Pickle, Value};

/// Values that a command line or a scaler may have: a pickle can show one value in many places, so that
/// writing all of them out could take for ever.
const MOST: usize = 100_000;
/// Nesting of such values.
const DEEPEST: usize = 32;

/// Names and values of a dict or namespace.
///
/// # Errors
/// What is wrong with the value, in words that follow its name.
pub(super) fn object(pickle: &Pickle<'_>, node: Node) -> Result<Map<String, Json>, String> {
    match json(pickle, node, &mut 0, 0)? {
        Json::Object(map) => Ok(map),
        _ => Err("is neither a dict nor a namespace".to_owned()),
    }
}

fn json(pickle: &Pickle<'_>, node: Node, seen: &mut usize, depth: usize) -> Result<Json, String> {
    *seen += 1;
    if *seen > MOST || depth > DEEPEST {
        return Err("holds too many values, or holds itself".to_owned());
    }
    Ok(match pickle.value(node) {
        Value::None => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        // Not finite ones become null.
        Value::Float(value) => (*value).into(),
        Value::Text(_) | Value::OwnedText(_) => pickle.text(node).unwrap_or_default().into(),
        Value::Sequence(items) => items
            .iter()
            .map(|&item| json(pickle, item, seen, depth + 1))
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        Value::Dict(pairs) | Value::Namespace(pairs) => {
            let mut map = Map::new();
            for &(key, value) in pairs {
                let key = match (pickle.text(key), pickle.value(key)) {
                    (Some(text), _) => text.to_owned(),
                    (None, Value::Int(number)) => number.to_string(),
                    _ => return Err("has a key that is neither text nor a number".to_owned()),
                };
                map.insert(key, json(pickle, value, seen, depth + 1)?);
            }
            Json::Object(map)
        }
        _ => {
            return Err(
                "holds a value that is neither text, a number, a list nor a dict".to_owned(),
            );
        }
    })
}
