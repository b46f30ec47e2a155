//! Activation checkpointing: memory for time (Chen et al. 2016). A tower is a row of blocks; a plan says
//! which of them keep their inputs alone and are run again in backward.
//!
//! At `update_freq` 1 gradients are those without it, to the bit. Above it they differ in the order of
//! sums: a block that is run again adds into the gradient once per view.

use std::ops::Range;
use std::rc::Rc;

use tch::Tensor;
use tch_distributed::{output_is_unread, try_checkpoint};

use super::options::Options;
use super::pass::Pass;
use super::{Error, Result};

/// What becomes of a block's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// It is used.
    Read,
    /// It was computed before: only gradients are asked of it, and its values need not be there.
    Unread,
}

/// What a block does.
type Run = dyn Fn(&Tensor, Output) -> Result<Tensor>;

/// One block of a tower.
#[derive(Clone)]
pub(super) struct Unit(Rc<Run>);

impl Unit {
    pub(super) fn new(run: impl Fn(&Tensor, Output) -> Result<Tensor> + 'static) -> Self {
        Self(Rc::new(run))
    }
}

/// Which blocks of a tower are run again in backward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// None.
    Keep,
    /// Every block, cut into this many segments of blocks in a row.
    Segments(usize),
    /// Each block that is marked, by itself.
    Blocks(Vec<bool>),
}

impl Plan {
    /// Runs of blocks, and whether each is run again.
    fn cut(&self, blocks: usize) -> Vec<(Range<usize>, bool)> {
        match self {
            Self::Keep => vec![(0..blocks, false)],
            Self::Segments(count) => {
                let count = (*count).clamp(1, blocks.max(1));
                let at = |i: usize| i * blocks / count;
                (0..count).map(|i| (at(i)..at(i + 1), true)).collect()
            }
            Self::Blocks(again) => (0..blocks)
                .map(|i| (i..i + 1, again.get(i).copied().unwrap_or(true)))
                .collect(),
        }
    }
}

/// Runs the blocks of a tower one after another. `random` ones get the generator's state restored for
/// their second run.
pub(super) fn run(
    x: &Tensor,
    units: Vec<Unit>,
    plan: &Plan,
    random: bool,
    pass: Pass,
) -> Result<Tensor> {
    let plan = if pass.train { plan } else { &Plan::Keep };
    let mut x = x.shallow_clone();
    for (range, again) in plan.cut(units.len()) {
        let units = units.get(range).unwrap_or_default();
        if !again {
            for unit in units {
                x = (unit.0)(&x, Output::Read)?;
            }
            continue;
        }
        let units = units.to_vec();
        let outputs = try_checkpoint(&[x], random, move |inputs| {
            let mut x = inputs[0].shallow_clone();
            for (i, unit) in units.iter().enumerate() {
                let unread = i + 1 == units.len() && output_is_unread();
                let output = if unread { Output::Unread } else { Output::Read };
                x = (unit.0)(&x, output)?;
            }
            Ok(vec![x])
        })?;
        x = outputs
            .into_iter()
            .next()
            .ok_or_else(|| Error::Dimensions("a checkpointed block gave no tensor".to_owned()))?;
    }
    Ok(x)
}

/// Values of a block that live until its backward pass, in numbers of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// Its input alone, which is kept in any case.
    pub(super) input: i64,
    /// All that it keeps if it is not run again, its input too.
    pub(super) kept: i64,
}

impl Cost {
    /// Adds another view's.
    fn add(&mut self, view: Self) {
        self.input += view.input;
        self.kept += view.kept;
    }
}

/// Costs of all views together, block by block.
pub(super) fn sum(views: &[Vec<Cost>]) -> Vec<Cost> {
    let Some((first, others)) = views.split_first() else {
        return Vec::new();
    };
    let mut sum = first.clone();
    for view in others {
        let pairs = sum.iter_mut().zip(view);
        pairs.for_each(|(sum, view)| sum.add(*view));
    }
    sum
}

/// Marks the blocks to run again if memory is not to peak above that of running all again: all but the
/// last, which backward begins with. What those keep is free again when the largest of the others is there
/// once more, with gradients of half as much. For a tower that one batch goes through.
pub(super) fn all_but_last(costs: &[Cost]) -> Vec<bool> {
    let whole = costs.iter().map(|cost| cost.kept).max().unwrap_or(0);
    let mut room = whole + whole / 2;
    let mut again = vec![true; costs.len()];
    for (cost, again) in costs.iter().zip(&mut again).rev() {
        room -= cost.kept;
        if room < 0 {
            break;
        }
        *again = false;
    }
    again
}

/// What an experiment says about checkpointing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checkpoint {
    /// Keep all activations.
    Keep,
    /// Run the blocks of the vision tower again, each by itself, but for the last, which cost no memory.
    Vision,
    /// Cut each tower into this many segments.
    Segments(usize),
    /// Run as few blocks again as fit into a budget of bytes.
    Memory { budget: u64, element_bytes: u64 },
}

