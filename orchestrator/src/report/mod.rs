//! What is told of runs after the fact: comparisons, pictures' data, and the page.

mod compare;
mod config;
mod facts;
mod page;
mod panels;
mod picture;
mod scores;
mod sections;
mod select;
mod summary;

pub(crate) use compare::{
    Comparison, FirstDifference, Options as CompareOptions, Subject, series_diff, within_up_to,
};
pub(crate) use config::flat;
pub(crate) use facts::Facts;
pub(crate) use page::{data, render};
pub(crate) use picture::{Options as PlotOptions, picture};
pub(crate) use select::select;
