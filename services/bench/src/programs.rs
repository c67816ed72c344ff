//! The programs that are measured: the services as they are deployed, and their peers. Each is built first.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runtime::config::{Lookup, optional};

use crate::function::Program;

/// A program could not be built. What the tool wrote to stderr says why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// A tool is missing.
    #[error("cannot run {tool}: install it, or measure --without-peers")]
    Missing {
        /// Which one.
        tool: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A tool failed.
    #[error("{command} failed")]
    Failed {
        /// The whole command.
        command: String,
    },
    /// The folder for what is built can't be written.
    #[error("cannot write {}", path.display())]
    Folder {
        /// What can't be written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What Amazon Linux and Debian have some 145 certificate authorities in.
const SYSTEM_TRUST_STORE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The same two handlers, once more for each way to write them.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// What the way is called in the output.
    pub(crate) name: &'static str,
    /// Answers `GET /patients/{id}/checkins`.
    pub(crate) query: Program,
    /// Applies stream records.
    pub(crate) projector: Program,
}

/// Where things are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The repository.
    root: PathBuf,
    /// Cargo's target folder: what is built stays there for the next run.
    target: PathBuf,
}

impl Places {
    /// Of the repository that this program was built from. `CARGO_TARGET_DIR` names another target folder, as for Cargo.
    #[must_use]
    pub(crate) fn of_repository(lookup: Lookup<'_>) -> Places {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let target = optional(lookup, "CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Places { root, target }
    }

    /// The repository.
    #[must_use]
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn peer(&self, name: &str) -> PathBuf {
        self.root.join("services/bench/peers").join(name)
    }

    fn folder(&self, name: &str) -> Result<PathBuf, BuildError> {
        let path = self.target.join("bench").join(name);
        std::fs::create_dir_all(&path)
            .map(|()| path.clone())
            .map_err(|source| BuildError::Folder { path, source })
    }
}

/// Builds the services as `services/Dockerfile` does: the profile `deploy`, linked statically.
///
/// # Errors
/// [`BuildError`]
pub(crate) fn services(places: &Places) -> Result<Services, BuildError> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // Together they take three minutes less. What the tool has libraries built with makes the functions 12 KB larger than in
    // the image.
    let packages = ["checkin", "projector", "backend", "reconciler", "replay"];
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(&places.root)
        .args(["build", "--locked", "--quiet", "--profile", "deploy"])
        .args(["--target", &target, "--target-dir"])
        .arg(&places.target)
        .args(packages.into_iter().flat_map(|package| ["--package", package]))
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    run(cargo)?;
    let program = |name: &'static str| Program {
        name,
        executable: places.target.join(&target).join("deploy").join(name),
        arguments: Vec::new(),
        trust_store: places.root.join("services/amazon-trust-services.pem"),
        environment: Vec::new(),
    };
    Ok(Services {
        checkin: program("checkin"),
        projector: program("projector"),
        backend: program("backend"),
        reconciler: program("reconciler"),
        replay: program("replay").executable,
    })
}

/// The services, and the tool.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    /// The producer.
    pub(crate) checkin: Program,
    /// The projector.
    pub(crate) projector: Program,
    /// The queries.
    pub(crate) backend: Program,
    /// The reconciler.
    pub(crate) reconciler: Program,
    /// The operator's tool, which is no function.
    pub(crate) replay: PathBuf,
}

impl Services {
    /// The functions.
    #[must_use]
    pub(crate) fn functions(&self) -> [&Program; 4] {
        [&self.checkin, &self.projector, &self.backend, &self.reconciler]
    }
}

/// Builds the peer in Rust with every default.
///
/// # Errors
/// [`BuildError`]
pub(crate) fn stock_rust(places: &Places) -> Result<Pair, BuildError> {
    let folder = places.folder("stock-rust")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(places.peer("stock-rust"))
        .args(["build", "--locked", "--quiet", "--release", "--target-dir"])
        .arg(&folder);
    run(cargo)?;
    let program = |name, binary| Program {
        name,
        executable: folder.join("release").join(binary),
        arguments: Vec::new(),
        trust_store: SYSTEM_TRUST_STORE.into(),
        environment: Vec::new(),
    };
    Ok(Pair {
        name: "stock Rust",
        query: program("stock Rust query", "stock-query"),
        projector: program("stock Rust projector", "stock-projector"),
    })
}

