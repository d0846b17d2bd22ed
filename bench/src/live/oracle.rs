//! What a pause of the broker must show, computed: 5 s in a run of 60 s at a constant rate, from the intended starts.
//!
//! Messages due in the pause wait for its end and then for those before them: with x = rate ÷ drain rate, the message due t seconds into
//! the pause is done 5 + x·t seconds after the pause began. Its response is 5 − (1 − x)·t, until that is nothing. So 5 ÷ (1 − x) of 60
//! seconds are touched, and the quantiles follow. Leaves out what a message takes without a pause, which is milliseconds.

/// Length of the pause.
pub(super) const PAUSE_S: f64 = 5.0;
/// Length of the run's window.
pub(super) const WINDOW_S: f64 = 60.0;

/// The `q` quantile of the response in seconds, where `x` is the rate ÷ the drain rate. Zero where the pause does not reach.
pub(super) fn response_s(q: f64, x: f64) -> f64 {
    (PAUSE_S - (1.0 - x) * (1.0 - q) * WINDOW_S).max(0.0)
}

/// Drain rate in messages per second from how many were acknowledged in each interval of so many `seconds`: the mean over the intervals that
/// lie wholly in the drain. These are the ones after the pause, without the first and the last, until a cumulative count has caught up
/// with what was due. None if fewer than one such interval is there.
pub(super) fn drain_rate(intervals: &[(f64, f64)], resumed: usize, seconds: f64) -> Option<f64> {
    let (mut due, mut done) = (0.0, 0.0);
    let mut caught_up = None;
    for (at, &(interval_due, interval_done)) in intervals.iter().enumerate() {
        due += interval_due;
        done += interval_done;
        // What is in flight at any time is no backlog: a fiftieth of a second's messages.
        if at >= resumed && due - done <= interval_due / seconds / 50.0 {
            caught_up = Some(at);
            break;
        }
    }
    let drain = intervals.get(resumed + 1..caught_up?)?;
    if drain.is_empty() {
        return None;
    }
    Some(drain.iter().map(|(_, done)| done).sum::<f64>() / (drain.len() as f64 * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-9
    }

    #[test]
    fn the_quantiles_are_those_of_the_closed_form() {
        for x in [0.0, 0.1, 0.36, 0.9] {
            assert!(close(response_s(0.95, x), 2.0 + 3.0 * x), "p95 at {x}");
            assert!(close(response_s(0.99, x), 4.4 + 0.6 * x), "p99 at {x}");
            assert!(close(response_s(1.0, x), 5.0), "maximum at {x}");
        }
        assert!(close(response_s(0.5, 0.1), 0.0), "most messages know of no pause");
    }

    /// The same from a simulation of every message: 20,000/s, a server that drains at 80,000/s.
    #[test]
    fn the_closed_form_is_what_every_single_message_sees() {
        let (rate, drain) = (20_000.0, 80_000.0);
        let mut free_at = 0.0_f64;
        let mut responses: Vec<f64> = (0..1_200_000)
            .map(|i| {
                let due = f64::from(i) / rate;
                let start = if (20.0..25.0).contains(&due) { 25.0_f64.max(free_at) } else { due.max(free_at) };
                free_at = start + 1.0 / drain;
                free_at - due
            })
            .collect();
        responses.sort_by(f64::total_cmp);
        for q in [0.95, 0.99] {
            let found = responses[(q * 1_200_000.0) as usize];
            assert!((found / response_s(q, rate / drain) - 1.0).abs() < 0.001, "{q}: {found}");
        }
    }

    #[test]
    fn the_drain_rate_leaves_out_intervals_that_are_not_all_drain() {
        // 10 a second; a pause over intervals 2 to 6; then 30 a second until the backlog of 50 is gone.
        let mut intervals = vec![(10.0, 10.0); 2];
        intervals.extend([(10.0, 0.0); 5]);
        intervals.extend([(10.0, 25.0), (10.0, 30.0), (10.0, 25.0)]);
        intervals.extend([(10.0, 10.0); 4]);
        assert_eq!(drain_rate(&intervals, 7, 1.0), Some(30.0));
        assert_eq!(drain_rate(&intervals[..8], 7, 1.0), None, "it never caught up");
    }
}
