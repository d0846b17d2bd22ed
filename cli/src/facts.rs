//! What a result says about where and from what it came: the machine, the storage, the program's revision, the command line.

use std::path::Path;

use brokerlab_model::Storage;
use brokerlab_reports::result::HostFacts;

/// The program's git revision; none when it was built outside a work tree.
pub(crate) fn revision() -> Option<String> {
    Some(env!("BROKERLAB_REVISION")).filter(|revision| !revision.is_empty()).map(str::to_owned)
}

/// The command line as it was typed, with whatever stands between `:` and `@` of a URL taken out.
pub(crate) fn command_line() -> String {
    std::env::args()
        .enumerate()
        .map(|(n, word)| if n == 0 { "brokerlab".to_owned() } else { quoted(&hidden(&word)) })
        .collect::<Vec<_>>()
        .join(" ")
}

/// A word without its password.
fn hidden(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let Some((user, host)) = rest.split_once('@') else { return word.to_owned() };
    let name = user.split(':').next().unwrap_or_default();
    format!("{scheme}://{name}:***@{host}")
}

/// A word that a shell reads back as it is.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:%+@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The machine, and what lies below `data`.
pub(crate) fn host(data: &Path, storage: Storage) -> HostFacts {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let below = brokerlab_embedded::StorageFacts::below(data, storage);
    HostFacts {
        cores: std::thread::available_parallelism().map_or(0, |n| n.get() as u32),
        memory_bytes: memory_bytes(&read("/proc/meminfo")),
        kernel: format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim()),
        cpu_model: cpu_model(&read("/proc/cpuinfo")),
        file_system: below.file_system,
        device: below.device,
        write_cache: format!("{}; {}", below.write_cache, below.fsync_note),
    }
}

fn memory_bytes(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn cpu_model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or_else(|| "unknown".to_owned(), |rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
}

/// Nanoseconds since 1970.
pub(crate) fn utc_ns() -> u64 {
    brokerlab_host::clock::Clock::origin_utc_ns(&brokerlab_host::clock::WallClock::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_never_reaches_a_result() {
        assert_eq!(
            hidden("amqp://guest:secret@127.0.0.1:5672?queue=quorum"),
            "amqp://guest:***@127.0.0.1:5672?queue=quorum"
        );
        assert_eq!(hidden("log?partitions=8"), "log?partitions=8");
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(quoted("log?partitions=8"), "'log?partitions=8'");
        assert_eq!(quoted("--rate=20k/s"), "--rate=20k/s");
    }

    #[test]
    fn memory_and_processor_are_read_from_the_kernel_s_text() {
        assert_eq!(memory_bytes("MemTotal:       24 kB\nMemFree: 1 kB\n"), 24 * 1024);
        assert_eq!(cpu_model("processor : 0\nmodel name\t: Some CPU\n"), "Some CPU");
    }
}
