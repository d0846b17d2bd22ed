//! What a result comes to, as data for programs: the validity of every cell, and the conclusion. A reader of the document alone
//! never meets a quantile without its validity.
//!
//! Leaves out the judging itself: `workloads::validity` judges cells, `verdict` concludes.

use brokerlab_workloads::measurement::Point;
use brokerlab_workloads::record::DecodeError;
use brokerlab_workloads::validity::{Validity, judge};
use serde::{Deserialize, Serialize};

use crate::capacity::Answer;
use crate::result::ResultFile;
use crate::verdict::Analysis;

/// What a result comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Whether the figures can be believed as a whole.
    pub valid: bool,
    /// The verdict in one sentence.
    pub headline: String,
    /// The exit code, unless one row was required.
    pub exit_code: u8,
    /// Each cell's validity, in the order of the cells.
    pub cells: Vec<CellValidity>,
    /// What a search for capacity found, row by row; absent in another result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capacity: Vec<Answer>,
}

/// One cell's validity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellValidity {
    /// The cell's row.
    pub row: String,
    /// Which part of the comparison it is.
    pub point: Point,
    /// Its checks, and whether it was saturated.
    pub validity: Validity,
}

impl Judgement {
    /// Judges a result. An error means that a stored histogram can't be read.
    pub fn of(file: &ResultFile) -> Result<Self, DecodeError> {
        let Analysis { conclusion, answers, .. } = Analysis::of(file, "")?;
        let cells = file.cells.iter().map(|cell| {
            judge(cell).map(|validity| CellValidity { row: cell.row.clone(), point: cell.point.clone(), validity })
        });
        Ok(Self {
            valid: conclusion.valid,
            headline: conclusion.headline,
            exit_code: conclusion.exit.code(None),
            cells: cells.collect::<Result<_, _>>()?,
            capacity: answers,
        })
    }
}
