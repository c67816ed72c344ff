//! What can be asked of the read model, and what the answers promise.
//!
//! A patient's rows and summary are separate items, and an answer is still one consistent state (the fold of the
//! events up to one version) because of the order on both sides. The projection puts a summary with applied
//! version `n` only after all rows up to `n` are there. A query reads the summary first, and then the rows,
//! consistently: so it finds every row up to the applied version that it read, however old that reading was, and
//! it drops those above, which may be incomplete. Rows first would lose the ones put in between.

use std::cmp::Ordering;

use domain::{
    CheckinRow, Generation, ListingShard, Patient, PatientId, PatientState, StreamVersion, Timestamp,
};

use crate::freshness::Freshness;
use crate::merge::{Merge, ShardedIndex};
use crate::store::{
    Consistency, Page, ReadModelStore, ReadModelUnavailable, RecentEntry, RowKey, RowRange, StoredState,
};

/// Most rows in one read: some 200 KB, well below the 1 MB at which DynamoDB ends a page.
const MOST_ROWS_PER_READ: u16 = 1_000;

/// How many entries a page has at most: 1 to 100, by default 50.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageLimit(u16);

/// A registered patient, as the events up to one version say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientSummary {
    /// Which patient.
    pub id: PatientId,
    /// What is known of the patient.
    pub patient: Patient,
    /// The version that this is the state of.
    pub version: StreamVersion,
    /// Set while the event after that version can't be applied: since when. What happened later is not in here.
    pub quarantined_since: Option<Timestamp>,
}

/// One page of a longer list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T, Place> {
    /// The entries, in order.
    pub items: Vec<T>,
    /// What to go on after, if there is more. (Something may have gone by then, or cannot be listed: so a page after this
    /// place can be empty, and is the last one then.)
    pub next: Option<Place>,
}

/// Which of a patient's check-ins to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckinsQuery {
    /// As of this version rather than the newest, so that the pages of one walk are those of one list.
    pub pinned: Option<StreamVersion>,
    /// Only if this version has been applied. [`StreamVersion::EMPTY`]: whatever has been.
    pub at_least: StreamVersion,
    /// Which of them, and in which order.
    pub range: RowRange,
    /// How many.
    pub limit: PageLimit,
}

/// A page of a patient's check-ins, as of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckinListing {
    /// The version that the list is as of: what to pin the rest of the walk to.
    pub version: StreamVersion,
    /// As [`PatientSummary::quarantined_since`], at the moment of the query, whatever the list is as of.
    pub quarantined_since: Option<Timestamp>,
    /// The page.
    pub page: Listing<CheckinRow, RowKey>,
}

/// Why there is no answer about a patient.
#[derive(Debug, thiserror::Error)]
pub enum PatientError {
    /// There is no such patient, as far as the read model knows.
    #[error("the patient is unknown")]
    Unknown,
    /// The version that was asked for has not been applied, to a known patient or to one still unknown. Ask again
    /// soon.
    #[error("version {wanted} has not been applied yet")]
    NotYet {
        /// The version.
        wanted: StreamVersion,
    },
    /// Retry later.
    #[error(transparent)]
    Unavailable(#[from] ReadModelUnavailable),
}

/// Questions to one generation of the read model. Whoever answers a request asks them all of the same one, so that
/// no answer mixes two.
#[derive(Debug)]
pub struct Queries<'a, S> {
    store: &'a S,
    generation: Generation,
}

