//! One ordered list out of all shards of an index.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::future::Future;

use domain::ListingShard;
use futures::future::try_join_all;

use crate::store::{Page, ReadModelUnavailable};

/// An index over all patients that is spread over every [`ListingShard`], and in order within each.
pub(crate) trait ShardedIndex {
    /// What the index consists of.
    type Entry;
    /// Where an entry is; no two are in the same place.
    type Place: Clone;
    /// How many entries of a shard are read beyond its fair share of a page. Shares differ, and a second round of reads is
    /// dearer than entries that nobody takes: up to 4 KB of them cost nothing, as DynamoDB takes half a unit for these anyway.
    const SLACK: u16;

    /// A page of one shard, after `after`.
    fn page(
        &self,
        shard: ListingShard,
        after: Option<&Self::Place>,
        limit: u16,
    ) -> impl Future<Output = Result<Page<Self::Entry>, ReadModelUnavailable>> + Send;

    /// Where this entry is.
    fn place(entry: &Self::Entry) -> Self::Place;

    /// The order of entries, the same as within each shard.
    fn order(one: &Self::Entry, other: &Self::Entry) -> Ordering;
}

/// The entries of all shards in one order, read as far as they are taken.
pub(crate) struct Merge<I: ShardedIndex> {
    index: I,
    page_limit: u16,
    fronts: Vec<Front<I>>,
}

/// How far one shard has been read.
struct Front<I: ShardedIndex> {
    shard: ListingShard,
    /// Read and not taken yet.
    buffer: VecDeque<I::Entry>,
    /// Where the next page begins.
    after: Option<I::Place>,
    /// Whether there may be a next page.
    more: bool,
}

impl<I: ShardedIndex> Merge<I> {
    /// Everything after `after`, of which about `expected` entries will be taken.
    pub(crate) fn new(index: I, after: Option<&I::Place>, expected: u16) -> Merge<I> {
        let fronts: Vec<Front<I>> = ListingShard::all()
            .map(|shard| Front {
                shard,
                buffer: VecDeque::new(),
                after: after.cloned(),
                more: true,
            })
            .collect();
        let shards = u16::try_from(fronts.len()).unwrap_or(u16::MAX).max(1);
        Merge {
            index,
            page_limit: expected.div_ceil(shards).saturating_add(I::SLACK),
            fronts,
        }
    }

    /// The next `count` entries; fewer only at the end.
    ///
    /// # Errors
    /// [`ReadModelUnavailable`]: begin anew later.
    pub(crate) async fn take(&mut self, count: usize) -> Result<Vec<I::Entry>, ReadModelUnavailable> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            // The next entry is the first of all fronts, so each of them has to be known.
            self.refill().await?;
            let Some(entry) = self.pop_first() else { break };
            taken.push(entry);
        }
        Ok(taken)
    }

    /// Reads the next page of every shard of which nothing is buffered, all at the same time.
    async fn refill(&mut self) -> Result<(), ReadModelUnavailable> {
        let (index, limit) = (&self.index, self.page_limit);
        let reads = self
            .fronts
            .iter_mut()
            .filter(|front| front.buffer.is_empty() && front.more)
            .map(|front| front.read(index, limit));
        try_join_all(reads).await?;
        Ok(())
    }

    fn pop_first(&mut self) -> Option<I::Entry> {
        self.fronts
            .iter_mut()
            .filter(|front| !front.buffer.is_empty())
            .min_by(|one, other| match (one.buffer.front(), other.buffer.front()) {
                (Some(one), Some(other)) => I::order(one, other),
                _ => Ordering::Equal,
            })?
            .buffer
            .pop_front()
    }
}

impl<I: ShardedIndex> Front<I> {
    async fn read(&mut self, index: &I, limit: u16) -> Result<(), ReadModelUnavailable> {
        let page = index.page(self.shard, self.after.as_ref(), limit).await?;
        // An empty page is the last one: there is nothing to go on after.
        self.more = page.more && !page.items.is_empty();
        if let Some(last) = page.items.last() {
            self.after = Some(I::place(last));
        }
        self.buffer.extend(page.items);
        Ok(())
    }
}
