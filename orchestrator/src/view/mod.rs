//! What people see of a run.

mod curve;
mod follow;
mod metrics;
mod panel;
mod plot;
mod run;
mod ticks;
mod words;

pub(crate) use curve::{Axis, Clock, smooth, thin};
pub(crate) use follow::{follow, wait_for_attempt};
pub(crate) use metrics::{Point, Series, read as read_metrics};
pub(crate) use plot::{Form, Line, Panel, Picture, plot};
pub(crate) use run::RunView;
pub(crate) use words::{duration, event_line, number, rate, size, time};