impl<'a, S: ReadModelStore> Queries<'a, S> {
    /// Questions to this generation.
    #[must_use]
    pub const fn new(store: &'a S, generation: Generation) -> Queries<'a, S> {
        Queries { store, generation }
    }

    /// How far the generation is known to have come.
    ///
    /// # Errors
    /// [`ReadModelUnavailable`]: retry later.
    pub async fn freshness(&self) -> Result<Freshness, ReadModelUnavailable> {
        self.store.freshness(self.generation).await
    }

    /// One patient, if version `at_least` has been applied ([`StreamVersion::EMPTY`]: whatever has been).
    ///
    /// # Errors
    /// [`PatientError`]
    pub async fn patient(
        &self,
        id: &PatientId,
        at_least: StreamVersion,
    ) -> Result<PatientSummary, PatientError> {
        // Without a version to wait for, half the price buys an answer that is complete in itself and at most
        // a moment older. With one, an old reading would refuse what is there already.
        let consistency = if at_least > StreamVersion::EMPTY {
            Consistency::Strong
        } else {
            Consistency::Eventual
        };
        let mut states = self
            .store
            .states(self.generation, std::slice::from_ref(id), consistency)
            .await?;
        let stored = states.pop().unwrap_or(Ok(None));
        let state = stored.map_err(ReadModelUnavailable::from)?.unwrap_or_default();
        if state.applied < at_least {
            return Err(PatientError::NotYet { wanted: at_least });
        }
        PatientSummary::new(id.clone(), state).ok_or(PatientError::Unknown)
    }

    /// Registered patients in order of their ids, after `after`. Each comes exactly once in a walk.
    ///
    /// # Errors
    /// [`ReadModelUnavailable`]: retry later.
    pub async fn patients_by_id(
        &self,
        after: Option<&PatientId>,
        limit: PageLimit,
    ) -> Result<Listing<PatientSummary, PatientId>, ReadModelUnavailable> {
        let wanted = usize::from(limit.0);
        let mut ids = Merge::new(ById(self), after, limit.0);
        let mut found: Vec<PatientSummary> = Vec::with_capacity(wanted);
        let mut candidates = Vec::new();
        loop {
            // One id more tells whether there is a further page. The summary that belongs to it is the next page's to read.
            let missing = wanted - found.len();
            candidates.extend(ids.take(missing + 1 - candidates.len()).await?);
            let further = candidates.split_off(missing.min(candidates.len()));
            let states = self
                .store
                .states(self.generation, &candidates, Consistency::Eventual)
                .await?;
            found.extend(
                candidates
                    .into_iter()
                    .zip(states)
                    .filter_map(|(id, stored)| PatientSummary::to_list(id, stored)),
            );
            candidates = further;
            if candidates.is_empty() || found.len() == wanted {
                let last = found.last().filter(|_| !candidates.is_empty());
                return Ok(Listing {
                    next: last.map(|last| last.id.clone()),
                    items: found,
                });
            }
        }
    }

    /// Registered patients, the one who checked in last first, those who never did at the end, after the place
    /// `after` of an earlier page. A patient who checks in during a walk moves to the part that was read already:
    /// such a one may be missed, and comes at most once.
    ///
    /// # Errors
    /// [`ReadModelUnavailable`]: retry later.
    pub async fn patients_by_recent(
        &self,
        after: Option<&String>,
        limit: PageLimit,
    ) -> Result<Listing<PatientSummary, String>, ReadModelUnavailable> {
        let wanted = limit.and_one_more();
        let mut entries = Merge::new(ByRecent(self), after, limit.0);
        let mut found = Vec::with_capacity(wanted);
        while found.len() < wanted {
            let missing = wanted - found.len();
            let candidates = entries.take(missing).await?;
            let at_end = candidates.len() < missing;
            found.extend(candidates.into_iter().filter_map(|entry| {
                PatientSummary::new(entry.patient_id, entry.state).map(|summary| (entry.recent_key, summary))
            }));
            if at_end {
                break;
            }
        }
        let listing = Listing::of(found, limit, |(key, _)| key.clone());
        Ok(Listing {
            items: listing.items.into_iter().map(|(_, summary)| summary).collect(),
            next: listing.next,
        })
    }

    /// A patient's check-ins. In a walk pinned to one version each comes exactly once.
    ///
    /// # Errors
    /// [`PatientError`]; also [`PatientError::NotYet`] if the pinned version is not there (any more, after a roll
    /// back to a generation that is behind).
    pub async fn checkins(
        &self,
        id: &PatientId,
        query: CheckinsQuery,
    ) -> Result<CheckinListing, PatientError> {
        // The summary first: see the module's description.
        let at_least = query.at_least.max(query.pinned.unwrap_or(StreamVersion::EMPTY));
        let summary = self.patient(id, at_least).await?;
        let version = query.pinned.unwrap_or(summary.version);

        let wanted = query.limit.and_one_more();
        let mut range = query.range;
        let mut rows_per_read = query.limit.0.saturating_add(1);
        let mut found: Vec<CheckinRow> = Vec::with_capacity(wanted);
        while found.len() < wanted {
            let rows = self.store.rows(self.generation, id, range, rows_per_read).await?;
            let Some(last) = rows.items.last().map(RowKey::of) else {
                break;
            };
            found.extend(rows.items.into_iter().filter(|row| row.version <= version));
            if !rows.more {
                break;
            }
            range.after = Some(last);
            // There were rows that do not count. Commonly a few; behind an old pin, all of the time since.
            rows_per_read = rows_per_read.saturating_mul(2).min(MOST_ROWS_PER_READ);
        }
        Ok(CheckinListing {
            version,
            quarantined_since: summary.quarantined_since,
            page: Listing::of(found, query.limit, RowKey::of),
        })
    }
}

impl PageLimit {
    /// The largest.
    pub const MAX: PageLimit = PageLimit(100);

