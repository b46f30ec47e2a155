//! The page: one HTML file that holds everything it shows.

use jiff::Timestamp;
use minijinja::{AutoEscape, Environment, Value as Template, context};
use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

use super::Facts;
use super::config::{KeyValues, side_by_side};
use super::panels::Data;
pub(crate) use super::panels::data;
use super::sections::{RunSections, sections};
use crate::view::time;

const PAGE: &str = include_str!("../../../templates/report/page.html.j2");
const CSS: &str = include_str!("../../../templates/report/page.css");
const JS: &str = include_str!("../../../templates/report/page.js");

/// The page about one run, or about several side by side.
///
/// # Errors
/// The template does not render: a mistake of this program.
pub(crate) fn render(title: &str, runs: &[Facts], data: &Data) -> Result<String> {
    let sections: Vec<RunSections> = runs.iter().map(sections).collect();
    let (differences, shared) = split(runs);
    let troubles: Vec<String> = runs
        .iter()
        .flat_map(|run| {
            run.troubles
                .iter()
                .map(|text| format!("{}: {text}", run.view.run))
        })
        .collect();
    let json = serde_json::to_string(data).map_err(|error| internal(&error.to_string()))?;
    let mut environment = Environment::new();
    // Everything that a person wrote is hostile until it is escaped, whatever the template's name.
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment
        .render_named_str(
            "page.html",
            PAGE,
            context! {
                title,
                version => env!("CARGO_PKG_VERSION"),
                made => time(Timestamp::now()),
                css => CSS,
                js => JS,
                data => for_script(&json),
                single => match &sections[..] {
                    [one] => Template::from_serialize(one),
                    _ => Template::UNDEFINED,
                },
                runs => Template::from_serialize(&sections),
                states => states(runs),
                differences => Template::from_serialize(&differences),
                config => shared,
                troubles,
            },
        )
        .map_err(|error| internal(&format!("{error:#}")))
}

fn internal(what: &str) -> Error {
    Error::new(ExitKind::Internal, format!("cannot make the page: {what}"))
}

/// JSON that ends no script, begins no comment and holds no line ends that scripts know.
fn for_script(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                safe.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Keys that differ, and keys with their value that all runs share.
fn split(runs: &[Facts]) -> (Vec<KeyValues>, Vec<(String, String)>) {
    let known = runs.iter().filter(|run| run.experiment.is_some());
    if known.count() < runs.len() {
        // Nothing is known of one of them: no key can be said to be shared.
        let first = runs.iter().find(|run| run.experiment.is_some());
        let alone = runs.len() == 1;
        return (
            Vec::new(),
            first
                .filter(|_| alone)
                .map(|run| run.config.clone())
                .unwrap_or_default(),
        );
    }
    let configs: Vec<_> = runs.iter().map(|run| run.config.clone()).collect();
    let (different, shared): (Vec<_>, Vec<_>) = side_by_side(&configs)
        .into_iter()
        .partition(KeyValues::differs);
    let shared = shared
        .into_iter()
        .filter_map(|key| Some((key.key, key.values.into_iter().next()??)))
        .collect();
    (different, shared)
}

/// How many runs stand where.
fn states(runs: &[Facts]) -> Vec<Template> {
    let mut counts: Vec<(String, usize)> = vec![("runs".to_owned(), runs.len())];
    for run in runs {
        let state = run.view.status.to_string();
        match counts.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => counts.push((state, 1)),
        }
    }
    counts
        .into_iter()
        .map(|(state, count)| context! { state, count })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_end_their_script() {
        let json = serde_json::json!({"a": "</script><!-- \u{2028} & <b>"}).to_string();
        let safe = for_script(&json);
        assert!(!safe.contains(['<', '>', '&', '\u{2028}']), "{safe}");
        let back: serde_json::Value = serde_json::from_str(&safe).unwrap();
        assert_eq!(back["a"], "</script><!-- \u{2028} & <b>");
    }
}
