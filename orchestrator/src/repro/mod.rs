//! Lists of the original's experiments, such as its `repro_exps.txt`, as experiments of ours.

mod check;
mod derive;
mod expected;
mod flags;
mod list;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;
use rocket_common::experiment::Experiment;

pub(crate) use check::{Check, Results, Source};
pub(crate) use derive::Map;
pub(crate) use expected::Expected;
use list::Mistake;
use words::Given;

/// One experiment of a list.
#[derive(Debug)]
pub(crate) struct Derived {
    /// Line of what says it last: the command, or the line that varies it.
    pub(crate) line: usize,
    /// Headings above it, the outermost first.
    pub(crate) section: Vec<String>,
    /// The command that gives it alone.
    pub(crate) command: String,
    /// What became of flags that are no key of it, one sentence each.
    pub(crate) notes: Vec<String>,
    pub(crate) experiment: Experiment,
}

impl Derived {
    /// As a file, with where it comes from at its head. `origin` names the list.
    pub(crate) fn to_file(&self, origin: &str) -> String {
        let place = self.section.join(" / ");
        let mut head = format!("# {origin}, line {}: {place}\n", self.line);
        if self.section.is_empty() {
            head = format!("# {origin}, line {}\n", self.line);
        }
        for note in &self.notes {
            head.push_str(&format!("# {note}\n"));
        }
        format!(
            "{head}{COMMAND}{}\n{}",
            self.command,
            self.experiment.to_short_yaml()
        )
    }
}

/// Stands before the command in a file.
const COMMAND: &str = "# ";

/// Every experiment of a list, in its order.
///
/// # Errors
/// Every mistake, with file and line.
pub(crate) fn read(path: &Path, map: &Map, sets: &[String]) -> Result<Vec<Derived>> {
    let mut all = Vec::new();
    let mut mistakes: Vec<Mistake> = Vec::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for command in list::read(path)? {
        for point in points(&command) {
            match derive::derive(&point.flags, &point.suffix, map, sets) {
                Ok(derived) => {
                    let name = derived.experiment.name.clone();
                    if let Some(other) = names.insert(name.clone(), point.line) {
                        mistakes.push((
                            point.line,
                            format!("'{name}' is the name of the run of line {other} too; give it another --name"),
                        ));
                    }
                    all.push(Derived {
                        line: point.line,
                        section: command.section.clone(),
                        command: command_line(&point.flags, &name),
                        notes: derived.notes,
                        experiment: derived.experiment,
                    });
                }
                Err(found) => mistakes.extend(found.into_iter().map(|text| (point.line, text))),
            }
        }
    }
    if mistakes.is_empty() {
        Ok(all)
    } else {
        // The points of a grid have most mistakes in common.
        mistakes.dedup();
        Err(faults(&path.display().to_string(), &mistakes))
    }
}

/// One command line.
///
/// # Errors
/// Every mistake.
pub(crate) fn one(words: &[String], map: &Map, sets: &[String]) -> Result<Derived> {
    let wrong = |found: Vec<String>| {
        let lines: Vec<String> = found;
        Error::new(ExitKind::Usage, lines.join("\nerror: "))
    };
    let flags = list::command(words).map_err(wrong)?;
    let derived = derive::derive(&flags, "", map, sets).map_err(wrong)?;
    Ok(Derived {
        line: 1,
        section: Vec::new(),
        command: command_line(&flags, &derived.experiment.name),
        notes: derived.notes,
        experiment: derived.experiment,
    })
}

/// Splits the text of a command line as a shell would.
///
/// # Errors
/// A quote is left open.
pub(crate) fn split(text: &str) -> Result<Vec<String>> {
    shell_words::split(text).map_err(|_| Error::new(ExitKind::Usage, "a quote is left open"))
}

/// A run of a command: its flags, and what its name ends with.
struct Point {
    line: usize,
    flags: Vec<Given>,
    suffix: String,
}

