//! Ids of requests, messages and invocations.

use std::sync::atomic::{AtomicU64, Ordering};

use domain::Timestamp;
use uuid::Uuid;

/// Gives out ids that differ from each other and from those of any other run.
#[derive(Debug)]
pub(crate) struct RequestIds {
    run: String,
    given: AtomicU64,
}

impl RequestIds {
    /// The ids of what is called `kind` in the run that began at `started`.
    pub(crate) fn new(kind: &str, started: Timestamp) -> RequestIds {
        RequestIds {
            run: format!("{kind}#{started}#{}", std::process::id()),
            given: AtomicU64::new(0),
        }
    }

    pub(crate) fn next(&self) -> Uuid {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}#{number}", self.run).as_bytes())
    }
}
