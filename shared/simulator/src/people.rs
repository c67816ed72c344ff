//! Who is in a simulated world.

use std::sync::LazyLock;

use checkin::Roster;
use domain::{EventShard, ListingShard, PatientId};

/// The most patients that a world has.
pub(crate) const MOST_PATIENTS: usize = 3;

/// A patient, and where the indexes have it.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) id: PatientId,
    pub(crate) event_shard: EventShard,
    pub(crate) listing_shard: ListingShard,
}

static PEOPLE: LazyLock<Vec<Person>> = LazyLock::new(|| {
    (0..MOST_PATIENTS)
        .filter_map(|index| format!("p-{index}").parse().ok())
        .map(|id| Person {
            event_shard: EventShard::of(&id),
            listing_shard: ListingShard::of(&id),
            id,
        })
        .collect()
});

/// All of them; a patient is known by the place in this list.
pub(crate) fn people() -> &'static [Person] {
    &PEOPLE
}

/// The place of the patient with this id.
pub(crate) fn place_of(id: &PatientId) -> Option<usize> {
    PEOPLE.iter().position(|person| person.id == *id)
}

/// The first `count` of them as a roster.
pub(crate) fn roster(count: usize) -> Option<Roster> {
    static ROSTERS: LazyLock<Vec<Roster>> = LazyLock::new(|| {
        (1..=MOST_PATIENTS)
            .filter_map(|count| {
                let entries: Vec<_> = PEOPLE
                    .iter()
                    .take(count)
                    .map(|person| serde_json::json!({"id": person.id, "name": format!("Name of {}", person.id)}))
                    .collect();
                Roster::parse(&serde_json::Value::from(entries).to_string()).ok()
            })
            .collect()
    });
    ROSTERS.get(count.checked_sub(1)?).cloned()
}
