//! The servers that tests may use: named by the environment, skipped by name where they are not, required where CI says so.

/// A server that is there, or why there is none.
#[allow(clippy::print_stdout, reason = "a test says by name that it was skipped")]
pub(crate) fn server(name: &str, variable: &str) -> Option<String> {
    if let Ok(url) = std::env::var(variable) {
        return Some(url);
    }
    let required = std::env::var("BROKERLAB_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|required| required == name), "no broker at {variable}, and {name} is required");
    println!("skipped: no broker at {variable}");
    None
}
