//! A comparison as text and as Markdown.

use std::io::{self, Write};
use std::time::Duration;

use super::{CodeDiff, Comparison, CurveDiff, Head};
use crate::output::{Report, Table};
use crate::report::summary::Summary;
use crate::view::{duration, number, rate};

/// A value longer than this is cut in a table.
const WIDEST: usize = 48;

type Rows = Vec<Vec<String>>;

impl Comparison {
    /// What each run is: one row a property, one column a run.
    fn heads(&self) -> Rows {
        type Cell = fn(&Head) -> Option<String>;
        let properties: [(&str, Cell); 11] = [
            ("name", |head| Some(head.name.clone())),
            ("state", |head| head.state.clone()),
            ("commit", |head| Some(short(head.commit.as_ref()?))),
            ("made from", |head| {
                let changes = if head.snapshot { " + changes" } else { "" };
                Some(short(head.parent_commit.as_ref()?) + changes)
            }),
            ("programs", |head| Some(short(head.programs.as_ref()?))),
            ("recipe", |head| Some(head.recipe_hash.clone())),
            ("ranks", |head| Some(head.world_size.to_string())),
            ("attempts", |head| Some(head.attempts?.to_string())),
            ("steps", |head| Some(head.steps?.to_string())),
            ("wall time", |head| {
                Some(duration(Duration::from_secs_f64(head.wall_seconds?)))
            }),
            ("samples/s", |head| Some(rate(head.samples_per_second?))),
        ];
        let row = |(name, cell): &(&str, Cell)| {
            let cells = self.runs.iter().map(|head| or_dash(cell(head)));
            std::iter::once((*name).to_owned()).chain(cells).collect()
        };
        properties.iter().map(row).collect()
    }

    fn keys(&self) -> Rows {
        let row = |key: &crate::report::config::KeyValues| {
            let mark = if self.options.all && key.differs() {
                "* "
            } else {
                ""
            };
            let values = key
                .values
                .iter()
                .map(|value| or_dash(value.as_deref().map(cut)));
            std::iter::once(format!("{mark}{}", key.key))
                .chain(values)
                .collect()
        };
        self.config.iter().map(row).collect()
    }

    /// Three rows a metric: last, best, mean.
    fn figures(&self) -> Rows {
        let mut rows = Vec::new();
        for metric in &self.metrics {
            let most = metric
                .runs
                .iter()
                .flatten()
                .map(|s| s.mean_of)
                .max()
                .unwrap_or_default();
            let mean = format!("mean of {most}");
            type Cell = fn(&Summary) -> Option<String>;
            let figures: [(&str, Cell); 3] = [
                ("last", |summary| {
                    Some(format!("{} @{}", number(summary.last), summary.last_step))
                }),
                ("best", |summary| {
                    Some(format!("{} @{}", number(summary.best?), summary.best_step?))
                }),
                (&mean, |summary| {
                    (summary.mean_of > 1).then(|| number(summary.mean))
                }),
            ];
            let mut name = metric.name.as_str();
            for (figure, cell) in figures {
                let cells: Vec<Option<String>> =
                    metric.runs.iter().map(|s| cell(s.as_ref()?)).collect();
                if cells.iter().any(Option::is_some) {
                    let mut row = vec![name.to_owned(), figure.to_owned()];
                    row.extend(cells.into_iter().map(or_dash));
                    rows.push(row);
                    name = "";
                }
            }
        }
        rows
    }

    fn names(&self, before: &[&str]) -> Vec<String> {
        let runs = self.runs.iter().map(|head| head.run.clone());
        before
            .iter()
            .map(|text| (*text).to_owned())
            .chain(runs)
            .collect()
    }

    fn config_title(&self) -> String {
        let differ = self.config.iter().filter(|key| key.differs()).count();
        let keys = differ + self.config_equal;
        match differ {
            0 => format!("configuration: all {keys} keys are equal"),
            1 => format!("configuration: 1 of {keys} keys differs"),
            _ => format!("configuration: {differ} of {keys} keys differ"),
        }
    }

    /// As Markdown, for an issue or a note.
    pub(crate) fn markdown(&self, out: &mut dyn Write) -> io::Result<()> {
        table(out, self.names(&[""]), self.heads())?;
        writeln!(out, "\n**{}**\n", capital(&self.config_title()))?;
        if !self.config.is_empty() {
            table(out, self.names(&["key"]), self.keys())?;
        }
        for diff in &self.code {
            writeln!(out, "\n**{}**", capital(&title(diff)))?;
            if !diff.files.is_empty() {
                writeln!(out)?;
                let rows = diff.files.iter().map(|file| {
                    vec![
                        file.path.clone(),
                        file.change.into(),
                        lines(file.added, file.removed, file.binary),
                    ]
                });
                let headings = ["file", "change", "lines"].map(String::from).to_vec();
                table(out, headings, rows.collect())?;
            }
            if let Some(patch) = diff.patch.as_ref().filter(|patch| !patch.is_empty()) {
                // A fence longer than any in the patch.
                let fence = "`".repeat(longest_fence(patch).max(2) + 1);
                writeln!(out, "\n{fence}diff\n{patch}{fence}")?;
            }
        }
        if !self.metrics.is_empty() {
            writeln!(out, "\n**Metrics**\n")?;
            table(out, self.names(&["metric", ""]), self.figures())?;
        }
        for diff in &self.curves {
            writeln!(out, "\n{}", capital(&parting(diff)))?;
        }
        Ok(())
    }
}

