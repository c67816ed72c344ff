//! The operator's tool for the read model: rebuild it from the events while the system runs, verify it, go back to an
//! older one, try again what could not be applied, and look at it.
//!
//! Deliberately absent: any way to append, change or remove an event.

mod accepted;
mod audit;
mod bars;
mod builds;
mod cli;
mod compare;
mod connection;
mod difference;
mod gate;
mod lease;
mod letters;
mod persistent;
mod promote;
mod promotion;
mod prune;
mod rebuild;
mod reconcile;
mod redrive;
mod replay_table;
mod report;
mod roll_back;
mod segments;
mod status;
mod streams;
mod tables;
mod tail;
mod verify;

pub use accepted::{Accepted, KnownBreak, NotAnEvent};
pub use audit::{AuditStore, ItemPage, StoredItem};
pub use builds::{Begun, BuildStore, Checkpoint, Pass, Seen, Verification};
pub use cli::{Cli, run};
pub use compare::{Change, Compare, CompareError};
pub use difference::{Account, Difference};
pub use gate::GateError;
pub use lease::Lease;
pub use letters::{Letter, Letters, LettersUnavailable, SqsLetters};
pub use persistent::CatchUpError;
pub use promote::{Promote, PromoteCommandError, Promoted};
pub use promotion::{Lost, PromotionError};
pub use prune::{Doomed, ItemKey, KeyPage, Prune, PruneError, PruneStore, Pruned, QUIET_MILLIS};
pub use rebuild::{Rebuild, RebuildError, Rebuilt};
pub use redrive::{Redrive, RedriveError, Redriven, StillQuarantined};
pub use replay_table::ReplayTable;
pub use roll_back::{RollBack, RollBackError};
pub use status::{EventStatus, GenerationStatus, Status, StatusError, status};
pub use tables::Tables;
pub use tail::{Tail, TailEvent};
pub use verify::{Finding, MAX_FINDINGS, Verified, Verify, VerifyError};
