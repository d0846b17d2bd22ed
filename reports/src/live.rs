//! What sets a real broker's row apart: the promise that it keeps against the one asked, and the servers that share the machine.
//!
//! Leaves out how a contract becomes settings, which each driver says, and the panel that shows it (`page/servers`).

use brokerlab_workloads::measurement::{LiveRecord, Measurement, ServerRecord, World};

use crate::figures::{self, and_list};
use crate::rows::Row;
use crate::verdict::{Analysis, EMBEDDED_CAVEAT, LOOPBACK_CAVEAT};

/// How what a row keeps stands to what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Exactly, or in this process.
    AsAsked,
    /// More, on these axes.
    Stronger(Vec<String>),
    /// Less, with what is missing: not comparable.
    Weaker(Vec<String>),
}

impl Strength {
    /// Of the row's first cell; all of a row are alike.
    pub fn of(row: &Row) -> Self {
        let Some((cell, live)) = row.example().and_then(|cell| Some((cell, cell.live.as_ref()?))) else {
            return Self::AsAsked;
        };
        let missing: Vec<String> = live
            .missing
            .iter()
            .map(|missing| format!("{} {}: {}", missing.axis, missing.asked, missing.reason))
            .collect();
        let stronger = live.kept.exceeds(&cell.contract);
        match (missing.is_empty(), stronger.is_empty()) {
            (false, _) => Self::Weaker(missing),
            (true, false) => Self::Stronger(stronger),
            (true, true) => Self::AsAsked,
        }
    }

    /// In words.
    pub fn text(&self) -> String {
        match self {
            Self::AsAsked => "as asked".to_owned(),
            Self::Stronger(axes) => format!("stronger than asked: {}", and_list(axes)),
            Self::Weaker(missing) => format!("weaker than asked: {}", missing.join("; ")),
        }
    }
}

/// The row's cells that came from a real broker, visits first.
pub(crate) fn record<'a>(row: &Row<'a>) -> Option<(&'a Measurement, &'a LiveRecord)> {
    row.example().and_then(|cell| Some((cell, cell.live.as_ref()?)))
}

/// What one server used over the windows of a result.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Used {
    pub(crate) name: String,
    /// None where each visit had another.
    pub(crate) pid: Option<u32>,
    /// CPU while its own row was measured, and over how long.
    pub(crate) own_cpu_ns: u64,
    pub(crate) own_ns: u64,
    /// Messages due in those windows.
    pub(crate) own_messages: u64,
    /// CPU while other rows were measured, and over how long.
    pub(crate) idle_cpu_ns: u64,
    pub(crate) idle_ns: u64,
    pub(crate) peak_rss_bytes: u64,
    pub(crate) storage_write_bytes: u64,
}

/// Every server on this machine, over all visits and runs.
pub(crate) fn servers(a: &Analysis) -> Vec<Used> {
    let mut all: Vec<Used> = Vec::new();
    let rows = || a.rows.iter().map(|j| &j.row);
    let visits = rows().flat_map(|row| row.visits.iter().map(|visit| visit.cell));
    for cell in visits.chain(rows().flat_map(|row| row.apart.iter().map(|stair| stair.cell))) {
        for server in &cell.servers {
            // Behind a loopback socket each visit has a process of its own: those of one backend with one set of parameters are one
            // server in turn.
            let of_visit = server.own && cell.world == World::Embedded;
            let pid = (!of_visit).then_some(server.pid);
            let name = if of_visit { &cell.backend_url } else { &server.name };
            let same = |used: &Used| used.pid == pid && (!of_visit || used.name == *name);
            let at = all.iter().position(same).unwrap_or_else(|| {
                all.push(Used { name: name.clone(), pid, ..Used::default() });
                all.len() - 1
            });
            all[at].add(server, cell);
        }
    }
    all
}

impl Used {
    fn add(&mut self, server: &ServerRecord, cell: &Measurement) {
        let length = cell.window.duration_ns.saturating_add(cell.window.drained_ns);
        let (cpu, over) = if server.own {
            self.own_messages = self.own_messages.saturating_add(cell.counts.due);
            self.storage_write_bytes = self.storage_write_bytes.saturating_add(server.storage_write_bytes);
            (&mut self.own_cpu_ns, &mut self.own_ns)
        } else {
            (&mut self.idle_cpu_ns, &mut self.idle_ns)
        };
        *cpu = cpu.saturating_add(server.cpu_ns);
        *over = over.saturating_add(length);
        self.peak_rss_bytes = self.peak_rss_bytes.max(server.peak_rss_bytes);
    }

    /// Share of a core that it took while others were measured; none when it never was beside another row.
    pub(crate) fn idle_cores(&self) -> Option<f64> {
        (self.idle_ns > 0).then(|| self.idle_cpu_ns as f64 / self.idle_ns as f64)
    }
}

/// What kind of systems the result is about, in a sentence or two; none when nothing has to be said.
pub(crate) fn caveat(a: &Analysis) -> Option<String> {
    let of = |world| a.candidates().any(|j| j.row.world == world);
    let mut parts: Vec<String> = Vec::new();
    let servers = servers(a);
    if !servers.is_empty() {
        let cores = figures::plural(u64::from(a.file.host.cores), "core");
        parts.push(format!("Generator and broker share {cores}: capacity is this host's."));
        let idle: Vec<String> = servers
            .iter()
            .filter_map(|used| Some(format!("{} {:.1} % of a core", used.name, used.idle_cores()? * 100.0)))
            .collect();
        if !idle.is_empty() {
            parts.push(format!("Idle beside the others: {}.", and_list(&idle)));
        }
    }
    if of(World::Embedded) {
        let beside = if of(World::Live) { "Embedded rows are shown beside, not ranked. " } else { "" };
        let mut models = a.candidates().filter(|j| j.row.world == World::Embedded).filter_map(|j| j.row.example());
        let apart = models.all(|cell| cell.loops.transport == "loopback");
        let caveat = if apart { LOOPBACK_CAVEAT } else { EMBEDDED_CAVEAT };
        parts.push(format!("{beside}{caveat}"));
    }
    (!parts.is_empty()).then(|| parts.join(" "))
}
