//! Which crate may reach which: Cargo itself is asked.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "functions that tests share are tests too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

/// For each crate the crates that it links.
type Links = BTreeMap<String, BTreeSet<String>>;

/// The root of the workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// What `cargo metadata` says.
static METADATA: LazyLock<Value> = LazyLock::new(|| {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
});

/// As Cargo resolves them. Build scripts, procedural macros' own needs and tests do not count; platforms other
/// than this one do.
fn links() -> Links {
    let name_of: BTreeMap<&str, &str> = METADATA["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let is_normal = |dependency: &&Value| {
        dependency["dep_kinds"]
            .as_array()
            .unwrap()
            .iter()
            .any(|kind| kind["kind"].is_null())
    };
    let mut links = Links::new();
    for node in METADATA["resolve"]["nodes"].as_array().unwrap() {
        let dependencies = node["deps"]
            .as_array()
            .unwrap()
            .iter()
            .filter(is_normal)
            .map(|dependency| name_of[dependency["pkg"].as_str().unwrap()].to_owned());
        links
            .entry(name_of[node["id"].as_str().unwrap()].to_owned())
            .or_default()
            .extend(dependencies);
    }
    links
}

/// Everything that `from` links, directly or not.
fn reach(links: &Links, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        for dependency in links
            .get(name)
            .unwrap_or_else(|| panic!("there is no crate {name}"))
        {
            if reached.insert(dependency.clone()) {
                open.push(dependency);
            }
        }
    }
    reached
}

#[track_caller]
fn check_apart(from: &str, forbidden: &[&str]) {
    let links = links();
    let reached = reach(&links, from);
    for name in forbidden {
        // A crate of another name than it has can't be reached by anybody.
        assert!(links.contains_key(*name), "there is no crate {name}");
        assert!(!reached.contains(*name), "{from} reaches {name}");
    }
}

#[test]
fn queries_cannot_reach_the_events_nor_write() {
    check_apart("backend", &["event-log", "event-store", "projection"]);
}

#[test]
fn projection_cannot_append() {
    for from in [
        "projector",
        "reconciler",
        "projection",
        "read-model",
        "event-log",
        "replay",
    ] {
        check_apart(from, &["event-store"]);
    }
}

#[test]
fn producer_cannot_touch_the_read_model() {
    check_apart("checkin", &["read-model", "projection"]);
}

#[test]
fn who_may_append_or_project_reaches_what_does_it() {
    let links = links();
    for (from, name) in [("checkin", "event-store"), ("projector", "projection")] {
        assert!(reach(&links, from).contains(name), "{from} does not reach {name}");
    }
}

#[test]
fn rules_are_pure() {
    let links = links();
    let of_io = |name: &&str| {
        name.starts_with("aws") || name.starts_with("hyper") || ["tokio", "axum"].contains(name)
    };
    let forbidden: Vec<&str> = links.keys().map(String::as_str).filter(of_io).collect();
    assert!(forbidden.len() > 10, "{forbidden:?}");
    check_apart("domain", &forbidden);
}

/// The rows about crates in the table below a heading of docs/ARCHITECTURE.md, each in cells.
fn rows_below(heading: &str) -> Vec<Vec<String>> {
    let architecture = std::fs::read_to_string(format!("{ROOT}/docs/ARCHITECTURE.md")).unwrap();
    let (_, section) = architecture.split_once(&format!("\n## {heading}")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| format!("`{row}").split('|').map(str::to_owned).collect())
        .collect()
}

/// What is between backticks.
fn named(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The packages of the workspace.
fn members() -> Vec<&'static Value> {
    let packages = METADATA["packages"].as_array().unwrap().iter();
    packages.filter(|package| package["source"].is_null()).collect()
}

fn name(package: &Value) -> String {
    package["name"].as_str().unwrap().to_owned()
}

#[test]
fn crates_depend_on_those_that_the_architecture_names() {
    let members: BTreeSet<String> = members().into_iter().map(name).collect();
    let links = links();
    let found = |from: &str| -> BTreeSet<String> {
        let of_ours = links[from].intersection(&members);
        // Every service depends on it.
        of_ours.filter(|name| *name != "runtime").cloned().collect()
    };
    let mut rows = BTreeSet::from(["runtime".to_owned()]);
    for row in rows_below("Which crate may depend on which") {
        for from in named(&row[0]) {
            if !row[1].contains("whatever they test") {
                let mut expected = named(&row[1]);
                if row[1].contains("the four functions") {
                    let functions = ["checkin", "projector", "backend", "reconciler"];
                    expected.extend(functions.map(str::to_owned));
                }
                assert_eq!(found(&from), expected, "{from}");
            }
            assert!(rows.insert(from), "{row:?} is not the only one");
        }
    }
    assert_eq!(found("runtime"), BTreeSet::from(["domain".to_owned()]));
    assert_eq!(rows, members);
}

#[test]
fn the_architecture_has_a_reason_for_every_outside_crate_and_for_no_other() {
    let is_outside = |dependency: &&Value| dependency["path"].is_null();
    let used: BTreeSet<String> = members()
        .into_iter()
        .flat_map(|package| package["dependencies"].as_array().unwrap())
        .filter(is_outside)
        .map(name)
        .collect();
    let rows = rows_below("Outside dependencies, and why");
    let with_reason: BTreeSet<String> = rows.iter().flat_map(|row| named(&row[0])).collect();
    let without_reason: Vec<_> = used.difference(&with_reason).collect();
    assert!(without_reason.is_empty(), "no reason for {without_reason:?}");
    let unused: Vec<_> = with_reason.difference(&used).collect();
    assert!(unused.is_empty(), "nothing depends on {unused:?}");
}

#[test]
fn the_benchmark_links_none_of_the_services_that_it_measures() {
    let services = ["checkin", "projector", "backend", "reconciler", "replay", "local"];
    check_apart("bench", &services);
}

#[test]
fn nothing_reaches_the_benchmark_nor_what_only_tests_and_it_need() {
    let links = links();
    for name in ["bench", "testbed", "simulator", "rcgen"] {
        assert!(links.contains_key(name), "there is no crate {name}");
    }
    for from in links
        .keys()
        .filter(|name| !["bench", "testbed", "simulator"].contains(&name.as_str()))
    {
        // Those of tests do not count here.
        let reached = reach(&links, from);
        for name in ["bench", "testbed", "simulator", "rcgen"] {
            assert!(!reached.contains(name), "{from} reaches {name}");
        }
    }
}

#[test]
fn only_local_has_the_embedded_database() {
    for from in ["checkin", "projector", "reconciler", "backend", "replay"] {
        check_apart(from, &["embedded", "dynoxide-rs", "rusqlite", "local"]);
    }
    assert!(
        reach(&links(), "local").contains("dynoxide-rs"),
        "the names above are wrong"
    );
}
