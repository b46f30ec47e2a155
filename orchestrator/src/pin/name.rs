//! Names of experiments and run ids: parts of a git ref, of a path and of a Slurm job name at once.

use rocket_common::error::{Error, Result};
use rocket_common::exit::ExitKind;

/// Longest name of an experiment; with the commit and a suffix it stays a short path component.
const MAX_NAME: usize = 64;

/// Checks that a name can begin a run id: letters, digits, `_`, `-` and `.`, beginning with a letter
/// or a digit, at most 64 characters, no `..` and no `.lock` at the end (git refuses such refs).
///
/// # Errors
/// [`ExitKind::Experiment`], with a name that would do.
pub fn check_name(name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_NAME {
        "is longer than 64 characters"
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        "does not begin with a letter or a digit"
    } else if !name.chars().all(allowed) {
        "has characters other than letters, digits, '_', '-' and '.'"
    } else if name.contains("..") || name.ends_with(".lock") || name.ends_with('.') {
        "cannot be part of a git ref ('..', a final '.' or '.lock')"
    } else {
        return Ok(());
    };
    Err(Error::new(
        ExitKind::Experiment,
        format!("the experiment's name {name:?} {reason}"),
    )
    .hint(format!("set for example 'name: {}'", suggestion(name))))
}

fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn suggestion(name: &str) -> String {
    let mut clean = String::new();
    for c in name.chars() {
        let c = if allowed(c) { c } else { '-' };
        if !(matches!(c, '-' | '.') && clean.ends_with(['-', '.'])) {
            clean.push(c);
        }
    }
    let clean: String = clean
        .trim_start_matches(|c: char| !c.is_ascii_alphanumeric())
        .chars()
        .take(MAX_NAME)
        .collect();
    let clean = clean.trim_end_matches(['-', '.']).trim_end_matches(".lock");
    if clean.is_empty() {
        "experiment".into()
    } else {
        clean.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bad_names_come_with_a_good_one() {
        for (bad, good) in [
            ("", "experiment"),
            ("a b", "a-b"),
            ("../../etc", "etc"),
            ("x'; rm -rf $(pwd)\n", "x-rm-rf-pwd"),
            ("-rf", "rf"),
            ("a..b", "a.b"),
            ("ref.lock", "ref"),
        ] {
            let error = check_name(bad).unwrap_err();
            assert_eq!(
                error.hints(),
                [format!("set for example 'name: {good}'")],
                "{bad:?}"
            );
        }
        for good in ["demo", "CL2L_R50_CL2L", "a-b.c", "2023"] {
            check_name(good).unwrap();
        }
    }

    proptest! {
        #[test]
        fn suggestions_are_valid(name in ".{0,80}") {
            let name = suggestion(&name);
            prop_assert!(check_name(&name).is_ok(), "{name:?}");
        }

        #[test]
        fn valid_names_make_valid_refs(name in "[A-Za-z0-9][A-Za-z0-9._-]{0,20}") {
            if check_name(&name).is_ok() {
                let id = rocket_common::run_dir::run_id(&name, &"0".repeat(40), Some(2));
                prop_assert!(git2::Reference::is_valid_name(&super::super::ref_name(&id)), "{}", id);
            }
        }
    }
}
