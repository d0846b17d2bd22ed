//! Prints one figure as a table. Exit status: 0 every goal is met, 1 one is missed, 2 no such figure. What follows the name is the
//! figure's own: a folder for what it keeps beside its table, or the rows to take.

use std::io::Write as _;
use std::process::ExitCode;

use brokerlab_bench::{FIGURES, take};

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    let Some(name) = std::env::args().nth(1) else {
        let names: String = FIGURES.iter().map(|(name, what)| format!("{name:<10} {what}\n")).collect();
        let _ = out.write_all(names.as_bytes());
        return ExitCode::SUCCESS;
    };
    match take(&name, &std::env::args().skip(2).collect::<Vec<_>>()) {
        None => {
            let _ = writeln!(std::io::stderr(), "no figure `{name}`; run without a name to list them");
            ExitCode::from(2)
        }
        Some(Err(error)) => {
            let _ = writeln!(std::io::stderr(), "{name}: {error:#}");
            ExitCode::FAILURE
        }
        Some(Ok(figure)) => {
            let _ = out.write_all(figure.print().as_bytes());
            if figure.met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}