/// Builds the contenders that store and project in other ways. They are measured whichever peers are, but for none.
///
/// # Errors
/// [`BuildError`]
pub(crate) fn event_stores(places: &Places) -> Result<PathBuf, BuildError> {
    let folder = places.folder("event-stores")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(places.peer("event-stores"))
        .args(["build", "--locked", "--quiet", "--release", "--target-dir"])
        .arg(&folder);
    run(cargo)?;
    Ok(folder.join("release").join("event-stores"))
}

/// Fetches the AWS SDK for JavaScript, and bundles the peer for Node with it.
///
/// # Errors
/// [`BuildError`]
pub(crate) fn node(places: &Places) -> Result<Pair, BuildError> {
    let folder = places.folder("node")?;
    copy(&places.peer("node"), &folder)?;
    for arguments in [
        &["ci", "--silent", "--no-audit", "--no-fund"][..],
        &["run", "--silent", "build", "--", "--log-level=warning"],
    ] {
        let mut npm = Command::new("npm");
        npm.current_dir(&folder).args(arguments);
        run(npm)?;
    }
    let node = executable("node", ["-p", "process.execPath"])?;
    let program = |name, bundle| Program {
        name,
        executable: node.clone(),
        arguments: vec![folder.join("dist").join(bundle).display().to_string()],
        trust_store: SYSTEM_TRUST_STORE.into(),
        environment: Vec::new(),
    };
    Ok(Pair {
        name: "Node",
        query: program("Node query", "query.cjs"),
        projector: program("Node projector", "projector.cjs"),
    })
}

/// Fetches boto3, and compiles the peer for Python and all that it imports, as AWS's runtime comes compiled.
///
/// # Errors
/// [`BuildError`]
pub(crate) fn python(places: &Places) -> Result<Pair, BuildError> {
    let folder = places.folder("python")?;
    copy(&places.peer("python"), &folder)?;
    let python = executable("python3", ["-c", "import sys; print(sys.executable)"])?;
    let packages = folder.join("packages");
    if !packages.join("boto3").exists() {
        let mut pip = Command::new(&python);
        pip.current_dir(&folder)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--root-user-action",
                "ignore",
            ])
            .args(["--requirement", "requirements.txt", "--target"])
            .arg(&packages);
        run(pip)?;
    }
    let mut compile = Command::new(&python);
    compile.args(["-m", "compileall", "-q"]).arg(&folder);
    run(compile)?;
    let program = |name, module: &str| Program {
        name,
        executable: python.clone(),
        arguments: vec![folder.join(module).display().to_string()],
        trust_store: SYSTEM_TRUST_STORE.into(),
        environment: vec![("PYTHONPATH", packages.display().to_string())],
    };
    Ok(Pair {
        name: "Python",
        query: program("Python query", "query.py"),
        projector: program("Python projector", "projector.py"),
    })
}

/// What the tool says goes to stderr: stdout is for the result.
fn run(mut command: Command) -> Result<(), BuildError> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let ended = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .map_err(|source| BuildError::Missing { tool, source })?;
    if ended.success() {
        return Ok(());
    }
    Err(BuildError::Failed {
        command: format!("{command:?}"),
    })
}

/// Where the program is that a tool's name leads to, as the tool itself says: what `PATH` has may be a script that starts it.
fn executable(tool: &str, arguments: [&str; 2]) -> Result<PathBuf, BuildError> {
    let mut command = Command::new(tool);
    let output = command
        .args(arguments)
        .output()
        .map_err(|source| BuildError::Missing {
            tool: tool.to_owned(),
            source,
        })?;
    if !output.status.success() {
        return Err(BuildError::Failed {
            command: format!("{command:?}"),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

/// Copies the files of a folder that has no other folders.
fn copy(from: &Path, to: &Path) -> Result<(), BuildError> {
    let copy = || -> std::io::Result<()> {
        for entry in std::fs::read_dir(from)? {
            let file = entry?;
            std::fs::copy(file.path(), to.join(file.file_name()))?;
        }
        Ok(())
    };
    copy().map_err(|source| BuildError::Folder {
        path: to.to_owned(),
        source,
    })
}
