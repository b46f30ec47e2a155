//! Captions of similar length: the text tower computes a batch in groups, each up to its own longest
//! caption, so that one long caption does not make all others long.

/// Rows that are computed together, in ascending length, and the length of the longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) rows: Vec<i64>,
    pub(super) length: i64,
}

/// What computing costs, in tokens: one token of one row is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct CostModel {
    /// What a group costs besides its tokens: reading all weights, and writing their gradients, once
    /// more, and starting every operator once more.
    overhead: f64,
    /// What attention adds to a token per token of the row.
    attention: f64,
}

impl CostModel {
    /// Makes one group of all rows.
    pub(super) const ONE_GROUP: Self = Self {
        overhead: f64::INFINITY,
        attention: 0.0,
    };

    /// A model of this width. Per token a block multiplies 12 width^2 numbers, and attention 2 width per
    /// token that it sees, of which a causal mask leaves half. The overhead was estimated for a CPU of a
    /// few cores, where the weights' traffic is worth some 60 tokens and starting operators as much time as
    /// 2^26 / width^2; an accelerator needs more tokens before they take any time.
    pub(super) fn new(width: i64, accelerator: bool) -> Self {
        let square = (width * width).max(1) as f64;
        let overhead = 64.0 + f64::from(1u32 << 26) / square;
        Self {
            overhead: if accelerator {
                8.0 * overhead
            } else {
                overhead
            },
            attention: 1.0 / (12.0 * width.max(1) as f64),
        }
    }

    /// Groups of equal length, whatever they cost.
    #[cfg(test)]
    pub(super) const MANY_GROUPS: Self = Self {
        overhead: 0.0,
        attention: 0.0,
    };

    fn tokens(self, rows: usize, length: i64) -> f64 {
        let (rows, length) = (rows as f64, length as f64);
        rows * length * (1.0 + self.attention * length)
    }
}

/// Cuts rows of given lengths into groups of the least total cost. One group holds all rows in their
/// order; of several each holds its rows by length, equal ones in their order. A function of the lengths
/// alone. `first` is the number of the first row.
pub(super) fn groups(lengths: &[i64], first: i64, model: CostModel) -> Vec<Group> {
    let mut rows: Vec<(i64, i64)> = lengths.iter().copied().zip(first..).collect();
    rows.sort_unstable();
    let Some(&(longest, _)) = rows.last() else {
        return Vec::new();
    };
    // Ends of runs of equal length: a group never parts such a run.
    let ends: Vec<usize> = (1..=rows.len())
        .filter(|&end| end == rows.len() || rows[end].0 != rows[end - 1].0)
        .collect();
    // best[i]: the least cost of the rows before ends[i], and the run that its last group begins after.
    let mut best: Vec<(f64, Option<usize>)> = Vec::with_capacity(ends.len());
    for (i, &end) in ends.iter().enumerate() {
        let length = rows[end - 1].0;
        let alone = (model.overhead + model.tokens(end, length), None);
        let least = (0..i).fold(alone, |least, j| {
            let cost = best[j].0 + model.overhead + model.tokens(end - ends[j], length);
            // At equal cost the fewer groups.
            if cost < least.0 {
                (cost, Some(j))
            } else {
                least
            }
        });
        best.push(least);
    }
    let mut cuts = Vec::new();
    let mut at = ends.len().checked_sub(1);
    while let Some(i) = at {
        at = best[i].1;
        cuts.push((at.map_or(0, |j| ends[j]), ends[i]));
    }
    if cuts.len() == 1 {
        let rows = (first..).take(lengths.len()).collect();
        return vec![Group {
            rows,
            length: longest,
        }];
    }
    let group = |(from, to): (usize, usize)| Group {
        rows: rows[from..to].iter().map(|(_, row)| *row).collect(),
        length: rows[to - 1].0,
    };
    cuts.into_iter().rev().map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_one_group_in_their_order() {
        let model = CostModel::new(512, false);
        let one = groups(&[9, 3, 20, 4], 7, model);
        assert_eq!(one.len(), 1);
        assert_eq!((&one[0].rows[..], one[0].length), (&[7, 8, 9, 10][..], 20));
        assert!(groups(&[], 0, model).is_empty());
    }

    #[test]
    fn many_rows_are_cut_by_length_and_each_row_is_there_once() {
        let lengths: Vec<i64> = (0..384)
            .map(|i| 5 + (i * i * 31 % 97) % 20 + 52 * i64::from(i % 96 == 0))
            .collect();
        let model = CostModel::new(512, false);
        let cut = groups(&lengths, 0, model);
        assert!(cut.len() > 1, "{cut:?}");
        assert_eq!(cut, groups(&lengths, 0, model));
        let mut rows: Vec<i64> = cut.iter().flat_map(|group| group.rows.clone()).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..384).collect::<Vec<_>>());
        for group in &cut {
            let longest = group.rows.iter().map(|row| lengths[*row as usize]).max();
            assert_eq!(longest, Some(group.length));
        }
        let padded: i64 = cut.iter().map(|g| g.length * g.rows.len() as i64).sum();
        let longest = lengths.iter().max().expect("rows");
        assert!(padded * 2 < longest * 384, "{padded}");
    }

    #[test]
    fn the_cut_is_the_cheapest_of_all() {
        let lengths = [4, 4, 60, 7, 30, 77, 5, 33, 70, 12];
        let model = CostModel {
            overhead: 50.0,
            attention: 0.001,
        };
        let cost = |groups: &[(usize, i64)]| -> f64 {
            let one = |(rows, length): &(usize, i64)| model.overhead + model.tokens(*rows, *length);
            groups.iter().map(one).sum()
        };
        let ours = groups(&lengths, 0, model);
        let ours: Vec<(usize, i64)> = ours.iter().map(|g| (g.rows.len(), g.length)).collect();
        let mut sorted = lengths;
        sorted.sort_unstable();
        // Every way to cut ten sorted rows.
        let least = (0u32..1 << 9).map(|cuts| {
            let mut all = Vec::new();
            let mut rows = 0;
            for (i, length) in sorted.iter().enumerate() {
                rows += 1;
                if i == 9 || cuts >> i & 1 == 1 {
                    all.push((rows, *length));
                    rows = 0;
                }
            }
            cost(&all)
        });
        let least = least.fold(f64::INFINITY, f64::min);
        assert!((cost(&ours) - least).abs() < 1e-9, "{ours:?}");
    }
}
