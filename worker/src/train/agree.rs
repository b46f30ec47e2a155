//! The one small collective that ends a step: loss terms, trouble, and wishes of all ranks, summed.
//! What a rank wants becomes what all do, at the same step boundary.

use anyhow::Result;
use rocket_common::protocol::StopReason;
use tch::{Kind, Tensor};
use tch_distributed::{ProcessGroup, ReduceOp};

use super::stop;

/// What one rank brings to the end of a step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Say {
    /// The rank was asked to stop.
    pub stop: Option<StopReason>,
    /// The rank's clock says that a checkpoint is due (the lead's counts).
    pub save: bool,
    /// Loss or gradient is not finite here.
    pub not_finite: bool,
    /// The gradient overflowed float16 here.
    pub overflow: bool,
    /// Samples of this step that could not be read.
    pub bad: u64,
    /// Different samples of this epoch that could not be read so far.
    pub bad_this_epoch: u64,
    /// Loss terms and metrics of this rank, each a mean over the micro-batches.
    pub terms: Vec<f64>,
}

/// What all ranks agreed on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Agreed {
    /// Stop at this boundary.
    pub stop: Option<StopReason>,
    /// Save at this boundary.
    pub save: bool,
    /// The step is not finite on some rank and must not be taken.
    pub not_finite: bool,
    /// The gradient overflowed on some rank, and no rank takes the step.
    pub overflow: bool,
    /// Unreadable samples of this step on all ranks.
    pub bad: u64,
    /// Unreadable samples of this epoch on all ranks, which see different samples.
    pub bad_this_epoch: u64,
    /// Means over the ranks.
    pub terms: Vec<f64>,
}

const SAVE: usize = stop::NUM_SLOTS;
const NOT_FINITE: usize = SAVE + 1;
const OVERFLOW: usize = NOT_FINITE + 1;
const BAD: usize = OVERFLOW + 1;
const BAD_THIS_EPOCH: usize = BAD + 1;
const TERMS: usize = BAD_THIS_EPOCH + 1;

impl Say {
    fn encode(&self) -> Vec<f64> {
        let flag = |set: bool| f64::from(u8::from(set));
        let mut slots = stop::encode(self.stop).to_vec();
        slots.extend([
            flag(self.save),
            flag(self.not_finite),
            flag(self.overflow),
            self.bad as f64,
            self.bad_this_epoch as f64,
        ]);
        slots.extend(&self.terms);
        slots
    }

    fn decode(sums: &[f64], world_size: f64) -> Agreed {
        Agreed {
            stop: stop::decode(sums),
            save: sums[SAVE] > 0.0,
            not_finite: sums[NOT_FINITE] > 0.0,
            overflow: sums[OVERFLOW] > 0.0,
            bad: sums[BAD] as u64,
            bad_this_epoch: sums[BAD_THIS_EPOCH] as u64,
            terms: sums[TERMS..].iter().map(|sum| sum / world_size).collect(),
        }
    }

    /// Brings this rank's say together with the others'.
    ///
    /// # Errors
    /// When a peer is lost.
    pub fn agree(&self, group: &ProcessGroup) -> Result<Agreed> {
        // A NaN in one rank's terms must not hide another rank's flags: each has a slot of its own.
        let slots = Tensor::from_slice(&self.encode()).to_kind(Kind::Double);
        group.all_reduce(&slots, ReduceOp::Sum)?;
        Ok(Self::decode(
            &Vec::<f64>::try_from(slots)?,
            group.world_size() as f64,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_rank_says_all_hear() {
        let quiet = Say {
            terms: vec![1.0, 2.0],
            ..Say::default()
        };
        let loud = Say {
            stop: Some(StopReason::Preempted),
            save: true,
            not_finite: true,
            overflow: true,
            bad: 3,
            bad_this_epoch: 5,
            terms: vec![f64::NAN, 4.0],
        };
        let sums: Vec<f64> = quiet
            .encode()
            .iter()
            .zip(loud.encode())
            .map(|(a, b)| a + b)
            .collect();
        let agreed = Say::decode(&sums, 2.0);
        assert_eq!(agreed.stop, Some(StopReason::Preempted));
        assert!(agreed.save && agreed.not_finite && agreed.overflow);
        assert!(agreed.terms[0].is_nan());
        assert_eq!((agreed.bad, agreed.terms[1]), (3, 3.0));
    }
}
