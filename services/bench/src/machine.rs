//! What a run was measured on, and with.

use std::process::Command;

use crate::programs::{Pair, Places};

/// The processor, how many of them there are, the versions of what runs, and the commit: what it takes to compare two runs.
#[must_use]
pub(crate) fn describe(places: &Places, pairs: &[Pair]) -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parts = vec![
        format!("{processors} x {}", processor()),
        said("rustc", &["--version"]),
    ];
    for (peer, tool) in [("Node", "node"), ("Python", "python3")] {
        if pairs.iter().any(|pair| pair.name == peer) {
            parts.push(format!("{tool} {}", said(tool, &["--version"])));
        }
    }
    let root = places.root().display().to_string();
    let commit = ["-C", root.as_str(), "describe", "--always", "--dirty"];
    parts.push(format!("commit {}", said("git", &commit)));
    parts.join("; ")
}

fn processor() -> String {
    let known = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names = known.lines().filter_map(|line| line.strip_prefix("model name"));
    let name = names.map(|name| name.trim_start_matches([' ', '\t', ':'])).next();
    name.unwrap_or("processor of an unknown kind").to_owned()
}

/// The first line that a tool says.
fn said(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = said.ok().and_then(|said| said.lines().next().map(str::to_owned));
    line.unwrap_or_else(|| "unknown".to_owned())
}
