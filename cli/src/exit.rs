//! Exit codes, and the one error type that carries them out of a subcommand.
//!
//! Leaves out the judgement of results, which is in `brokerlab-reports`.

use std::fmt;
use std::process::ExitCode;

/// How a command ended. The first that applies, in the order 2, 1, 3, 4, 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; findings are no failures.
    Success,
    /// Input or output failed, or the run was cut short.
    Failure,
    /// A profile, flag, trace or result file is wrong.
    BadInput,
    /// A contract was broken, an objective missed, or an exact count rose.
    Broken,
    /// A run that is not valid or is saturated.
    NotValid,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0u8,
            Exit::Failure => 1,
            Exit::BadInput => 2,
            Exit::Broken => 3,
            Exit::NotValid => 4,
        })
    }
}

/// What a user typed or wrote is wrong: ends with exit code 2 instead of 1.
#[derive(Debug)]
pub(crate) struct BadInput(String);

impl BadInput {
    /// Wraps a message that already names file, line, key and remedy.
    pub(crate) fn error(message: impl fmt::Display) -> anyhow::Error {
        anyhow::Error::new(Self(message.to_string()))
    }
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// The exit code of an error.
pub(crate) fn of_error(error: &anyhow::Error) -> Exit {
    if error.chain().any(<dyn std::error::Error>::is::<BadInput>) { Exit::BadInput } else { Exit::Failure }
}
