//! Tells the crate which software folds the events: the digest of all sources that have a say in it.
//!
//! What a build of the read model has written by one digest is not gone on with by another, be it a replay or the
//! projector. A digest of the sources, and not of the program, is the same on every machine, and needs nobody to remember to
//! count a number up.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use sha2::{Digest as _, Sha256};

/// The crates whose code makes the read model of the events.
const CRATES: [&str; 4] = ["domain", "event-log", "projection", "read-model"];

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo runs this in the crate's folder. A path that says where that is would be one of another tree, where two of them
    // share what they build.
    let shared = Path::new("..");
    let mut stdout = io::stdout();
    let mut digest = Sha256::new();
    for name in CRATES {
        let sources = shared.join(name).join("src");
        writeln!(stdout, "cargo:rerun-if-changed={}", sources.display())?;
        for file in files(&sources)? {
            digest.update(file.strip_prefix(shared)?.to_string_lossy().as_bytes());
            digest.update(fs::read(&file)?);
        }
    }
    let software: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    writeln!(stdout, "cargo:rustc-env=FOLD_SOFTWARE={software}")?;
    Ok(())
}

/// All files of a folder and of those in it, in the order of their names.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
