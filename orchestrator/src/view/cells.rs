//! What is known of a run as cells of tables: the same in every table.

use std::time::Duration;

use super::{RunView, duration, rate};

impl RunView {
    /// Where it stands; `held` in place of `pending` where somebody has to release it.
    pub(crate) fn state_cell(&self) -> &'static str {
        if self.held {
            "held"
        } else {
            self.status.name()
        }
    }

    /// `1200/40000`, as far as both are known.
    pub(crate) fn step_cell(&self) -> Option<String> {
        match self.total_steps {
            Some(total) => Some(format!("{}/{total}", self.step)),
            None => (self.step > 0).then(|| self.step.to_string()),
        }
    }

    /// Epochs done.
    pub(crate) fn epoch_cell(&self) -> Option<String> {
        self.epoch.map(|epoch| format!("{epoch:.2}"))
    }

    /// Samples a second over all ranks, while it runs.
    pub(crate) fn rate_cell(&self) -> Option<String> {
        self.samples_per_second
            .filter(|per_second| *per_second > 0.0)
            .map(|per_second| rate(per_second).trim_end_matches("/s").to_owned())
    }

    /// Time until its end.
    pub(crate) fn eta_cell(&self) -> Option<String> {
        self.eta_seconds
            .map(|seconds| duration(Duration::from_secs(seconds)))
    }

    /// The score that stands for all, else the first there is.
    pub(crate) fn score_cell(&self) -> Option<String> {
        let main = self.main_score.as_ref();
        main.and_then(|name| self.metrics.get_key_value(name))
            .or(self.metrics.iter().next())
            .map(|(name, value)| format!("{name} {:.2} %", value * 100.0))
    }

    /// Why it stands where it stands: what it waits for, or what ended it.
    pub(crate) fn why(&self) -> Option<String> {
        let waits = self.waiting.as_ref().map(|words| match &self.job {
            Some(job) => format!("job {job}: {words}"),
            None => words.clone(),
        });
        waits.or_else(|| self.cause.clone())
    }
}

/// A text in one line of at most so many characters; `…` stands for what is left out.
pub(crate) fn cut(text: &str, width: usize) -> String {
    cut_line(
        &text.split_whitespace().collect::<Vec<_>>().join(" "),
        width,
    )
}

/// As [`cut`], of a line whose spaces are meant.
pub(crate) fn cut_line(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let kept: String = line.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_says_so() {
        assert_eq!(cut("one\ntwo  three", 20), "one two three");
        assert_eq!(cut("one two three", 9), "one two…");
        assert_eq!(cut("éééé", 4), "éééé");
        assert_eq!(cut("ab", 0), "…");
    }
}
