//! What is made of measured cells: the result file, the statistics and the verdict on it, the page, the table, the regression check.
//!
//! Reads no clock and measures nothing; the same result gives the same bytes. Leaves out how cells come about (`host`).

pub mod against;
pub mod analytics;
mod apart;
pub mod capacity;
mod chart;
pub mod compare;
pub mod figures;
mod given_up;
pub mod headroom;
pub mod judgement;
mod limited;
pub mod live;
mod outages;
pub mod page;
mod reasons;
pub mod result;
pub mod rows;
pub mod sample;
pub mod sweep;
pub mod table;
pub mod verdict;

pub use against::{AgainstReport, against};
pub use page::render;
pub use result::{ReadError, ResultFile, WriteError, write_page};
pub use table::{Style, table};
pub use verdict::{Analysis, Conclusion, Decision, ExitInputs, conclude};
