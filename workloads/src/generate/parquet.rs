//! A recorded trace stored as Parquet; behind the feature `parquet`, because its reader is heavy.
//!
//! Fills the same rows as CSV does, so that both are checked alike. A fault names the row, from 1, in place of a line.
//! Leaves out compressed files whose codec is neither Snappy nor gzip: the reader says which it found.

use std::fs::File;
use std::path::Path;

use brokerlab_model::Span;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};

use super::files::{FileFault, unreadable};
use super::trace::{Cell, Columns, RowFault, Rows, Trace, parse_time};
use crate::profile::ProfileError;

/// Reads a trace. Times are numbers of `unit`s, texts as in CSV, or time stamps of Parquet's own.
pub(crate) fn read(path: &Path, columns: Columns<'_>) -> Result<Trace, FileFault> {
    let file = path.display().to_string();
    let whole = |message: String, remedy: &str| FileFault::Inside(ProfileError::whole(&file, message, remedy));
    let broken = |e: parquet::errors::ParquetError| {
        whole(format!("this is not Parquet that can be read: {e}"), "write it anew, with Snappy or without compression")
    };
    let reader = SerializedFileReader::new(File::open(path).map_err(|e| unreadable("arrivals.file", path, &e))?);
    let reader = reader.map_err(broken)?;
    let schema = reader.metadata().file_metadata().schema();
    let known: Vec<&str> = schema.get_fields().iter().map(|f| f.name()).collect();
    for name in [Some(columns.time), columns.key, columns.size].into_iter().flatten() {
        if !known.contains(&name) {
            let remedy = format!("name one of its columns in `arrivals`: {}", known.join(", "));
            return Err(whole(format!("there is no column `{name}`"), &remedy));
        }
    }
    let mut rows = Rows::new(columns.min_size);
    for (i, row) in reader.get_row_iter(None).map_err(broken)?.enumerate() {
        push(&mut rows, &row.map_err(broken)?, columns).map_err(|fault| {
            let name = match fault.column {
                Cell::Time => columns.time,
                Cell::Size => columns.size.unwrap_or_default(),
            };
            whole(format!("row {}, column `{name}`: {}", i + 1, fault.message), fault.remedy)
        })?;
    }
    rows.finish().map_err(|(message, remedy)| whole(message.to_owned(), remedy))
}

fn push(rows: &mut Rows, row: &Row, columns: Columns<'_>) -> Result<(), RowFault> {
    let cell = |name: &str| row.get_column_iter().find(|(n, _)| n.as_str() == name).map(|(_, field)| field);
    let time = cell(columns.time).and_then(|field| nanoseconds(field, columns.unit)).ok_or_else(|| RowFault {
        column: Cell::Time,
        message: "this is not a time".to_owned(),
        remedy: "write a number of `unit`s, a time stamp, or a date such as 2001-01-01T06:55:00Z",
    })?;
    let key = columns.key.and_then(cell).map(text);
    let size = columns.size.and_then(cell).map(text);
    rows.push(time, key.as_deref(), size.as_deref())
}

fn nanoseconds(field: &Field, unit: Span) -> Option<i128> {
    if let Field::TimestampMillis(ms) = field {
        Some(i128::from(*ms) * 1_000_000)
    } else if let Field::TimestampMicros(us) = field {
        Some(i128::from(*us) * 1_000)
    } else if let Field::Date(days) = field {
        Some(i128::from(*days) * 86_400_000_000_000)
    } else {
        // A double is printed with as many digits as tell it apart, then read exactly.
        parse_time(&text(field), unit)
    }
}

/// A cell as CSV would have it: texts without quotes.
fn text(field: &Field) -> String {
    if let Field::Str(text) = field {
        text.clone()
    } else if let Field::Bytes(bytes) = field {
        String::from_utf8_lossy(bytes.data()).into_owned()
    } else {
        field.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// Writes times (milliseconds as time stamps), keys and sizes.
    fn write(name: &str, times: &[i64], sizes: &[i64]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("brokerlab-{}-{name}.parquet", std::process::id()));
        let schema =
            "message t { required int64 at (TIMESTAMP_MILLIS); required binary who (UTF8); required int64 n; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().build());
        let mut writer = SerializedFileWriter::new(File::create(&path).unwrap(), schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(times, None, None).unwrap();
        column.close().unwrap();
        let keys: Vec<ByteArray> = times.iter().map(|t| format!("k{}", t % 2).as_str().into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&keys, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(sizes, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        path
    }

    fn columns(time: &str) -> Columns<'_> {
        Columns { time, unit: Span::from_secs(1), key: Some("who"), size: Some("n"), min_size: 0 }
    }

    #[test]
    fn times_keys_and_sizes_are_read() {
        let path = write("good", &[1_000, 1_250, 1_251], &[40, 50, 60]);
        let trace = read(&path, columns("at")).unwrap();
        assert_eq!(trace.times, [0, 250_000_000, 251_000_000]);
        assert_eq!(
            (trace.keys.as_slice(), trace.names.as_slice()),
            ([0, 0, 1].as_slice(), ["k0".to_owned(), "k1".to_owned()].as_slice())
        );
        assert_eq!(trace.sizes, [40, 50, 60]);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_fault_names_file_row_and_column() {
        let path = write("bad", &[1_000, 900], &[40, 50]);
        let FileFault::Inside(error) = read(&path, columns("at")).unwrap_err() else { panic!("a fault of the file") };
        assert_eq!(error.message, "row 2, column `at`: this time is before the one above it");
        let FileFault::Inside(error) = read(&path, columns("when")).unwrap_err() else { panic!("a fault of the file") };
        assert_eq!(error.remedy, "name one of its columns in `arrivals`: at, who, n");
        std::fs::write(&path, "no parquet").unwrap();
        let FileFault::Inside(error) = read(&path, columns("at")).unwrap_err() else { panic!("a fault of the file") };
        assert!(error.message.starts_with("this is not Parquet"), "{error}");
        std::fs::remove_file(path).unwrap();
    }
}
