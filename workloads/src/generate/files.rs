//! The other files that a profile names: a trace, a text of lines. Read once, when the profile is.
//!
//! Leaves out their formats (`trace`, `parquet`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::trace::{Columns, Trace, read_csv};
use crate::profile::{Arrivals, Keys, Payload, Profile, ProfileError, Sizes};

/// Names that begin so stand for a file that is part of the program.
const BUILTIN: &str = "builtin:";
const FLIGHTS: &str = include_str!("../../traces/flights.csv");

/// What a profile's other files hold.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) trace: Option<Arc<Trace>>,
    pub(crate) lines: Option<Arc<Vec<u8>>>,
}

/// Why a file could not be used: the profile's key that names it and what is wrong, or a fault inside the file.
#[derive(Debug)]
pub(crate) enum FileFault {
    Named { key: &'static str, message: String, remedy: String },
    Inside(ProfileError),
}

/// Reads the trace and the lines that a profile names; relative names are relative to `folder`. Columns of keys and sizes
/// are read only where the profile takes its keys and sizes from them.
pub(crate) fn load(profile: &Profile, folder: Option<&Path>) -> Result<Files, FileFault> {
    let mut files = Files::default();
    if let Arrivals::Trace { file, time, unit, key, size, .. } = &profile.arrivals {
        let (size, min_size) = match &profile.sizes {
            Sizes::Trace { min } => (size.as_deref(), min.map_or(0, |m| m.0)),
            Sizes::Fixed { .. } | Sizes::Uniform { .. } | Sizes::LogNormal { .. } | Sizes::Empirical { .. } => {
                (None, 0)
            }
        };
        let key = key.as_deref().filter(|_| profile.keys == Keys::Trace);
        let columns = Columns { time, unit: *unit, key, size, min_size };
        files.trace = Some(Arc::new(trace(file, columns, folder)?));
    }
    if let Payload::Lines { file } = &profile.payload {
        let path = locate(file, folder);
        let text = std::fs::read(&path).map_err(|e| unreadable("payload.file", &path, &e))?;
        if text.is_empty() {
            let message = format!("{} holds no line", path.display());
            return Err(FileFault::Named { key: "payload.file", message, remedy: "write at least one line".into() });
        }
        files.lines = Some(Arc::new(text));
    }
    Ok(files)
}

fn trace(file: &str, columns: Columns<'_>, folder: Option<&Path>) -> Result<Trace, FileFault> {
    const KEY: &str = "arrivals.file";
    if let Some(name) = file.strip_prefix(BUILTIN) {
        return match name {
            "flights.csv" => read_csv(FLIGHTS, file, columns).map_err(FileFault::Inside),
            _ => Err(FileFault::Named {
                key: KEY,
                message: format!("no trace `{name}` is part of the program"),
                remedy: "write builtin:flights.csv, or a file beside the profile".into(),
            }),
        };
    }
    let path = locate(file, folder);
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet")) {
        return parquet(&path, columns);
    }
    let bytes = std::fs::read(&path).map_err(|e| unreadable(KEY, &path, &e))?;
    let text = String::from_utf8(bytes).map_err(|e| FileFault::Named {
        key: KEY,
        message: format!("{} is not text from byte {} on", path.display(), e.utf8_error().valid_up_to()),
        remedy: "write the trace as CSV in UTF-8, or name a *.parquet file".into(),
    })?;
    read_csv(&text, &path.display().to_string(), columns).map_err(FileFault::Inside)
}

#[cfg(feature = "parquet")]
fn parquet(path: &Path, columns: Columns<'_>) -> Result<Trace, FileFault> {
    super::parquet::read(path, columns)
}

#[cfg(not(feature = "parquet"))]
fn parquet(path: &Path, _: Columns<'_>) -> Result<Trace, FileFault> {
    Err(FileFault::Named {
        key: "arrivals.file",
        message: format!("{} is Parquet, which this build does not read", path.display()),
        remedy: "build with --features parquet, or write the trace as CSV".into(),
    })
}

fn locate(file: &str, folder: Option<&Path>) -> PathBuf {
    folder.map_or_else(|| PathBuf::from(file), |f| f.join(file))
}

pub(crate) fn unreadable(key: &'static str, path: &Path, error: &std::io::Error) -> FileFault {
    FileFault::Named {
        key,
        message: format!("{} cannot be read: {error}", path.display()),
        remedy: "name a readable file; a relative name is relative to the profile's folder".into(),
    }
}
