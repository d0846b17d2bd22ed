//! The regression check: exact counts of the fixed cases against those of a base.
//!
//! The counts do not depend on the machine, so any increase is a change of the program. Leaves out anything timed.

use crate::result::{Command, FixedCase, ResultFile};

/// How the fixed cases of a result stand against a base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgainstReport {
    /// Counts that rose.
    pub increases: Vec<Change>,
    /// Counts that fell.
    pub decreases: Vec<Change>,
    /// Cases that can't be compared: another case, digest or number of messages, or absent from one side.
    pub incomparable: Vec<String>,
    /// Counts that were compared and are equal.
    pub equal: usize,
}

/// One count that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The backend.
    pub backend: String,
    /// The count's name in the result file.
    pub count: &'static str,
    /// In the base.
    pub base: u64,
    /// In the new result.
    pub new: u64,
}

impl std::fmt::Display for Change {
    /// `log: fsyncs 40 → 41 (+2.5 %)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} {} → {}", self.backend, self.count, self.base, self.new)?;
        if self.base > 0 {
            write!(f, " ({:+.1} %)", (self.new as f64 / self.base as f64 - 1.0) * 100.0)?;
        }
        Ok(())
    }
}

impl AgainstReport {
    /// 2 when cases can't be compared, 3 when a count rose, else 0.
    pub fn exit_code(&self) -> u8 {
        match (self.incomparable.is_empty(), self.increases.is_empty()) {
            (false, _) => 2,
            (true, false) => 3,
            (true, true) => 0,
        }
    }

    /// What was found, a line each, worst first.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.incomparable.clone();
        lines.extend(self.increases.iter().map(|c| format!("{c}: more than the base")));
        lines.extend(
            self.decreases.iter().map(|c| format!("{c}: improved; store this result as the new base to keep it")),
        );
        if lines.is_empty() {
            lines.push(format!("{} exact counts, all equal to the base", self.equal));
        } else if self.incomparable.is_empty() {
            lines.push(format!("{} exact counts equal to the base", self.equal));
        }
        lines
    }
}

/// Holds the fixed cases of `new` against those of `base`.
pub fn against(base: &ResultFile, new: &ResultFile) -> AgainstReport {
    let mut report = AgainstReport::default();
    if base.fixed_cases.is_empty() {
        report.incomparable.push("the base holds no fixed case; write a new base with `compare`".to_owned());
    }
    let kind = match new.command {
        Command::Run | Command::Compare => None,
        Command::Capacity => Some("capacity"),
        Command::Sweep => Some("sweep"),
    };
    if let Some(kind) = kind.filter(|_| new.fixed_cases.is_empty()) {
        report
            .incomparable
            .push(format!("a {kind}'s result holds no fixed case; hold one of `run` or `compare` against the base"));
        return report;
    }
    for old in &base.fixed_cases {
        match new.fixed_cases.iter().find(|case| case.backend == old.backend) {
            Some(case) => hold(old, case, &mut report),
            None => report.incomparable.push(format!(
                "{}: the base has case `{}` and the new result has none for this backend; run the same backends as the base",
                old.backend, old.case
            )),
        }
    }
    for case in new.fixed_cases.iter().filter(|case| base.fixed_cases.iter().all(|old| old.backend != case.backend)) {
        report
            .incomparable
            .push(format!("{}: not in the base; write a new base with this backend, or leave it out", case.backend));
    }
    report
}

fn hold(old: &FixedCase, new: &FixedCase, report: &mut AgainstReport) {
    let name = &old.backend;
    if old.case != new.case {
        report
            .incomparable
            .push(format!("{name}: another case, `{}` in the base and `{}` now; write a new base", old.case, new.case));
        return;
    }
    if old.digest_sha256 != new.digest_sha256 || old.messages != new.messages {
        report.incomparable.push(format!(
            "{name}: other messages, digest {} × {} in the base and {} × {} now; use the base's profile and seed, or write a new base",
            short(&old.digest_sha256),
            old.messages,
            short(&new.digest_sha256),
            new.messages
        ));
        return;
    }
    for ((count, base), (_, new)) in counts(old).into_iter().zip(counts(new)) {
        let change = |new| Change { backend: name.clone(), count, base: base.unwrap_or(0), new };
        match (base, new) {
            (Some(b), Some(n)) if n > b => report.increases.push(change(n)),
            (Some(b), Some(n)) if n < b => report.decreases.push(change(n)),
            (Some(_), Some(_)) => report.equal += 1,
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => report.incomparable.push(format!(
                "{name}: `{count}` was counted on one side only; build both with the counting allocator"
            )),
        }
    }
}

/// Every exact count by its name in the file.
pub(crate) fn counts(case: &FixedCase) -> [(&'static str, Option<u64>); 9] {
    let c = &case.counts;
    [
        ("bytes_written", Some(c.bytes_written)),
        ("bytes_filled", Some(c.bytes_filled)),
        ("write_calls", Some(c.write_calls)),
        ("bytes_read", Some(c.bytes_read)),
        ("read_calls", Some(c.read_calls)),
        ("fsyncs", Some(c.fsyncs)),
        ("payload_copies", Some(c.payload_copies)),
        ("round_trips", Some(c.round_trips)),
        ("allocations", case.allocations),
    ]
}

/// The first twelve digits of a digest.
pub(crate) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