impl Report for Comparison {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        plain(out, self.names(&[""]), self.heads())?;
        writeln!(out, "\n{}", self.config_title())?;
        if !self.config.is_empty() {
            plain(out, self.names(&["  KEY"]), indented(self.keys()))?;
        }
        for diff in &self.code {
            writeln!(out, "\n{}", title(diff))?;
            let mut files = Table::default().right(&[2]);
            for file in &diff.files {
                files.row(vec![
                    format!("  {}", file.path),
                    file.change.into(),
                    lines(file.added, file.removed, file.binary),
                ]);
            }
            files.write(out)?;
            if let Some(patch) = diff.patch.as_ref().filter(|patch| !patch.is_empty()) {
                write!(out, "\n{patch}")?;
            }
        }
        if !self.metrics.is_empty() {
            writeln!(out, "\nmetrics")?;
            plain(out, self.names(&["  METRIC", ""]), indented(self.figures()))?;
        }
        if !self.curves.is_empty() {
            writeln!(out)?;
        }
        for diff in &self.curves {
            writeln!(out, "{}", parting(diff))?;
        }
        Ok(())
    }
}

fn plain(out: &mut dyn Write, headings: Vec<String>, rows: Rows) -> io::Result<()> {
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = Table::new(&headings);
    for row in rows {
        table.row(row);
    }
    table.write(out)
}

fn indented(mut rows: Rows) -> Rows {
    for first in rows.iter_mut().filter_map(|row| row.first_mut()) {
        first.insert_str(0, "  ");
    }
    rows
}

fn table(out: &mut dyn Write, headings: Vec<String>, rows: Rows) -> io::Result<()> {
    let line = |cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| escape(cell)).collect();
        format!("| {} |", cells.join(" | "))
    };
    let rule = vec!["---"; headings.len()].join("|");
    writeln!(out, "{}\n|{rule}|", line(headings))?;
    for row in rows {
        writeln!(out, "{}", line(row))?;
    }
    Ok(())
}

/// A cell of Markdown that shows the text as it is.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' => escaped.push(' '),
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '\\' | '[' | ']' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

fn longest_fence(text: &str) -> usize {
    text.split(|c| c != '`')
        .map(str::len)
        .max()
        .unwrap_or_default()
}

fn title(diff: &CodeDiff) -> String {
    let CodeDiff { from, to, .. } = diff;
    if let Some(why) = &diff.unknown {
        format!("code of {from} and {to}: not known, since {why}")
    } else if diff.identical {
        format!("code of {from} and {to}: the same")
    } else {
        let files = match diff.files.len() {
            1 => "1 file".to_owned(),
            n => format!("{n} files"),
        };
        format!(
            "code from {from} to {to}: {files}, +{} -{}",
            diff.added, diff.removed
        )
    }
}

fn parting(diff: &CurveDiff) -> String {
    let CurveDiff { from, to, .. } = diff;
    let Some(first) = &diff.first else {
        return format!(
            "numbers of {from} and {to}: bit-identical up to step {} ({} values compared)",
            diff.identical_up_to, diff.compared
        );
    };
    let before = match diff.identical_up_to {
        0 => "differ from the first".to_owned(),
        step => format!("bit-identical up to step {step}, then differ"),
    };
    let loss = diff.loss_difference.map_or(String::new(), |difference| {
        format!("; the loss by {} % at most", number(difference * 100.0))
    });
    format!(
        "numbers of {from} and {to}: {before}: {} at step {} is {:?} and {:?}{loss}",
        first.metric, first.step, first.a, first.b
    )
}

fn lines(added: usize, removed: usize, binary: bool) -> String {
    if binary {
        "binary".into()
    } else {
        format!("+{added} -{removed}")
    }
}

fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

fn cut(text: &str) -> String {
    let text = text.replace(['\n', '\r'], " ");
    if text.chars().count() <= WIDEST {
        return text;
    }
    let tail: Vec<char> = text.chars().rev().take(WIDEST - 1).collect();
    // The end of a path says more than its beginning.
    std::iter::once('…').chain(tail.into_iter().rev()).collect()
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
