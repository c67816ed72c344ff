//! Querying the read model: what the projection has made of the events, and nothing else.
//!
//! Deliberately absent: any way to write, which is the crate `projection`, and any way to reach the events.
//! `backend` links this crate only.

mod freshness;
pub mod item;
mod merge;
mod queries;
mod read_model_table;
mod store;

pub use freshness::{Freshness, Stall, StallReason};
pub use item::{Control, CursorKey, EarlierSweep, Progress, Sweep};
pub use queries::{CheckinListing, CheckinsQuery, Listing, PageLimit, PatientError, PatientSummary, Queries};
pub use read_model_table::ReadModelTable;
pub use store::{
    Consistency, MalformedSummary, Page, ReadModelStore, ReadModelUnavailable, RecentEntry, RowKey, RowRange,
    StoredState,
};
