//! The seams of the replay, on the simulated tables.

use std::sync::Mutex;

use domain::{Generation, PatientId};
use event_log::Segment;
use projection::ProjectionUnavailable;
use read_model::item;
use replay::{
    AuditStore, Begun, BuildStore, Checkpoint, Doomed, ItemKey, ItemPage, KeyPage, Letter, Letters,
    LettersUnavailable, Pass, PruneStore, StoredItem, Tables, Verification,
};

use crate::people::{people, place_of};
use crate::planted::Bug;
use crate::stores::Stores;
use crate::tables::{Mailbox, Write};
use crate::workers::NEWER;
use crate::world::{Failed, World};

/// Most keys of a page.
const KEYS: usize = 4;
/// Most messages that are received at once.
const RECEIVED: usize = 2;
/// For how many steps nobody else sees them.
const INVISIBLE: u32 = 200;
/// For how many steps nobody sees one that is held.
const HELD: u32 = 600;

fn unavailable(failed: Failed) -> ProjectionUnavailable {
    ProjectionUnavailable(failed.into())
}

impl<'w> Tables for Stores<'w> {
    type Log = Stores<'w>;
    type Projection = Stores<'w>;
    type ReadModel = Stores<'w>;
    type Audit = Stores<'w>;
    type Builds = Stores<'w>;
    type Prunable = Stores<'w>;
    type Queue = Stores<'w>;
    type Letters = Taken<'w>;

    fn log(&self) -> &Stores<'w> {
        self
    }

    fn projection(&self) -> &Stores<'w> {
        self
    }

    fn read_model(&self) -> &Stores<'w> {
        self
    }

    fn audit(&self) -> &Stores<'w> {
        self
    }

    fn builds(&self) -> &Stores<'w> {
        self
    }

    fn prunable(&self) -> &Stores<'w> {
        self
    }

    fn queue(&self) -> &Stores<'w> {
        self
    }

    fn quarantined(&self) -> Option<&Taken<'w>> {
        Some(&self.quarantined)
    }

    fn given_up(&self) -> Option<&Taken<'w>> {
        Some(&self.given_up)
    }
}

impl AuditStore for Stores<'_> {
    async fn items(
        &self,
        generation: Generation,
        patient: &PatientId,
        after: Option<String>,
    ) -> Result<ItemPage, ProjectionUnavailable> {
        self.read(
            "read items",
            |world| {
                let place = place_of(patient).unwrap_or(usize::MAX);
                let view = world.tables.view(generation, place);
                let keys = view.into_iter().flat_map(|view| view.rows.iter()).map(|row| {
                    let key = item::row_sk(row.occurred_at, row.version);
                    (key, Some(*row))
                });
                let mut rows: Vec<_> = keys
                    .filter(|(key, _)| after.as_ref().is_none_or(|after| key > after))
                    .collect();
                rows.sort_by(|one, other| one.0.cmp(&other.0));
                let more = rows.len() > KEYS;
                rows.truncate(KEYS);
                let next = rows.last().filter(|_| more).map(|(key, _)| key.clone());
                let items = rows.into_iter().map(|(key, row)| StoredItem::Row { key, row });
                ItemPage {
                    items: items.collect(),
                    next,
                }
            },
            |page| format!("{generation} {patient}: {} rows", page.items.len()),
        )
        .await
        .map_err(unavailable)
    }
}

impl BuildStore for Stores<'_> {
    async fn begun(&self, generation: Generation) -> Result<Option<Begun>, ProjectionUnavailable> {
        self.read(
            "read how it was begun",
            |world| world.tables.build(generation)?.begun.clone(),
            |begun| format!("{generation}: {}", begun.is_some()),
        )
        .await
        .map_err(unavailable)
    }

    async fn put_begun(&self, generation: Generation, begun: &Begun) -> Result<(), ProjectionUnavailable> {
        let begun = begun.clone();
        let write = Write::Begun { generation, begun };
        self.write(write).await.map(drop).map_err(unavailable)
    }

    async fn checkpoint(
        &self,
        generation: Generation,
        pass: Pass,
        segment: Segment,
    ) -> Result<Option<Checkpoint>, ProjectionUnavailable> {
        self.read(
            "read checkpoint",
            |world| {
                if pass == Pass::Verify && world.planted(Bug::PromotedUnverified) {
                    return Some(Checkpoint {
                        segments: segment.total,
                        done: true,
                        ..Checkpoint::default()
                    });
                }
                let build = world.tables.build(generation)?;
                let kept = build.checkpoints.get(&(pass.name(), segment.index)).cloned();
                kept.filter(|kept| kept.segments == segment.total)
            },
            |kept| {
                let events = kept.as_ref().map_or(0, |kept| kept.events);
                format!(
                    "{generation} {} segment {}: {events} events",
                    pass.name(),
                    segment.index
                )
            },
        )
        .await
        .map_err(unavailable)
    }

    async fn put_checkpoint(
        &self,
        generation: Generation,
        pass: Pass,
        index: u16,
        checkpoint: &Checkpoint,
    ) -> Result<(), ProjectionUnavailable> {
        let write = Write::Checkpoint {
            generation,
            pass: pass.name(),
            index,
            checkpoint: checkpoint.clone(),
        };
        self.write(write).await.map(drop).map_err(unavailable)
    }

    async fn verification(
        &self,
        generation: Generation,
    ) -> Result<Option<Verification>, ProjectionUnavailable> {
        self.read(
            "read verification",
            |world| world.tables.build(generation)?.verification.clone(),
            |verification| format!("{generation}: {}", verification.is_some()),
        )
        .await
        .map_err(unavailable)
    }

    async fn put_verification(
        &self,
        generation: Generation,
        verification: &Verification,
    ) -> Result<(), ProjectionUnavailable> {
        let write = Write::Verification {
            generation,
            verification: verification.clone(),
        };
        self.write(write).await.map(drop).map_err(unavailable)
    }
}

