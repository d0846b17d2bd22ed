//! What a row's windowed analytics found, group by group, over its visits together.
//!
//! Leaves out staircases and cells that stand apart: their results are those of another load.

use brokerlab_workloads::measurement::AnalyticsRecord;

use crate::figures;
use crate::rows::Row;

/// One group's windows in all visits of a row. Counts are sums over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The group.
    pub group: &'a str,
    /// How many visits there were.
    pub visits: usize,
    /// In how many of them the results equal the batch computation's.
    pub equal: usize,
    /// What was counted.
    pub sum: AnalyticsRecord,
}

/// What a row's groups found; nothing where the profile asks for no windows.
pub fn of<'a>(row: &Row<'a>) -> Vec<Found<'a>> {
    let mut all: Vec<Found<'a>> = Vec::new();
    for group in row.visits.iter().flat_map(|visit| &visit.cell.groups) {
        let Some(record) = &group.analytics else { continue };
        if let Some(found) = all.iter_mut().find(|found| found.group == group.name) {
            found.add(record);
        } else {
            let equal = usize::from(record.is_equal());
            all.push(Found { group: &group.name, visits: 1, equal, sum: record.clone() });
        }
    }
    all
}

impl Found<'_> {
    fn add(&mut self, record: &AnalyticsRecord) {
        self.visits += 1;
        self.equal += usize::from(record.is_equal());
        let sum = &mut self.sum;
        let counts = [
            (&mut sum.events, record.events),
            (&mut sum.results, record.results),
            (&mut sum.updates, record.updates),
            (&mut sum.withdrawn, record.withdrawn),
            (&mut sum.late, record.late),
            (&mut sum.partly_late, record.partly_late),
        ];
        for (sum, count) in counts {
            *sum += count;
        }
        sum.difference = sum.difference.take().or_else(|| record.difference.clone());
        sum.not_compared = sum.not_compared.take().or_else(|| record.not_compared.clone());
    }

    /// Whether every visit's results equal the batch computation's.
    pub fn is_equal(&self) -> bool {
        self.equal == self.visits
    }

    /// How the results stand against the batch computation over the schedule, in words.
    pub fn verdict(&self) -> String {
        let of = if self.visits > 1 { format!(" in {} of {} visits", self.equal, self.visits) } else { String::new() };
        match (&self.sum.difference, &self.sum.not_compared) {
            (Some(difference), _) if self.visits == 1 => format!("differs from the batch computation: {difference}"),
            (Some(difference), _) => format!("equal to the batch computation{of}; first difference: {difference}"),
            (None, Some(why)) if self.visits == 1 => format!("not compared: {why}"),
            (None, Some(why)) => format!("equal to the batch computation{of}; not compared: {why}"),
            (None, None) => format!("equal to the batch computation{of}"),
        }
    }

    /// A line for the console, without the row's label.
    pub fn line(&self) -> String {
        let AnalyticsRecord { windows, results, updates, withdrawn, late, partly_late, .. } = &self.sum;
        let count = |n: &u64| figures::count(*n);
        let mut parts = vec![format!("{} windows of keys", count(results)), format!("{} late", count(late))];
        let others = [(partly_late, "late for some windows"), (updates, "updates"), (withdrawn, "withdrawn")];
        parts.extend(others.iter().filter(|(n, _)| **n > 0).map(|(n, what)| format!("{} {what}", count(n))));
        format!("{}: {windows}: {}; {}", self.group, parts.join(", "), self.verdict())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(results: u64, late: u64, difference: Option<&str>) -> AnalyticsRecord {
        let windows = "tumbling, 1 s".to_owned();
        AnalyticsRecord {
            windows,
            results,
            late,
            difference: difference.map(str::to_owned),
            ..AnalyticsRecord::default()
        }
    }

    fn found(sum: AnalyticsRecord) -> Found<'static> {
        Found { group: "g", visits: 1, equal: usize::from(sum.is_equal()), sum }
    }

    #[test]
    fn one_visit_says_whether_it_is_equal_and_where_it_is_not() {
        let equal = found(record(1_200, 3, None));
        assert_eq!(equal.line(), "g: tumbling, 1 s: 1,200 windows of keys, 3 late; equal to the batch computation");
        let other = found(record(1, 0, Some("the window")));
        assert_eq!(other.verdict(), "differs from the batch computation: the window");
        let none = found(AnalyticsRecord { not_compared: Some("too many".to_owned()), ..record(1, 0, None) });
        assert_eq!((none.verdict(), none.is_equal()), ("not compared: too many".to_owned(), false));
    }

    #[test]
    fn several_visits_are_added_up() {
        let mut all = found(record(10, 1, None));
        all.add(&record(20, 2, Some("the window")));
        all.add(&AnalyticsRecord { updates: 4, ..record(30, 0, Some("another")) });
        assert_eq!((all.sum.results, all.sum.late, all.sum.updates, all.equal, all.visits), (60, 3, 4, 1, 3));
        let words = "equal to the batch computation in 1 of 3 visits; first difference: the window";
        assert_eq!(all.verdict(), words);
        assert_eq!(all.line(), format!("g: tumbling, 1 s: 60 windows of keys, 3 late, 4 updates; {words}"));
    }
}
