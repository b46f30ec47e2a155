//! `track:`: where metrics go besides `metrics.jsonl`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Project of Weights & Biases and experiment of MLflow, unless the experiment names others.
pub const DEFAULT_TRACKING_NAME: &str = "rocket";

/// `track:`. `metrics.jsonl` is always written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Track {
    /// TensorBoard's event files, in the run directory's `tb/`.
    pub tensorboard: bool,
    /// An offline run of Weights & Biases, in the run directory's `wandb/`. `true` is every default.
    #[serde(
        deserialize_with = "on_or_off",
        skip_serializing_if = "Option::is_none"
    )]
    pub wandb: Option<Wandb>,
    /// A run on an MLflow tracking server. `true` is every default, a text the server's address.
    #[serde(
        deserialize_with = "on_or_off",
        skip_serializing_if = "Option::is_none"
    )]
    pub mlflow: Option<Mlflow>,
}

impl Track {
    /// Whether there is anything besides `metrics.jsonl`.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }
}

/// `track.wandb`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wandb {
    /// Project.
    pub project: String,
    /// User or team; whoever syncs the run if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Group of runs; the sweep's id for a point of a sweep if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// How it gets to a server.
    pub mode: WandbMode,
}

impl Default for Wandb {
    fn default() -> Self {
        Self {
            project: DEFAULT_TRACKING_NAME.to_owned(),
            entity: None,
            group: None,
            tags: Vec::new(),
            mode: WandbMode::Offline,
        }
    }
}

/// `track.wandb.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WandbMode {
    /// Written into the run directory; `wandb sync` brings it to a server, from wherever one can be reached.
    Offline,
}

/// `track.mlflow`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mlflow {
    /// Address of the tracking server; `MLFLOW_TRACKING_URI` at submission if absent. Never with a
    /// password: who may write is said by `MLFLOW_TRACKING_TOKEN`, or `_USERNAME` and `_PASSWORD`, in the
    /// environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Experiment, in MLflow's sense: what runs are grouped by. It is made if it is not there.
    pub experiment: String,
}

impl Default for Mlflow {
    fn default() -> Self {
        Self {
            uri: None,
            experiment: DEFAULT_TRACKING_NAME.to_owned(),
        }
    }
}

/// What a tracker's key can hold besides a group of keys.
trait Short: Default {
    /// What is wanted, in words.
    const EXPECTED: &'static str;

    /// The tracker that a text means.
    fn of_text(text: &str) -> Option<Self>;
}

impl Short for Wandb {
    const EXPECTED: &'static str = "true, false or a group of keys";

    fn of_text(_: &str) -> Option<Self> {
        None
    }
}

impl Short for Mlflow {
    const EXPECTED: &'static str = "true, false, the server's address or a group of keys";

    fn of_text(text: &str) -> Option<Self> {
        Some(Self {
            uri: Some(text.to_owned()),
            ..Self::default()
        })
    }
}

/// Reads `true`, `false`, a tracker's short form, or its keys.
fn on_or_off<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Short + Deserialize<'de>,
{
    struct OnOrOff<T>(PhantomData<T>);

    impl<'de, T: Short + Deserialize<'de>> Visitor<'de> for OnOrOff<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }

        fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_bool<E: Error>(self, on: bool) -> Result<Option<T>, E> {
            Ok(on.then(T::default))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Option<T>, E> {
            let unexpected = serde::de::Unexpected::Str(text);
            T::of_text(text)
                .map(Some)
                .ok_or_else(|| E::invalid_value(unexpected, &self))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    deserializer.deserialize_any(OnOrOff(PhantomData))
}