impl PruneStore for Stores<'_> {
    async fn keys(
        &self,
        doomed: &Doomed,
        segment: Segment,
        after: Option<ItemKey>,
    ) -> Result<KeyPage, ProjectionUnavailable> {
        self.read(
            "scan keys",
            |world| {
                let generations = (1..).map(Generation::new).zip(&world.tables.builds);
                let mut keys: Vec<ItemKey> = generations
                    .filter(|(generation, _)| doomed.contains(*generation))
                    .flat_map(|(generation, build)| {
                        let views = people().iter().zip(&build.views).enumerate();
                        views
                            .filter(|(place, _)| {
                                place % usize::from(segment.total.max(1)) == usize::from(segment.index)
                            })
                            .flat_map(move |(_, (person, view))| {
                                let pk = item::patient_pk(generation, &person.id);
                                let summary = view.state().map(|_| item::SUMMARY.to_owned());
                                let rows = view.rows.iter();
                                let rows = rows.map(|row| item::row_sk(row.occurred_at, row.version));
                                rows.chain(summary).map(move |sk| ItemKey { pk: pk.clone(), sk })
                            })
                    })
                    .filter(|key| {
                        let place = |key: &ItemKey| (key.pk.clone(), key.sk.clone());
                        after.as_ref().is_none_or(|after| place(key) > place(after))
                    })
                    .collect();
                keys.sort_by(|one, other| (&one.pk, &one.sk).cmp(&(&other.pk, &other.sk)));
                let more = keys.len() > KEYS;
                keys.truncate(KEYS);
                let next = keys.last().filter(|_| more).cloned();
                KeyPage { keys, next }
            },
            |page| format!("{} may go", page.keys.len()),
        )
        .await
        .map_err(unavailable)
    }

    async fn remove(&self, keys: &[ItemKey]) -> Result<(), ProjectionUnavailable> {
        for key in keys {
            self.write(Write::Removal(key.clone()))
                .await
                .map_err(unavailable)?;
        }
        Ok(())
    }
}

/// The messages of one queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken<'w> {
    world: &'w Mutex<World>,
    mailbox: Mailbox,
}

impl<'w> Taken<'w> {
    pub(crate) fn new(world: &'w Mutex<World>, mailbox: Mailbox) -> Taken<'w> {
        Taken { world, mailbox }
    }
}

impl Taken<'_> {
    async fn write(&self, write: Write) -> Result<(), LettersUnavailable> {
        let written = Stores::new(self.world, NEWER).write(write).await;
        written
            .map(drop)
            .map_err(|failed| LettersUnavailable(failed.into()))
    }
}

fn place(letter: &Letter) -> usize {
    letter.receipt.parse().unwrap_or(usize::MAX)
}

impl Letters for Taken<'_> {
    async fn receive(&self) -> Result<Vec<Letter>, LettersUnavailable> {
        let mailbox = self.mailbox;
        Stores::new(self.world, NEWER)
            .take(
                "receive messages",
                |world| {
                    let step = world.step;
                    let waiting = world.tables.letters.iter_mut();
                    let taken: Vec<_> = waiting
                        .filter(|letter| letter.mailbox == mailbox && letter.visible_from <= step)
                        .take(RECEIVED)
                        .map(|letter| {
                            letter.visible_from = step + INVISIBLE;
                            letter.clone()
                        })
                        .collect();
                    let tables = &world.tables;
                    taken
                        .iter()
                        .map(|letter| tables.received(letter))
                        .collect::<Vec<Letter>>()
                },
                |letters| format!("{mailbox:?}: {}", letters.len()),
            )
            .await
            .map_err(|failed| LettersUnavailable(failed.into()))
    }

    async fn hold(&self, letter: &Letter) -> Result<(), LettersUnavailable> {
        let letter = place(letter);
        self.write(Write::Hidden { letter, steps: HELD }).await
    }

    async fn put_back(&self, letter: &Letter) -> Result<(), LettersUnavailable> {
        let letter = place(letter);
        self.write(Write::Hidden { letter, steps: 0 }).await
    }

    async fn remove(&self, letter: &Letter) -> Result<(), LettersUnavailable> {
        self.write(Write::Settled(place(letter))).await
    }
}