fn points(command: &list::Command) -> Vec<Point> {
    if command.grids.is_empty() {
        return vec![Point {
            line: command.line,
            flags: command.flags.clone(),
            suffix: String::new(),
        }];
    }
    let mut all = Vec::new();
    for grid in &command.grids {
        for point in grid.points() {
            let mut flags = command.flags.clone();
            let mut suffix = String::new();
            for (given, value) in point {
                let name = given.flag.name;
                flags.retain(|other| other.flag.name != name);
                let switch = given.values.is_empty();
                flags.push(Given {
                    flag: given.flag,
                    values: if switch {
                        Vec::new()
                    } else {
                        vec![value.to_owned()]
                    },
                });
                let joint = if switch { "" } else { "_" };
                suffix.push_str(&format!(
                    "-{}{joint}{value}",
                    name.trim_start_matches('-').replace('-', "_")
                ));
            }
            all.push(Point {
                line: grid.line,
                flags,
                suffix,
            });
        }
    }
    all
}

/// The command of one run, under its own name.
fn command_line(flags: &[Given], name: &str) -> String {
    let mut words = vec!["run_with_submitit.py".to_owned()];
    let mut named = false;
    for given in flags {
        words.push(given.flag.name.to_owned());
        if given.flag.name == "--name" {
            words.push(name.to_owned());
            named = true;
        } else {
            words.extend(given.values.iter().cloned());
        }
    }
    if !named {
        words.extend(["--name".to_owned(), name.to_owned()]);
    }
    shell_words::join(words)
}

/// Mistakes as one error, each with its file and line.
fn faults(shown: &str, mistakes: &[Mistake]) -> Error {
    let lines: Vec<String> = mistakes
        .iter()
        .map(|(line, text)| format!("{shown}:{line}: {text}"))
        .collect();
    Error::new(ExitKind::Usage, lines.join("\nerror: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the original's parsers know (`get_args_parser` and `parse_args`), by hand.
    const ORIGINAL: &str = "dataset root metadata metadata-unpaired bpe-path output-dir model attn-layer
        no-share-token semi-paired unpaired-ratio embed-dim clip-hidden-dim ssl-scale ssl-temp resume
        init-text-encoder detach-proj momentum momentum-tau transformer-layers clip-proj-type
        cl2l-txt-proj-type cl2l-img-proj-type separate-proj separate-proj-child barlip-proj-dim
        barlip-hidden-dim barlip-lamb barlip-scale-loss swalip-proj-dim swalip-hidden-dim
        swalip-num-proto swalip-temperature swalip-learn-temperature sk-iters target-epsilon
        swalip-freeze-proto-iters swalip-no-shared-proto swalip-weight siamlip-proj-dim
        siamlip-hidden-dim siamlip-no-last-bn num-augs multicrop-resize multicrop-max-scale
        weak-min-scale blur-prob solarize-prob grayscale-prob byol-augment weak-augment strong-augment
        randaugment caption-sampling text-dropout-prob text-drop-path-prob label-smoothing text-augment
        clean-before-augment no-text-augment-prob remove-stopwords-prob synonym-replacement-prob
        random-swap-prob random-deletion-prob epochs warmup-epochs start-epoch batch-size lr lr-start
        lr-end update-freq wd betas eps eval-freq disable-amp loss-avg-or-sum checkpoint-grad print-freq
        workers workers-unpaired evaluate world-size rank local_rank dist-url dist-backend seed gpu wandb
        offline name ngpus nodes timeout job_dir partition use_volta32 comment";

    #[test]
    fn every_flag_of_the_original_has_a_fate() {
        let ours: Vec<&str> = flags::FLAGS.iter().map(|flag| &flag.name[2..]).collect();
        let theirs: Vec<&str> = ORIGINAL.split_whitespace().collect();
        assert_eq!(ours, theirs);
        let keys = rocket_common::experiment::all_keys();
        for flag in flags::FLAGS {
            use flags::Fate;
            if let Fate::Key(key) | Fate::Text(key) | Fate::Pair(key) | Fate::Set(key, _) =
                flag.fate
            {
                assert!(keys.iter().any(|known| known == key), "{key}");
            }
        }
    }
}
