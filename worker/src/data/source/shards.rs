//! Names of shards as WebDataset writes them: `cc12m/{00000..01242}.tar`, several joined by `::`.

use std::path::PathBuf;

/// The most shards that a pattern may name.
const MOST: usize = 1_000_000;

/// The files that a pattern names, in order. `{a,b}` stands for each of its words, `{007..123}` for each number:
/// with as many digits as its longer end, if one of them is padded with zeros (a lone `0` is not), as in bash.
///
/// # Errors
/// What is wrong with the pattern.
pub(super) fn expand(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let mut all = Vec::new();
    for one in pattern.split("::") {
        let mut names = vec![String::new()];
        let mut rest = one;
        while let Some((before, after)) = rest.split_once('{') {
            let (inside, after) = after
                .split_once('}')
                .ok_or_else(|| format!("'{one}' has a '{{' without a '}}'"))?;
            if inside.contains('{') {
                return Err(format!(
                    "'{one}' has braces within braces, which are not read"
                ));
            }
            let words =
                words(inside).map_err(|what| format!("'{{{inside}}}' in '{one}' {what}"))?;
            if names.len().saturating_mul(words.len()) > MOST {
                return Err(format!("'{one}' stands for more than {MOST} shards"));
            }
            names = names
                .iter()
                .flat_map(|name| {
                    words
                        .iter()
                        .map(move |word| format!("{name}{before}{word}"))
                })
                .collect();
            rest = after;
        }
        all.extend(names.into_iter().map(|name| PathBuf::from(name + rest)));
    }
    if all.len() > MOST {
        return Err(format!("it stands for more than {MOST} shards"));
    }
    Ok(all)
}

fn words(inside: &str) -> Result<Vec<String>, String> {
    let Some((first, last)) = inside.split_once("..") else {
        return Ok(inside.split(',').map(str::to_owned).collect());
    };
    let number = |text: &str| -> Result<u64, String> {
        text.parse()
            .map_err(|_| "is no range of whole numbers".to_owned())
    };
    let padded = |end: &str| end.len() > 1 && end.starts_with('0');
    let width = if padded(first) || padded(last) {
        first.len().max(last.len())
    } else {
        0
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err("is a range that ends before it begins".to_owned());
    }
    if last - first >= MOST as u64 {
        return Err(format!("stands for more than {MOST} shards"));
    }
    Ok((first..=last)
        .map(|number| format!("{number:0width$}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &str) -> Vec<String> {
        let paths = expand(pattern).unwrap();
        paths
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn patterns_stand_for_shards_in_order() {
        assert_eq!(names("a/b.tar"), ["a/b.tar"]);
        assert_eq!(
            names("{008..011}.tar"),
            ["008.tar", "009.tar", "010.tar", "011.tar"]
        );
        assert_eq!(names("{8..11}.tar"), ["8.tar", "9.tar", "10.tar", "11.tar"]);
        let ends = |pattern| {
            let names = names(pattern);
            [names[0].clone(), names[10].clone()]
        };
        assert_eq!(ends("{0..10}"), ["0", "10"]);
        assert_eq!(ends("{00..10}"), ["00", "10"]);
        assert_eq!(ends("{0..010}"), ["000", "010"]);
        assert_eq!(
            names("{a,b}/{0..1}.tar"),
            ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]
        );
        assert_eq!(names("x.tar::y{1,2}.tar"), ["x.tar", "y1.tar", "y2.tar"]);
    }

    #[test]
    fn wrong_patterns_are_refused_in_words() {
        let said: Vec<String> = [
            "{0..3.tar",
            "{3..1}.tar",
            "{a..c}.tar",
            "{0..9999999}",
            "{{a}}",
        ]
        .iter()
        .map(|pattern| expand(pattern).unwrap_err())
        .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        '{0..3.tar' has a '{' without a '}'
        '{3..1}' in '{3..1}.tar' is a range that ends before it begins
        '{a..c}' in '{a..c}.tar' is no range of whole numbers
        '{0..9999999}' in '{0..9999999}' stands for more than 1000000 shards
        '{{a}}' has braces within braces, which are not read
        ");
    }
}
