//! Charts as inline SVG: axes of our own on plotters' chart, drawn through a backend that emits classes instead of colours.
//!
//! Leaves out what is drawn (`page`) and how it looks (the page's style sheet).

mod axis;
mod plot;
mod svg;

pub(crate) use axis::Axis;
pub(crate) use plot::{Band, Bar, Ident, Line, Mark, Plot, Rule};
