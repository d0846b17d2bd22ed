//! Warming a real broker up before anything is measured: windows until three in a row agree.
//!
//! A server's compiler, caches and files are cold at first, and its first seconds say nothing of its later ones. Leaves out embedded
//! backends, which have nothing to warm between processes.

use std::sync::atomic::Ordering;

use brokerlab_model::Span;
use brokerlab_workloads::measurement::{Measurement, Point, World};

use crate::backend::Backend;
use crate::plan::Row;
use crate::session::Session;
use crate::task::Task;

/// Length of one window.
const WINDOW: Span = Span::from_secs(5);
/// After so many windows, a minute, it is as warm as it gets.
const MOST: usize = 12;
/// So many in a row have to agree,
const AGREEING: usize = 3;
/// within this factor, in rate and in end-to-end p99.
const WITHIN: f64 = 1.10;

/// One window's figures: acknowledged per second, and end-to-end response p99 in nanoseconds.
type Window = (f64, f64);

impl Session {
    /// Warms every real broker among the rows up, and notes how long it took.
    pub(crate) fn warm_up(&mut self, rows: &[Row]) -> anyhow::Result<()> {
        let mut done: Vec<&str> = Vec::new();
        for row in rows {
            let live = Backend::parse(&row.url)?.world() == World::Live;
            if !live || done.contains(&row.url.as_str()) || self.stopped.load(Ordering::Relaxed) {
                continue;
            }
            done.push(&row.url);
            if self.live.warm {
                self.note(format!("{} was not warmed up, as asked with --no-warm-up", row.label));
                continue;
            }
            let mut windows: Vec<Window> = Vec::new();
            while windows.len() < MOST && !settled(&windows) && !self.stopped.load(Ordering::Relaxed) {
                let measured = self.window_of(row, WINDOW)?;
                windows.push(figures(&measured)?);
            }
            self.note(told(&row.label, &windows));
        }
        Ok(())
    }

    fn window_of(&mut self, row: &Row, length: Span) -> anyhow::Result<Measurement> {
        let sets = [
            ("warmup", "0s".to_owned()),
            ("duration", format!("{}us", length.0 / 1_000)),
            ("pauses", "[]".to_owned()),
            ("faults", "[]".to_owned()),
        ];
        let task = Task {
            what: format!("warming up · {}", row.label),
            point: Point::Run,
            sets: sets.map(|(path, value)| (path.to_owned(), value)).to_vec(),
            load_factor: 1.0,
            replication: 0,
            profile: None,
        };
        self.measured(row, &task)
    }
}

fn figures(measured: &Measurement) -> anyhow::Result<Window> {
    let seconds = Span(measured.window.duration_ns.max(1)).as_secs_f64();
    let p99 = measured.end_to_end.response.quantile(measured.end_to_end.unfinished, 0.99)?;
    Ok((measured.counts.acknowledged as f64 / seconds, p99.or(measured.window.drain_limit_ns) as f64))
}

/// Whether the last windows agree.
fn settled(windows: &[Window]) -> bool {
    let Some(last) = windows.len().checked_sub(AGREEING).map(|from| &windows[from..]) else { return false };
    let spread = |of: fn(&Window) -> f64| {
        let (low, high) =
            last.iter().map(of).fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
        high <= low * WITHIN
    };
    spread(|window| window.0) && spread(|window| window.1)
}

fn told(row: &str, windows: &[Window]) -> String {
    let length = Span(WINDOW.0 * windows.len() as u64);
    if settled(windows) {
        format!("{row} was warmed up for {length}, until three windows of {WINDOW} agreed within 10 % in rate and p99")
    } else {
        format!(
            "{row} was warmed up for {length}, and its windows of {WINDOW} did not yet agree within 10 % in rate and p99"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_windows_in_a_row_have_to_agree_in_both_figures() {
        let cold = (50.0, 90.0);
        let warm = (100.0, 10.0);
        assert!(!settled(&[warm, warm]));
        assert!(settled(&[cold, warm, (105.0, 10.9), warm]));
        assert!(!settled(&[warm, warm, cold]));
        assert!(!settled(&[warm, warm, (100.0, 11.5)]));
        assert!(told("kafka", &[warm; 3]).contains("for 15 s, until"));
        assert!(told("kafka", &[cold, warm]).contains("did not yet agree"));
    }
}
