//! The folder that everything of one `local` is in.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use embedded::Durability;

/// A folder that no other `local` uses at the same time.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    /// Locked as long as the file is open; the system unlocks it however we end.
    _lock: File,
    temporary: Option<tempfile::TempDir>,
}

/// Why a folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// Choose another folder, or make this one writable.
    #[error("cannot write in {}", folder.display())]
    NotWritable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Choose another folder, or end the other `local`.
    #[error("{} is in use by another local", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
}

impl DataFolder {
    /// Takes this folder, created if need be, or else a temporary one.
    ///
    /// # Errors
    /// [`DataFolderError`]: show it to whoever chose the folder.
    pub(crate) fn open(chosen: Option<&Path>) -> Result<DataFolder, DataFolderError> {
        let temporary = match chosen {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("local-")
                    .tempdir()
                    .map_err(|source| DataFolderError::NotWritable {
                        folder: std::env::temp_dir(),
                        source,
                    })?,
            ),
        };
        let path = match (&temporary, chosen) {
            (Some(temporary), _) => temporary.path().to_owned(),
            (None, chosen) => chosen.unwrap_or(Path::new(".")).to_owned(),
        };
        let not_writable = |source| DataFolderError::NotWritable {
            folder: path.clone(),
            source,
        };
        std::fs::create_dir_all(path.join(LOGS)).map_err(not_writable)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("local.lock"))
            .map_err(not_writable)?;
        match lock.try_lock() {
            Ok(()) => Ok(DataFolder {
                path,
                _lock: lock,
                temporary,
            }),
            Err(TryLockError::WouldBlock) => Err(DataFolderError::InUse { folder: path }),
            Err(TryLockError::Error(source)) => Err(DataFolderError::NotWritable { folder: path, source }),
        }
    }

    /// The folder itself.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the embedded DynamoDB keeps its files.
    #[must_use]
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("dynamodb")
    }

    /// Where the logs are.
    #[must_use]
    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join(LOGS)
    }

    /// The log of this function, or of `local` itself.
    #[must_use]
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.path.join(LOGS).join(format!("{name}.log"))
    }

    /// How much a write in the folder has to survive.
    #[must_use]
    pub(crate) fn durability(&self) -> Durability {
        if self.is_temporary() {
            Durability::Temporary
        } else {
            Durability::Kept
        }
    }

    /// Whether the folder is removed at the end.
    #[must_use]
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }
}

const LOGS: &str = "logs";
