//! What the machine was doing beside us, and what we used: steal, throttling, other processes, write-back, our own CPU,
//! memory, context switches and bytes written.
//!
//! Every figure is a difference of two looks at the kernel's counters. Where the kernel does not tell (no `/proc`, a hidden
//! cgroup), a figure is absent, never zero. Leaves out what is too much, which `validity` decides.

use std::collections::BTreeMap;

use brokerlab_model::{Span, Time};
use brokerlab_workloads::measurement::{FitnessRecord, ResourceRecord, ServerRecord};
use rustix::time::{ClockId, clock_gettime};

use crate::clock::Clock;
use crate::spec::Server;

/// The kernel's counters at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    at: Time,
    process_cpu_ns: u64,
    machine: Option<Machine>,
    own: Option<Own>,
    throttled_ns: Option<u64>,
    /// Of each server that was named, in that order.
    servers: Vec<Own>,
}

/// Counters of the whole machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Machine {
    /// Core time of all states together, in nanoseconds.
    pub(crate) all: u64,
    /// Core time taken by the hypervisor.
    pub(crate) steal: u64,
    /// CPU of every other process, its reaped children included; the kernel's own threads, which work for whoever asks, are left out.
    pub(crate) others: u64,
}

/// Counters of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// CPU in both modes, its reaped children included.
    pub(crate) used_ticks: u64,
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    pub(crate) peak_rss_bytes: u64,
    pub(crate) voluntary: u64,
    pub(crate) involuntary: u64,
    pub(crate) write_bytes: u64,
}

impl Look {
    /// Reads the counters. Takes some milliseconds on a machine with many processes: not for the measured window.
    pub fn now(clock: &dyn Clock) -> Self {
        Self::beside(clock, &[])
    }

    /// As [`now`](Self::now), with the counters of these servers, which with all that they started count as none of the other
    /// processes.
    pub fn beside(clock: &dyn Clock, servers: &[Server]) -> Self {
        let ours: Vec<u32> = std::iter::once(std::process::id()).chain(servers.iter().map(|of| of.pid)).collect();
        let machine = system::machine(&ours);
        Self {
            servers: servers.iter().map(|server| system::of(server.pid).unwrap_or_default()).collect(),
            at: clock.now(),
            process_cpu_ns: cpu_ns(ClockId::ProcessCPUTime),
            machine,
            own: system::own(),
            throttled_ns: system::throttled_ns(),
        }
    }

    /// What this process used since `earlier`; peak memory is that of the whole process life.
    pub fn resources_since(&self, earlier: &Self) -> ResourceRecord {
        let cpu_ns = self.process_cpu_ns.saturating_sub(earlier.process_cpu_ns);
        let (Some(now), Some(then)) = (self.own, earlier.own) else {
            return ResourceRecord { cpu_user_ns: cpu_ns, ..ResourceRecord::default() };
        };
        // The sum is exact to the nanosecond, its two parts are known in ticks of 10 ms: they give its proportions.
        let (user, system) =
            (now.user_ticks.saturating_sub(then.user_ticks), now.system_ticks.saturating_sub(then.system_ticks));
        let system_share = if user + system == 0 { 0.0 } else { system as f64 / (user + system) as f64 };
        let cpu_system_ns = (cpu_ns as f64 * system_share) as u64;
        ResourceRecord {
            cpu_user_ns: cpu_ns - cpu_system_ns,
            cpu_system_ns,
            peak_rss_bytes: now.peak_rss_bytes,
            voluntary_context_switches: now.voluntary.saturating_sub(then.voluntary),
            involuntary_context_switches: now.involuntary.saturating_sub(then.involuntary),
            storage_write_bytes: now.write_bytes.saturating_sub(then.write_bytes),
        }
    }

