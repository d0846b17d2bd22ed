//! When a Kafka broker appended each batch, read from the heads of the batches in its segment files.
//!
//! With `message.timestamp.type=LogAppendTime` a batch's greatest time stamp is the broker's own clock at its append. Reading heads takes
//! milliseconds, where a consumer would take the cores from what is measured. Heads are those of the record batch format, version 2 (Kafka's
//! documentation, "Message Format"). Leaves out the records.

use std::fs::{File, read_dir};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Bytes of a batch's head, up to its number of records.
const HEAD: usize = 61;

/// One batch: append time in milliseconds since 1970, and how many records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appended {
    pub(super) at_ms: u64,
    pub(super) records: u32,
}

/// Every batch of the only partition below `data` whose folder begins with `prefix`, in the order of the log. What is being written at the
/// end is left out.
pub(super) fn appended(data: &Path, prefix: &str) -> anyhow::Result<Vec<Appended>> {
    let entries = |folder: &Path| -> anyhow::Result<Vec<PathBuf>> {
        let entries = read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
        Ok(entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?)
    };
    let of_run = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // A topic that was deleted keeps its files for a while, under this ending.
        name.starts_with(prefix) && !name.ends_with("-delete")
    };
    let partitions: Vec<PathBuf> = entries(data)?.into_iter().filter(of_run).collect();
    let [partition] = partitions.as_slice() else {
        anyhow::bail!("{} partitions of the run are in {}, not one", partitions.len(), data.display());
    };
    let mut segments = entries(partition)?;
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    // Their names are their first offsets, in twenty digits.
    segments.sort();
    let mut batches = Vec::new();
    for segment in &segments {
        let file = File::open(segment).with_context(|| format!("can't open {}", segment.display()))?;
        read_heads(&file, &mut batches).with_context(|| format!("can't read {}", segment.display()))?;
    }
    Ok(batches)
}

fn read_heads(file: &File, batches: &mut Vec<Appended>) -> std::io::Result<()> {
    let (mut at, mut head) = (0, [0; HEAD]);
    loop {
        match file.read_exact_at(&mut head, at) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let field = |from: usize| u32::from_be_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
        let (length, time) = (field(8), u64::from(field(35)) << 32 | u64::from(field(39)));
        // Segments may end in zeros, where space was kept for more.
        if length == 0 {
            return Ok(());
        }
        batches.push(Appended { at_ms: time, records: field(57) });
        at += 12 + u64::from(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(at_ms: u64, records: u32, body: usize) -> Vec<u8> {
        let mut bytes = vec![0; HEAD + body];
        let length = (bytes.len() - 12) as u32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[35..43].copy_from_slice(&at_ms.to_be_bytes());
        bytes[57..61].copy_from_slice(&records.to_be_bytes());
        bytes
    }

    #[test]
    fn heads_are_read_segment_by_segment_until_the_torn_end() {
        let data = tempfile::tempdir().unwrap();
        let partition = data.path().join("brokerlab-1-messages-0");
        std::fs::create_dir(&partition).unwrap();
        for other in ["__consumer_offsets-0", "brokerlab-0-messages-0.5f-delete"] {
            std::fs::create_dir(data.path().join(other)).unwrap();
        }
        let late = 1_795_409_649_451;
        std::fs::write(partition.join("00000000000000000020.log"), [batch(late, 7, 9), vec![1; 30]].concat()).unwrap();
        std::fs::write(partition.join("00000000000000000020.index"), [9; 100]).unwrap();
        let first = [batch(5, 15, 1_000), batch(6, 5, 0), vec![0; 200]].concat();
        std::fs::write(partition.join("00000000000000000000.log"), first).unwrap();
        let found = appended(data.path(), "brokerlab-").unwrap();
        let expected = [(5, 15), (6, 5), (late, 7)].map(|(at_ms, records)| Appended { at_ms, records });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_run_has_one_partition() {
        let data = tempfile::tempdir().unwrap();
        assert!(appended(data.path(), "brokerlab-").unwrap_err().to_string().starts_with("0 partitions"));
        for n in 0..2 {
            std::fs::create_dir(data.path().join(format!("brokerlab-{n}"))).unwrap();
        }
        assert!(appended(data.path(), "brokerlab-").unwrap_err().to_string().starts_with("2 partitions"));
    }
}
