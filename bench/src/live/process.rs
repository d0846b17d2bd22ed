//! CPU and memory of processes, seen from outside: `/proc`.
//!
//! Linux only; elsewhere nothing is found. Leaves out starting and stopping them.

use rustix::param::clock_ticks_per_second;

/// What one look at a process and its descendants found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// CPU in nanoseconds, of those that ended and were waited for too.
    pub(super) cpu_ns: u64,
    /// Resident memory in bytes.
    pub(super) rss_bytes: u64,
}

/// Looks at the process and its descendants; none if it is gone or the system has no `/proc`.
pub(super) fn look(pid: u32) -> Option<Look> {
    let mut sum = one(pid)?;
    for child in children(pid) {
        let of_child = look(child).unwrap_or_default();
        sum.cpu_ns += of_child.cpu_ns;
        sum.rss_bytes += of_child.rss_bytes;
    }
    Some(sum)
}

fn one(pid: u32) -> Option<Look> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = cpu_ticks(&stat)?;
    let pages: u64 = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split(' ').nth(1)?.parse().ok()?;
    let page = rustix::param::page_size() as u64;
    Some(Look { cpu_ns: ticks * (1_000_000_000 / clock_ticks_per_second()), rss_bytes: pages * page })
}

/// Children of every thread.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

/// User and system time, own and of children that were waited for: fields 14 to 17 of `/proc/PID/stat`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The command in brackets may hold blanks and brackets.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_behind_a_strange_name_are_found() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 11 22 33 44 20 0 1 0 555 1 2";
        assert_eq!(cpu_ticks(stat), Some(110));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_seen_and_an_impossible_one_is_not() {
        assert!(look(std::process::id()).is_some_and(|look| look.rss_bytes > 0));
        assert_eq!(look(u32::MAX), None);
    }
}
