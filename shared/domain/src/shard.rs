//! Spreading patients over partitions.
//!
//! One partition of a table or an index takes about 1,000 writes a second, so an index over all patients
//! needs several. The numbers of shards are part of the storage format: changing one moves patients between
//! partitions, which for the read model takes a rebuild and for the event table a new index.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::PatientId;

/// One of `COUNT` virtual shards. A patient stays in one shard for ever. Text form: two digits, `07`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard<const COUNT: u8>(u8);

/// A shard of the event table's index `by_recorded_at`: 16, for some 16,000 appends a second.
pub type EventShard = Shard<16>;

/// A shard of the read model's indexes: 8. A page merges all of them, so more would make each page dearer.
pub type ListingShard = Shard<8>;

impl<const COUNT: u8> Shard<COUNT> {
    /// The shard of this patient.
    #[must_use]
    pub fn of(patient: &PatientId) -> Shard<COUNT> {
        let hash: [u8; 32] = Sha256::digest(patient.as_str().as_bytes()).into();
        // COUNT divides 256, so one byte spreads evenly.
        Shard(hash[0] % COUNT)
    }

    /// Every shard.
    pub fn all() -> impl Iterator<Item = Shard<COUNT>> {
        (0..COUNT).map(Shard)
    }
}

impl<const COUNT: u8> fmt::Display for Shard<COUNT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patient_stays_in_one_shard_for_ever() {
        let patient: PatientId = "p-001".parse().unwrap();
        assert_eq!(
            (
                EventShard::of(&patient).to_string(),
                ListingShard::of(&patient).to_string()
            ),
            ("06".to_owned(), "06".to_owned())
        );
    }

    #[test]
    fn shards_are_numbered_in_two_digits() {
        let texts: Vec<String> = ListingShard::all().map(|shard| shard.to_string()).collect();
        assert_eq!(texts, ["00", "01", "02", "03", "04", "05", "06", "07"]);
    }

    #[test]
    fn patients_spread_over_all_shards() {
        let mut sizes = [0; 8];
        for number in 0..8_000 {
            let patient: PatientId = format!("p-{number}").parse().unwrap();
            sizes[usize::from(ListingShard::of(&patient).0)] += 1;
        }
        assert!(sizes.iter().all(|size| (850..1150).contains(size)), "{sizes:?}");
    }
}