    /// What each of the servers that both looks were given used since `earlier`; one that is gone used nothing that could be seen.
    pub fn servers_since(&self, earlier: &Self, servers: &[Server]) -> Vec<ServerRecord> {
        let looks = self.servers.iter().zip(&earlier.servers);
        let used = |(server, (now, then)): (&Server, (&Own, &Own))| ServerRecord {
            name: server.name.clone(),
            pid: server.pid,
            own: server.own,
            cpu_ns: now.used_ticks.saturating_sub(then.used_ticks) * system::tick_ns(),
            peak_rss_bytes: now.peak_rss_bytes,
            storage_write_bytes: now.write_bytes.saturating_sub(then.write_bytes),
        };
        servers.iter().zip(looks).map(used).collect()
    }

    /// How fit the machine was since `earlier`; what the harness knows of itself is left zero.
    pub fn fitness_since(&self, earlier: &Self) -> FitnessRecord {
        let mut fitness = FitnessRecord::default();
        if let (Some(now), Some(then)) = (&self.machine, &earlier.machine) {
            let elapsed = self.at.since(earlier.at).0;
            let all = now.all.saturating_sub(then.all);
            if all > 0 {
                fitness.steal_share = Some(now.steal.saturating_sub(then.steal) as f64 / all as f64);
            }
            if elapsed > 0 {
                let others = now.others.saturating_sub(then.others);
                fitness.other_processes_cores = Some(others as f64 / elapsed as f64);
            }
        }
        if let (Some(now), Some(then)) = (self.throttled_ns, earlier.throttled_ns) {
            fitness.cgroup_throttled_ns = Some(now.saturating_sub(then));
        }
        fitness
    }
}

/// What the sum over other processes needs of one.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only /proc tells it"))]
#[derive(Clone, Copy, Debug)]
struct Used {
    parent: u32,
    is_kernel: bool,
    ticks: u64,
}

