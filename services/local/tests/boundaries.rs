//! Which crate may reach which: Cargo itself is asked.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "functions that tests share are tests too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// For each crate the crates that it links, as `cargo metadata` resolves them. Build scripts, procedural macros'
/// own needs and tests do not count; platforms other than this one do.
fn links() -> BTreeMap<String, BTreeSet<String>> {
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
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name_of: BTreeMap<&str, &str> = metadata["packages"]
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
    let mut links: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
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
fn reach(links: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
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
fn check_apart(from: &str, forbidden: impl Fn(&str) -> bool) {
    let reached: Vec<String> = reach(&links(), from)
        .into_iter()
        .filter(|name| forbidden(name))
        .collect();
    assert!(reached.is_empty(), "{from} reaches {reached:?}");
}

#[test]
fn queries_cannot_reach_the_events_nor_write() {
    check_apart("backend", |name| {
        ["event-log", "event-store", "projection"].contains(&name)
    });
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
        check_apart(from, |name| name == "event-store");
    }
}

#[test]
fn producer_cannot_touch_the_read_model() {
    check_apart("checkin", |name| ["read-model", "projection"].contains(&name));
}

#[test]
fn rules_are_pure() {
    check_apart("domain", |name| {
        name.starts_with("aws") || name.starts_with("hyper") || ["tokio", "reqwest", "axum"].contains(&name)
    });
}

#[test]
fn every_outside_crate_has_its_reason_in_the_architecture() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let read = |file: &str| std::fs::read_to_string(format!("{root}/{file}")).unwrap();
    let manifest = read("Cargo.toml");
    let (_, dependencies) = manifest.split_once("[workspace.dependencies]\n").unwrap();
    let (dependencies, _) = dependencies.split_once("\n[").unwrap();
    let outside: Vec<&str> = dependencies
        .lines()
        .filter(|line| line.contains('=') && !line.contains("path = "))
        .map(|line| line.split([' ', '.', '=']).next().unwrap())
        .collect();
    assert!(outside.len() > 20, "{outside:?}");
    let architecture = read("docs/ARCHITECTURE.md");
    let (_, reasons) = architecture.split_once("## Outside dependencies").unwrap();
    for name in &outside {
        assert!(reasons.contains(&format!("`{name}`")), "{name} has no reason");
    }
}

#[test]
fn the_benchmark_links_none_of_the_services_that_it_measures() {
    check_apart("bench", |name| {
        ["checkin", "projector", "backend", "reconciler", "replay", "local"].contains(&name)
    });
}

#[test]
fn nothing_reaches_the_benchmark_nor_what_only_tests_and_it_need() {
    let links = links();
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
        check_apart(from, |name| {
            ["embedded", "dynoxide-rs", "rusqlite", "local"].contains(&name)
        });
    }
    assert!(
        reach(&links(), "local").contains("dynoxide-rs"),
        "the names above are wrong"
    );
}
