//! Every subcommand's help has an example, and the hidden one is not shown.

use crate::lab::Lab;

#[test]
fn every_help_has_an_example() {
    let lab = Lab::new();
    let commands = [
        "",
        "compare",
        "run",
        "capacity",
        "sweep",
        "profiles",
        "profiles list",
        "profiles show",
        "profiles check",
        "profiles schema",
        "profiles digest",
        "backends",
        "report",
        "doctor",
    ];
    for command in commands {
        let args: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let help = lab.brokerlab(&args);
        assert_eq!(help.code, 0, "{command}");
        assert!(help.out.contains("Example"), "{command}: {}", help.out);
        assert!(help.out.contains("brokerlab "), "{command}: {}", help.out);
    }
}

#[test]
fn the_first_help_names_the_commands_and_the_exit_codes() {
    let lab = Lab::new();
    let help = lab.brokerlab(&["--help"]).out;
    assert!(help.contains("Exit codes: 0 done"), "{help}");
    assert!(!help.contains("visit "), "{help}");
    lab.brokerlab(&[]).fails(2, &["Usage: brokerlab"]);
    lab.brokerlab(&["compere"]).fails(2, &["compare"]);
}

#[test]
fn the_version_is_the_package_s() {
    assert_eq!(Lab::new().brokerlab(&["--version"]).out, concat!("brokerlab ", env!("CARGO_PKG_VERSION"), "\n"));
}