/// CPU of all processes but these, what they started, and the kernel's threads.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only /proc tells it"))]
fn others(processes: &BTreeMap<u32, Used>, ours: &[u32]) -> u64 {
    let is_ours = |mut pid: u32| {
        // A parent may be gone or, between two reads, be somebody else's number: the walk is bounded.
        for _ in 0..processes.len() {
            if ours.contains(&pid) {
                return true;
            }
            let Some(used) = processes.get(&pid) else { return false };
            pid = used.parent;
        }
        false
    };
    processes.iter().filter(|&(&pid, used)| !used.is_kernel && !is_ours(pid)).map(|(_, used)| used.ticks).sum()
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu() -> Span {
    Span(cpu_ns(ClockId::ThreadCPUTime))
}

/// How often the calling thread gave up its core by itself, and how often it was taken from it.
pub(crate) fn thread_switches() -> Option<(u64, u64)> {
    system::thread_switches()
}

/// Bytes that the page cache has still to write to storage; none where the system does not tell.
pub fn dirty_bytes() -> Option<u64> {
    system::dirty_bytes()
}

/// Processes of this machine that listen on the TCP port; none where the system does not tell.
pub fn listeners(port: u16) -> Vec<u32> {
    system::listeners(port)
}

fn cpu_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

#[cfg(target_os = "linux")]
mod system {
    //! `/proc` and the cgroup's files.

    use std::fs::read_to_string;
    use std::path::Path;

    use procfs::net::TcpState;
    use procfs::process::{FDTarget, Process, Stat, all_processes};
    use procfs::{Current as _, CurrentSI as _, KernelStats, Meminfo};

    use super::{Machine, Own, Used, others};

    /// The flag of a thread that is the kernel's.
    const PF_KTHREAD: u32 = 0x0020_0000;

    pub(super) fn machine(ours: &[u32]) -> Option<Machine> {
        let tick_ns = tick_ns();
        let total = KernelStats::current().ok()?.total;
        let steal = total.steal.unwrap_or(0);
        let all = total.user
            + total.nice
            + total.system
            + total.idle
            + total.iowait.unwrap_or(0)
            + total.irq.unwrap_or(0)
            + total.softirq.unwrap_or(0)
            + steal;
        Some(Machine { all: all * tick_ns, steal: steal * tick_ns, others: others_ticks(ours)? * tick_ns })
    }

    /// CPU of other processes. A process that ends in between moves its share to the parent that reaps it, so the sum goes on rising.
    fn others_ticks(ours: &[u32]) -> Option<u64> {
        let stats = all_processes().ok()?.filter_map(|process| process.ok()?.stat().ok());
        let used = |stat: Stat| {
            let used = Used {
                parent: stat.ppid.cast_unsigned(),
                is_kernel: stat.flags & PF_KTHREAD != 0,
                ticks: used_ticks(&stat),
            };
            (stat.pid.cast_unsigned(), used)
        };
        Some(others(&stats.map(used).collect(), ours))
    }

    fn used_ticks(stat: &Stat) -> u64 {
        stat.utime + stat.stime + (stat.cutime + stat.cstime).max(0).cast_unsigned()
    }

    pub(super) fn own() -> Option<Own> {
        looked_at(&Process::myself().ok()?)
    }

    pub(super) fn of(pid: u32) -> Option<Own> {
        looked_at(&Process::new(pid.cast_signed()).ok()?)
    }

    pub(super) fn listeners(port: u16) -> Vec<u32> {
        let sockets = procfs::net::tcp().into_iter().chain(procfs::net::tcp6()).flatten();
        let listening: Vec<u64> = sockets
            .filter(|socket| socket.state == TcpState::Listen && socket.local_address.port() == port)
            .map(|socket| socket.inode)
            .collect();
        let holds = |process: &Process| {
            let descriptors = process.fd().into_iter().flatten().flatten();
            descriptors.into_iter().any(|fd| matches!(fd.target, FDTarget::Socket(inode) if listening.contains(&inode)))
        };
        let processes = all_processes().into_iter().flatten().flatten();
        processes.filter(|process| holds(process)).map(|process| process.pid.cast_unsigned()).collect()
    }

    pub(super) fn tick_ns() -> u64 {
        1_000_000_000 / procfs::ticks_per_second()
    }

    fn looked_at(process: &Process) -> Option<Own> {
        let (stat, status) = (process.stat().ok()?, process.status().ok()?);
        // Context switches are counted by thread and are lost with it: threads that end before the last look add their own.
        let mut own = Own {
            used_ticks: used_ticks(&stat),
            user_ticks: stat.utime,
            system_ticks: stat.stime,
            peak_rss_bytes: status.vmhwm.unwrap_or(0) * 1024,
            write_bytes: process.io().map_or(0, |io| io.write_bytes),
            ..Own::default()
        };
        for task in process.tasks().ok()?.flatten() {
            if let Ok(status) = task.status() {
                own.voluntary += status.voluntary_ctxt_switches.unwrap_or(0);
                own.involuntary += status.nonvoluntary_ctxt_switches.unwrap_or(0);
            }
        }
        Some(own)
    }

    pub(super) fn thread_switches() -> Option<(u64, u64)> {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        let status = Process::myself().ok()?.task_from_tid(thread).ok()?.status().ok()?;
        Some((status.voluntary_ctxt_switches?, status.nonvoluntary_ctxt_switches?))
    }

    pub(super) fn dirty_bytes() -> Option<u64> {
        let memory = Meminfo::current().ok()?;
        Some(memory.dirty + memory.writeback)
    }

    /// Time that the limits of this process's cgroup took from it: version 2 counts microseconds, version 1 nanoseconds.
    pub(super) fn throttled_ns() -> Option<u64> {
        let groups = read_to_string("/proc/self/cgroup").ok()?;
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let path = path.trim_start_matches('/');
            let found = if controllers.is_empty() {
                counter(&Path::new("/sys/fs/cgroup").join(path), "throttled_usec").map(|us| us * 1_000)
            } else if controllers.split(',').any(|c| c == "cpu") {
                let root = Path::new("/sys/fs/cgroup").join(controllers);
                counter(&root.join(path), "throttled_time")
            } else {
                None
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn counter(folder: &Path, name: &str) -> Option<u64> {
        let text = read_to_string(folder.join("cpu.stat")).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    //! No `/proc`: everything is absent.

    use super::{Machine, Own};

    pub(super) fn machine(_ours: &[u32]) -> Option<Machine> {
        None
    }

    pub(super) fn own() -> Option<Own> {
        None
    }

    pub(super) fn of(_pid: u32) -> Option<Own> {
        None
    }

    pub(super) fn tick_ns() -> u64 {
        0
    }

    pub(super) fn listeners(_port: u16) -> Vec<u32> {
        Vec::new()
    }

    pub(super) fn dirty_bytes() -> Option<u64> {
        None
    }

    pub(super) fn thread_switches() -> Option<(u64, u64)> {
        None
    }

    pub(super) fn throttled_ns() -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: u64, machine: Option<(u64, u64, u64)>) -> Look {
        Look {
            at: Time(at),
            process_cpu_ns: at / 2,
            machine: machine.map(|(all, steal, others)| Machine { all, steal, others }),
            own: machine.map(|_| Own {
                user_ticks: at / 100,
                system_ticks: at / 300,
                write_bytes: at,
                ..Own::default()
            }),
            throttled_ns: machine.map(|_| at / 10),
            servers: Vec::new(),
        }
    }

    #[test]
    fn figures_are_differences_of_two_looks() {
        let (before, after) = (look(1_000, Some((10_000, 0, 500))), look(4_000, Some((16_000, 60, 800))));
        let fitness = after.fitness_since(&before);
        assert_eq!(fitness.steal_share, Some(0.01));
        assert_eq!(fitness.other_processes_cores, Some(0.1));
        assert_eq!(fitness.cgroup_throttled_ns, Some(300));
        let used = after.resources_since(&before);
        assert_eq!((used.cpu_user_ns, used.cpu_system_ns, used.storage_write_bytes), (1125, 375, 3_000));
    }

    #[test]
    fn a_broker_s_children_and_the_kernel_are_no_others() {
        let used = |parent, is_kernel, ticks| Used { parent, is_kernel, ticks };
        let processes = BTreeMap::from([
            (1, used(0, false, 1)),
            (2, used(0, true, 10)),
            (3, used(2, true, 100)),
            // Us with a child, a server with a grandchild, somebody else, and one whose parent is gone.
            (10, used(1, false, 1_000)),
            (11, used(10, false, 1_000)),
            (20, used(1, false, 10_000)),
            (21, used(20, false, 10_000)),
            (22, used(21, false, 10_000)),
            (30, used(1, false, 100_000)),
            (40, used(39, false, 1_000_000)),
            // Parents of each other: a number was taken again between two reads.
            (50, used(51, false, 10_000_000)),
            (51, used(50, false, 10_000_000)),
        ]);
        assert_eq!(others(&processes, &[10, 20]), 21_100_001);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_listener_is_found_by_its_port_and_looked_at() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = std::process::id();
        // A process that another test starts just now has it too, until it becomes another program.
        assert!(listeners(port).contains(&own));
        drop(listener);
        assert!(!listeners(port).contains(&own));
        let servers = [Server { name: "us".to_owned(), pid: own, own: true }];
        let clock = crate::clock::WallClock::new();
        let (before, after) = (Look::beside(&clock, &servers), Look::beside(&clock, &servers));
        let used = after.servers_since(&before, &servers);
        assert_eq!((used.len(), used[0].name.as_str(), used[0].own), (1, "us", true));
        assert!(used[0].peak_rss_bytes > 0);
    }

    #[test]
    fn what_the_system_does_not_tell_is_absent_and_not_zero() {
        let fitness = look(9, None).fitness_since(&look(1, None));
        assert_eq!(fitness.steal_share, None);
        assert_eq!(fitness.other_processes_cores, None);
        assert_eq!(fitness.cgroup_throttled_ns, None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_of_itself_and_of_others() {
        let look = Look::now(&crate::clock::WallClock::new());
        assert!(look.machine.is_some_and(|m| m.all > 0 && m.others > 0));
        assert!(look.own.is_some_and(|o| o.peak_rss_bytes > 0));
        assert!(dirty_bytes().is_some());
    }
}
