//! What is evaluated when a run has finished.

use std::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// `eval.after`, written `none`, `all`, or as a list of sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    #[default]
    None,
    /// Every set of the catalog that is there.
    All,
    /// These sets, each of which must be there.
    Sets(Vec<String>),
}

impl Serialize for After {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::All => serializer.serialize_str("all"),
            Self::Sets(sets) => sets.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrList;

        impl<'de> Visitor<'de> for WordOrList {
            type Value = After;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("'all', 'none' or a list of sets")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<After, E> {
                match word {
                    "none" => Ok(After::None),
                    "all" => Ok(After::All),
                    other => Err(E::custom(format!(
                        "must be 'all', 'none' or a list of sets; for one set write [{other}]"
                    ))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<After, A::Error> {
                let mut sets: Vec<String> = Vec::new();
                while let Some(set) = list.next_element::<String>()? {
                    if sets.contains(&set) {
                        return Err(A::Error::custom(format!("names '{set}' twice")));
                    }
                    sets.push(set);
                }
                Ok(if sets.is_empty() {
                    After::None
                } else {
                    After::Sets(sets)
                })
            }
        }

        deserializer.deserialize_any(WordOrList)
    }
}
