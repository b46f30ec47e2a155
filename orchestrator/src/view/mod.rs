//! What people see of a run.

mod cells;
mod curve;
mod follow;
mod log;
mod many;
mod metrics;
mod moment;
mod panel;
mod plot;
mod run;
mod ticks;
mod watch;
mod words;

pub(crate) use cells::{cut, cut_line};
pub(crate) use curve::{Axis, Clock, smooth, thin};
pub(crate) use follow::{follow, wait_for_attempt};
pub(crate) use log::log_tail;
pub(crate) use many::Many;
pub(crate) use metrics::{Growing, Point, Series, read as read_metrics};
pub(crate) use moment::moment;
pub(crate) use plot::{Form, Line, Panel, Picture, plot};
pub(crate) use run::RunView;
pub(crate) use watch::watch;
pub(crate) use words::{duration, event_line, number, rate, size, time};