    /// This many, if it is 1 to 100.
    #[must_use]
    pub const fn new(entries: u16) -> Option<PageLimit> {
        if entries >= 1 && entries <= PageLimit::MAX.0 {
            Some(PageLimit(entries))
        } else {
            None
        }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The one more tells whether the page is the last, and so spares an empty page at the end.
    fn and_one_more(self) -> usize {
        usize::from(self.0) + 1
    }
}

impl Default for PageLimit {
    fn default() -> PageLimit {
        PageLimit(50)
    }
}

impl PatientSummary {
    fn new(id: PatientId, state: PatientState) -> Option<PatientSummary> {
        Some(PatientSummary {
            id,
            patient: state.patient?,
            version: state.applied,
            quarantined_since: state.quarantine.map(|mark| mark.since),
        })
    }

    /// A malformed summary does not keep the other patients from being listed. (Asked for by itself, such a
    /// patient is an error.)
    fn to_list(id: PatientId, stored: StoredState) -> Option<PatientSummary> {
        match stored {
            Ok(state) => PatientSummary::new(id, state?),
            Err(malformed) => {
                malformed.log_not_listed();
                None
            }
        }
    }
}

impl<T, Place> Listing<T, Place> {
    /// The page of this many of what was found, which is more than that unless there is nothing more.
    fn of(mut found: Vec<T>, limit: PageLimit, place: impl Fn(&T) -> Place) -> Listing<T, Place> {
        let limit = usize::from(limit.0);
        let more = found.len() > limit;
        found.truncate(limit);
        Listing {
            next: found.last().filter(|_| more).map(place),
            items: found,
        }
    }
}

struct ById<'q, 'a, S>(&'q Queries<'a, S>);

impl<S: ReadModelStore> ShardedIndex for ById<'_, '_, S> {
    type Entry = PatientId;
    type Place = PatientId;
    // Of a page of 50 next to no shard has more than 20 entries. They are 2.4 KB where ids are UUIDs.
    const SLACK: u16 = 13;

    async fn page(
        &self,
        shard: ListingShard,
        after: Option<&PatientId>,
        limit: u16,
    ) -> Result<Page<PatientId>, ReadModelUnavailable> {
        self.0.store.ids(self.0.generation, shard, after, limit).await
    }

    fn place(entry: &PatientId) -> PatientId {
        entry.clone()
    }

    fn order(one: &PatientId, other: &PatientId) -> Ordering {
        one.cmp(other)
    }
}

struct ByRecent<'q, 'a, S>(&'q Queries<'a, S>);

impl<S: ReadModelStore> ShardedIndex for ByRecent<'_, '_, S> {
    type Entry = RecentEntry;
    type Place = String;
    // They are some 320 bytes each where ids are UUIDs: no more than the 12 of a page of 50 are within 4 KB. Of such pages
    // one in seven reads a shard once more.
    const SLACK: u16 = 5;

    async fn page(
        &self,
        shard: ListingShard,
        after: Option<&String>,
        limit: u16,
    ) -> Result<Page<RecentEntry>, ReadModelUnavailable> {
        let after = after.map(String::as_str);
        self.0.store.recent(self.0.generation, shard, after, limit).await
    }

    fn place(entry: &RecentEntry) -> String {
        entry.recent_key.clone()
    }

    fn order(one: &RecentEntry, other: &RecentEntry) -> Ordering {
        other.recent_key.cmp(&one.recent_key)
    }
}
