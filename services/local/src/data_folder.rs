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
    #[error("cannot write in the --data folder {}", folder.display())]
    NotWritable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Choose a folder, or make room where temporary ones are.
    #[error("cannot write in a temporary folder in {} (--data takes another one)", folder.display())]
    NoTemporary {
        /// Where temporary folders are.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Choose another folder, or end the other `local`.
    #[error("the --data folder {} is in use by another local", folder.display())]
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
        let not_writable = |source| DataFolderError::not_writable(chosen, source);
        let (path, temporary) = if let Some(chosen) = chosen {
            (chosen.to_owned(), None)
        } else {
            let made = tempfile::Builder::new().prefix("local-").tempdir();
            let temporary = made.map_err(not_writable)?;
            (temporary.path().to_owned(), Some(temporary))
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
            Err(TryLockError::Error(source)) => Err(not_writable(source)),
        }
    }

    /// That something could not be written in the folder.
    pub(crate) fn not_writable(&self, source: std::io::Error) -> DataFolderError {
        let chosen = (!self.is_temporary()).then_some(self.path());
        DataFolderError::not_writable(chosen, source)
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

impl DataFolderError {
    /// Of the folder that was chosen, or else of a temporary one.
    fn not_writable(chosen: Option<&Path>, source: std::io::Error) -> DataFolderError {
        match chosen {
            Some(folder) => DataFolderError::NotWritable {
                folder: folder.to_owned(),
                source,
            },
            None => DataFolderError::NoTemporary {
                folder: std::env::temp_dir(),
                source,
            },
        }
    }
}

const LOGS: &str = "logs";
