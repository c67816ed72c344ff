//! What is wrong with the command line is said in one line; and when it ends, nothing is left.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::system::{System, is_alive, local, never, wait_until};

/// `local` with these arguments ends at once, with one line that says why.
#[track_caller]
fn check_refused(arguments: &[&str], expected: &str) {
    let output = local(arguments).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.starts_with(expected), "{errors}");
    assert!(output.stdout.is_empty());
}

#[test]
fn taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let expected = |option| {
        format!(
            "local: cannot listen on 127.0.0.1:{port} ({option} 0 takes any that is free): Address already"
        )
    };
    check_refused(&["--port", &port], &expected("--port"));
    let arguments = ["--port", "0", "--dynamodb-port", &port];
    check_refused(&arguments, &expected("--dynamodb-port"));
}

#[test]
fn folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("data");
    let below = below.to_str().unwrap();
    check_refused(
        &["--port", "0", "--data", below],
        &format!("local: cannot write in the --data folder {below}: "),
    );
}

#[test]
fn folder_with_something_else_in_place_of_the_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("dynamodb");
    std::fs::create_dir(&database).unwrap();
    std::fs::write(database.join("dynamodb.sqlite"), "x".repeat(10_000)).unwrap();
    let database = database.to_str().unwrap();
    check_refused(
        &["--port", "0", "--data", folder.path().to_str().unwrap()],
        &format!("local: cannot use the --data folder: cannot open the database in {database}: "),
    );
}

#[test]
fn broken_roster_is_named_with_its_entry() {
    let folder = tempfile::tempdir().unwrap();
    let roster = folder.path().join("roster.json");
    std::fs::write(&roster, r#"[{"id":"p-1","name":"A"},{"id":"p-2"}]"#).unwrap();
    let roster = roster.to_str().unwrap();
    check_refused(
        &["--port", "0", "--roster", roster],
        &format!("local: the roster file {roster}: entry 2 (p-2) of the roster "),
    );
    let missing = folder.path().join("missing.json");
    let missing = missing.to_str().unwrap();
    check_refused(
        &["--port", "0", "--roster", missing],
        &format!("local: the roster file {missing}: "),
    );
}

#[test]
fn folder_belongs_to_one_local_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let mut first = System::start(&["--every", never(), "--data", data]);
    check_refused(
        &["--port", "0", "--data", data],
        &format!("local: the --data folder {data} is in use by another local"),
    );
    assert!(first.end(Signal::INT).success());
    System::start(&["--every", never(), "--data", data]);
}

#[test]
fn either_signal_ends_everything_and_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut system = System::start(&["--every", "50ms"]);
        let children = system.children();
        assert_eq!(children.len(), 5);
        assert_eq!(system.end(signal).code(), Some(0));
        assert!(
            !children.iter().any(|child| is_alive(*child)),
            "children are left"
        );
        assert!(!system.data.exists(), "the temporary folder is left");
    }
}

#[test]
fn child_that_ignores_its_end_is_killed() {
    let mut system = System::start(&["--every", never()]);
    let children = system.processes("backend");
    system.signal("backend", Signal::STOP);
    assert_eq!(system.end(Signal::INT).code(), Some(0));
    wait_until("the stopped children are gone", || {
        !children.iter().any(|child| is_alive(*child))
    });
}
