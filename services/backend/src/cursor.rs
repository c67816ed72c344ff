//! Where a walk through the pages of a list goes on.
//!
//! A cursor is base64url, without padding, of a payload and of a tag that authenticates it. The tag also covers the
//! query that the cursor came from (all of it but `limit`, which may change between pages), so a cursor fits no other.
//! The same place in the same query has the same cursor: entity tags depend on it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::{PatientId, StreamVersion, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use read_model::{CursorKey, RowKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::representation::json;

/// Bytes of the tag: HMAC-SHA-256, cut to half of its length as RFC 2104 allows.
const TAG_BYTES: usize = 16;
/// Keeps these tags apart from any that the same key might make for something else, and from those of another
/// form of cursor. Change it with the form of [`BoundQuery`] or of a place.
const PURPOSE: &[u8] = b"patient check-ins: cursor 1";

/// The query that a cursor is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum BoundQuery<'a> {
    /// Patients in order of their ids. The place is a [`PatientId`].
    PatientsById,
    /// Patients in order of their last check-in. The place is the key of the index.
    PatientsByRecent,
    /// One patient's check-ins. The place is a [`PinnedRow`].
    Checkins {
        patient: &'a PatientId,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        ascending: bool,
    },
}

/// A place in a patient's check-ins, as of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinnedRow {
    pub(crate) version: StreamVersion,
    pub(crate) after: RowKey,
}

/// The text is not a cursor that was given out for this query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidCursor;

impl BoundQuery<'_> {
    /// The cursor that goes on after `place`.
    pub(crate) fn cursor(self, key: &CursorKey, place: &impl Serialize) -> String {
        let mut bytes = json(place).into_bytes();
        let tag = self.mac(key, &bytes).finalize().into_bytes();
        bytes.extend(tag.into_iter().take(TAG_BYTES));
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The place in a cursor.
    ///
    /// # Errors
    /// [`InvalidCursor`]: refuse the request.
    pub(crate) fn place<P: DeserializeOwned>(
        self,
        key: &CursorKey,
        cursor: &str,
    ) -> Result<P, InvalidCursor> {
        // The decoder takes the canonical form only, so there is one text for each cursor.
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| InvalidCursor)?;
        let (payload, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(InvalidCursor)?;
        // In constant time.
        self.mac(key, payload)
            .verify_truncated_left(tag)
            .map_err(|_| InvalidCursor)?;
        serde_json::from_slice(payload).map_err(|_| InvalidCursor)
    }

    /// Each part is preceded by its length, so that no two sequences of parts run into the same bytes.
    fn mac(self, key: &CursorKey, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = keyed(key);
        for part in [PURPOSE, json(&self).as_bytes(), payload] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

#[allow(clippy::unreachable, reason = "HMAC takes keys of any length (RFC 2104)")]
fn keyed(key: &CursorKey) -> Hmac<Sha256> {
    Hmac::new_from_slice(key.as_bytes()).unwrap_or_else(|_| unreachable!("no length is refused"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> CursorKey {
        CursorKey::new([byte; 32])
    }

    fn id(text: &str) -> PatientId {
        text.parse().unwrap()
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_unix_millis(minute * 60_000).unwrap()
    }

    fn pinned() -> PinnedRow {
        PinnedRow {
            version: StreamVersion::new(9),
            after: RowKey {
                occurred_at: at(3),
                version: StreamVersion::new(5),
            },
        }
    }

    #[test]
    fn the_same_place_has_the_same_cursor_and_is_found_again() {
        let ada = id("p-ada");
        let query = BoundQuery::Checkins {
            patient: &ada,
            from: None,
            to: Some(at(7)),
            ascending: false,
        };
        let cursor = query.cursor(&key(1), &pinned());
        assert_eq!(cursor, query.cursor(&key(1), &pinned()));
        assert_eq!(query.place(&key(1), &cursor), Ok(pinned()));
        assert_eq!(query.place::<PinnedRow>(&key(2), &cursor), Err(InvalidCursor));
    }

    #[test]
    fn a_cursor_fits_no_other_query() {
        let (ada, bob) = (id("p-ada"), id("p-bob"));
        let checkins = |patient, from, to, ascending| BoundQuery::Checkins {
            patient,
            from,
            to,
            ascending,
        };
        let queries = [
            BoundQuery::PatientsById,
            BoundQuery::PatientsByRecent,
            checkins(&ada, None, None, false),
            checkins(&ada, None, None, true),
            checkins(&ada, Some(at(1)), None, false),
            checkins(&ada, None, Some(at(1)), false),
            checkins(&ada, Some(at(1)), Some(at(2)), false),
            checkins(&bob, None, None, false),
        ];
        for query in queries {
            // The same payload in each, so that it is the tag that tells them apart.
            let cursor = query.cursor(&key(1), &pinned());
            for other in queries {
                let found: Result<PinnedRow, _> = other.place(&key(1), &cursor);
                assert_eq!(found.is_ok(), other == query, "{query:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_cursor_with_any_bit_changed_is_refused() {
        let query = BoundQuery::PatientsById;
        for place in ["p-1", "p-12", "p-123"] {
            let cursor = query.cursor(&key(1), &id(place));
            assert_eq!(query.place(&key(1), &cursor), Ok(id(place)));
            for index in 0..cursor.len() {
                for bit in 0..8 {
                    let mut bytes = cursor.clone().into_bytes();
                    bytes[index] ^= 1 << bit;
                    let changed = String::from_utf8_lossy(&bytes);
                    let found: Result<PatientId, _> = query.place(&key(1), &changed);
                    assert_eq!(found, Err(InvalidCursor), "bit {bit} of character {index}");
                }
            }
        }
    }

    #[test]
    fn what_was_never_a_cursor_is_refused() {
        let query = BoundQuery::PatientsById;
        let cursor = query.cursor(&key(1), &id("p-1"));
        for text in [
            "",
            "=",
            "é",
            "AAAA",
            &"A".repeat(64),
            &"A".repeat(10_000),
            &format!("{cursor}="),
            &format!("{cursor}A"),
            &format!("{cursor}{cursor}"),
            &format!(" {cursor}"),
            &cursor[1..],
            &cursor[..cursor.len() - 1],
        ] {
            assert_eq!(
                query.place::<PatientId>(&key(1), text),
                Err(InvalidCursor),
                "{text}"
            );
        }
    }
}
