//! What whoever starts the service wrongly is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

#[test]
fn a_missing_variable_is_named_in_one_line_on_stderr() {
    let output = Command::new(env!("CARGO_BIN_EXE_backend"))
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "backend: environment variable READ_MODEL_TABLE is not set\n"
    );
    assert_eq!(output.status.code(), Some(1));
}
