//! Lists of names and shapes of more architectures and flags.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use tch::Kind;

use super::models::same_state;
use super::recipe::Recipe;
use super::report::Report;
use super::run::Names;
use super::{Group, Source};
use crate::model::Model;

#[derive(Debug, Deserialize)]
struct Case {
    model: String,
    argv: Vec<String>,
    total_params: usize,
    state_dict: Vec<(String, Vec<i64>, String)>,
    aliases: BTreeMap<String, String>,
}

/// Whether a golden file is of this kind.
#[must_use]
pub fn recognises(value: &Value) -> bool {
    let first = value.as_object().and_then(|cases| cases.values().next());
    first.is_some_and(|case| case.get("state_dict").is_some() && case.get("argv").is_some())
}

/// Builds every model of the file and compares its names. A model that this version does not have is
/// skipped, by name; a file of nothing else fails, as nothing was compared.
///
/// # Errors
/// If the file is of another format.
pub fn check(source: &Source) -> Result<Vec<Group>, String> {
    let cases = BTreeMap::<String, Case>::deserialize(&source.value).map_err(|e| e.to_string())?;
    let mut groups = Vec::new();
    let mut left_out = Vec::new();
    for (name, case) in cases {
        let model = Recipe::parse(&case.model, &case.argv, Kind::Float).and_then(|recipe| {
            Model::new(&recipe.spec, &recipe.options).map_err(|error| error.to_string())
        });
        match model {
            Ok(model) => {
                let mut report = Report::default();
                let names = Names::of(&model);
                let Case {
                    total_params,
                    state_dict,
                    aliases,
                    ..
                } = &case;
                same_state(&mut report, &names, *total_params, state_dict, aliases);
                groups.push(Group { name, report });
            }
            Err(why) if why.contains("not in this version") => left_out.push((name, why)),
            Err(why) => return Err(format!("{name}: {why}")),
        }
    }
    match groups.last_mut() {
        Some(group) => group.report.skipped.extend(left_out),
        None => return Err("none of its models is in this version".to_owned()),
    }
    Ok(groups)
}
