//! The page from made-up results.

use std::path::Path;

use brokerlab_reports::page::render;

use crate::synthetic;

#[test]
fn pages_are_written() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(folder).unwrap();
    let compare = synthetic::comparison();
    std::fs::write(folder.join("compare.html"), render(std::slice::from_ref(&compare)).unwrap()).unwrap();
    let run = synthetic::run(synthetic::ROWS[1], 1.0);
    std::fs::write(folder.join("run.html"), render(std::slice::from_ref(&run)).unwrap()).unwrap();
    std::fs::write(folder.join("both.html"), render(&[compare, run]).unwrap()).unwrap();
}

#[test]
fn tables_are_written() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, file) in [("compare", synthetic::comparison()), ("run", synthetic::run(synthetic::ROWS[2], 4.0))] {
        let text = brokerlab_reports::table(&file, brokerlab_reports::Style::Plain).unwrap();
        std::fs::write(folder.join(format!("{name}.txt")), text).unwrap();
    }
}
