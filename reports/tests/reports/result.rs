//! The result file on disk: whole or not at all, and refused with a reason.

use std::path::Path;

use brokerlab_reports::result::RESULT_FILE_NAME;
use brokerlab_reports::{ReadError, ResultFile, WriteError, write_page};

use crate::synthetic::{self, ROWS};

fn written() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = synthetic::run(ROWS[0], 1.0).write(&folder.path().join("out")).unwrap();
    (folder, path)
}

#[test]
fn what_was_written_is_read_again_to_the_last_byte() {
    let (_folder, path) = written();
    assert!(path.ends_with(Path::new("out").join(RESULT_FILE_NAME)));
    let text = std::fs::read_to_string(&path).unwrap();
    let again = ResultFile::read(&path).unwrap();
    assert_eq!(serde_json::to_string_pretty(&again).unwrap() + "\n", text);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_file_cut_in_half_is_refused_with_its_place_and_the_remedy() {
    let (_folder, path) = written();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    let error = ResultFile::read(&path).unwrap_err();
    assert!(matches!(&error, ReadError::Malformed { line, column, .. } if *line > 10 && *column > 0), "{error}");
    let message = error.to_string();
    assert!(message.contains(RESULT_FILE_NAME) && message.contains("cut off"), "{message}");
    assert!(!message.contains('\n'), "one line: {message}");
}

#[test]
fn a_newer_schema_is_refused_even_when_the_rest_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.json");
    std::fs::write(&path, "{\"schema_version\": 99, \"cubes\": []}").unwrap();
    let error = ResultFile::read(&path).unwrap_err();
    assert!(matches!(error, ReadError::Newer { found: 99, .. }));
    assert!(error.to_string().contains("schema_version"));
}

#[test]
fn another_document_and_a_missing_file_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.json");
    std::fs::write(&path, "{}").unwrap();
    assert!(matches!(ResultFile::read(&path).unwrap_err(), ReadError::Foreign { .. }));
    assert!(matches!(ResultFile::read(&folder.path().join("none.json")).unwrap_err(), ReadError::Io { .. }));
}

#[test]
fn a_key_of_the_wrong_type_names_its_line() {
    let (_folder, path) = written();
    let text = std::fs::read_to_string(&path).unwrap().replacen("\"seed\": 42", "\"seed\": \"x\"", 1);
    std::fs::write(&path, text).unwrap();
    assert!(matches!(ResultFile::read(&path).unwrap_err(), ReadError::Malformed { line, .. } if line > 1));
}

#[test]
fn a_failed_write_leaves_the_good_file_as_it_was() {
    let (_folder, path) = written();
    let before = std::fs::read(&path).unwrap();
    // A file where a folder is wanted: no user, however mighty, can write into it.
    let error = synthetic::run(ROWS[0], 1.0).write(&path).unwrap_err();
    assert!(error.to_string().contains("--out"), "{error}");
    assert!(write_page(&path.join("report.html"), "page").is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_full_disk_has_its_own_remedy() {
    let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let error = WriteError { path: "results.json".into(), source };
    assert!(error.to_string().contains("free some space"));
}