impl Checkpoint {
    pub(super) fn of(options: &Options) -> Self {
        if !options.checkpoint_grad {
            return Self::Keep;
        }
        match (options.checkpoint_segments, options.checkpoint_memory) {
            (Some(count), _) => Self::Segments(usize::try_from(count).unwrap_or(usize::MAX)),
            (None, Some(budget)) => Self::Memory {
                budget,
                element_bytes: options.kind.elt_size_in_bytes() as u64,
            },
            (None, None) => Self::Vision,
        }
    }
}

/// What a plan is expected to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointReport {
    /// Blocks of both towers.
    pub blocks: usize,
    /// Those that are run again in backward.
    pub recomputed: usize,
    /// Bytes that the blocks' activations are estimated to take at most.
    pub bytes: u64,
}

/// Chooses for each tower the blocks to run again, so that the activations of all towers fit into a
/// budget: as few as possible, the ones that free most first; all, if even that is not enough.
///
/// The estimate is the sum of what is kept, and once the largest block that is run again, which in
/// backward is whole for a moment.
pub(super) fn within(
    budget: u64,
    element_bytes: u64,
    towers: &[Vec<Cost>],
) -> (Vec<Vec<bool>>, CheckpointReport) {
    let mut order: Vec<(usize, usize)> = towers
        .iter()
        .enumerate()
        .flat_map(|(tower, costs)| (0..costs.len()).map(move |block| (tower, block)))
        .collect();
    let cost = |(tower, block): (usize, usize)| towers[tower][block];
    // Stable: of equal blocks the earlier goes first.
    order.sort_by_key(|at| std::cmp::Reverse(cost(*at).kept - cost(*at).input));
    let bytes = |elements: i64| elements.max(0).unsigned_abs().saturating_mul(element_bytes);
    let mut again: Vec<Vec<bool>> = towers
        .iter()
        .map(|costs| vec![false; costs.len()])
        .collect();
    let mut sum: i64 = order.iter().map(|at| cost(*at).kept).sum();
    let (mut whole, mut recomputed) = (0, 0);
    for at in &order {
        if bytes(sum + whole) <= budget {
            break;
        }
        let Cost { input, kept } = cost(*at);
        sum -= kept - input;
        whole = whole.max(kept - input);
        again[at.0][at.1] = true;
        recomputed += 1;
    }
    let report = CheckpointReport {
        blocks: order.len(),
        recomputed,
        bytes: bytes(sum + whole),
    };
    (again, report)
}

/// What one tower's plan is expected to take.
pub(super) fn estimate(element_bytes: u64, costs: &[Cost], again: &[bool]) -> CheckpointReport {
    let (mut sum, mut whole) = (0, 0);
    for (cost, again) in costs.iter().zip(again) {
        sum += if *again { cost.input } else { cost.kept };
        if *again {
            whole = whole.max(cost.kept - cost.input);
        }
    }
    CheckpointReport {
        blocks: costs.len(),
        recomputed: again.iter().filter(|again| **again).count(),
        bytes: (sum + whole)
            .max(0)
            .unsigned_abs()
            .saturating_mul(element_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of one input each.
    fn tower(input: i64, kept: &[i64]) -> Vec<Cost> {
        let cost = |&kept: &i64| Cost { input, kept };
        kept.iter().map(cost).collect()
    }

    #[test]
    fn segments_cover_every_block_once_in_order() {
        for blocks in [1, 5, 12, 16] {
            for count in [1, 2, 3, 7, 12, 40] {
                let cut = Plan::Segments(count).cut(blocks);
                assert_eq!(cut.len(), count.min(blocks));
                let all: Vec<usize> = cut.into_iter().flat_map(|(range, _)| range).collect();
                assert_eq!(all, (0..blocks).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_last_blocks_are_kept_where_that_costs_nothing() {
        let again = |kept: &[i64]| {
            let again = all_but_last(&tower(1, kept));
            again.iter().filter(|again| **again).count()
        };
        // ViT: the last block is for one token.
        assert_eq!(again(&[16, 16, 16, 4]), 2);
        assert_eq!(again(&[16, 16, 16, 16]), 3);
        // ResNet-50.
        assert_eq!(again(&[16, 16, 8, 8, 4, 4, 2, 2]), 3);
        assert_eq!(again(&[]), 0);
    }

    #[test]
    fn as_few_blocks_as_the_budget_allows() {
        let towers = [tower(10, &[100, 50, 50]), tower(10, &[80])];
        let plan = |budget| within(budget, 4, &towers);
        assert_eq!(plan(4 * 280).1.recomputed, 0);
        // 280 - 90 kept, and the largest once more: no gain from one block alone.
        let (again, report) = plan(4 * 279);
        assert_eq!(again, [vec![true, false, false], vec![true]]);
        assert_eq!((report.recomputed, report.bytes), (2, 4 * 210));
        let first = estimate(4, &towers[0], &again[0]);
        assert_eq!((first.recomputed, first.bytes), (1, 4 * (110 + 90)));
        assert_eq!(plan(4 * 170).1.recomputed, 3);
        let (again, report) = plan(1);
        assert_eq!(again, [vec![true; 3], vec![true]]);
        assert_eq!((report.blocks, report.bytes), (4, 4 * (40 + 90)));
    }
}
