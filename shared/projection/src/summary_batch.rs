//! Putting many summaries with one call, each on its own condition.
//!
//! A call costs more than what is in it, and a batch of stream records about a hundred patients has a hundred summaries to
//! put. PutItem takes one; BatchWriteItem takes no condition; a transaction costs twice the units. BatchExecuteStatement takes
//! 25 statements, each with a condition and an outcome of its own, for the same units
//! (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html>).

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, BatchStatementRequest};
use domain::StreamVersion;
use read_model::item::{APPLIED, PK, QUARANTINE, SK};

use crate::store::ProjectionUnavailable;

/// A summary that is to be put if the applied version there still is `expected`; [`StreamVersion::EMPTY`]: if there is none.
/// It has each attribute that the one there may have.
pub(crate) struct ConditionalSummary {
    pub(crate) expected: StreamVersion,
    pub(crate) item: HashMap<String, AttributeValue>,
}

/// Puts up to [`crate::MAX_STATES_PER_PUT`] summaries of different patients; for each of them, in their order, whether it was
/// put. Whatever the reason why one was not, putting it alone will tell.
///
/// # Errors
/// [`ProjectionUnavailable`]: some may have been put. Read the states again.
pub(crate) async fn put_together(
    client: &Client,
    table: &str,
    summaries: Vec<ConditionalSummary>,
) -> Result<Vec<bool>, ProjectionUnavailable> {
    let wanted = summaries.len();
    let statements = summaries
        .into_iter()
        .map(|summary| {
            let (statement, parameters) = summary.statement(table);
            BatchStatementRequest::builder()
                .statement(statement)
                .set_parameters(Some(parameters))
                .build()
                .map_err(|error| ProjectionUnavailable(error.into()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let answer = client
        .batch_execute_statement()
        .set_statements(Some(statements))
        .send()
        .await
        .map_err(|error| ProjectionUnavailable(error.into()))?;
    let outcomes = answer.responses.unwrap_or_default().into_iter();
    let mut put: Vec<bool> = outcomes.map(|outcome| outcome.error.is_none()).collect();
    // Of one that nothing is said of, nothing is known.
    put.resize(wanted, false);
    Ok(put)
}

impl ConditionalSummary {
    fn statement(self, table: &str) -> (String, Vec<AttributeValue>) {
        let attributes: BTreeMap<String, AttributeValue> = self.item.into_iter().collect();
        if self.expected == StreamVersion::EMPTY {
            inserted(table, attributes)
        } else {
            updated(table, attributes, self.expected)
        }
    }
}

/// Fails if there is an item.
fn inserted(table: &str, attributes: BTreeMap<String, AttributeValue>) -> (String, Vec<AttributeValue>) {
    let (names, values): (Vec<String>, Vec<AttributeValue>) = attributes.into_iter().unzip();
    let fields: Vec<String> = names.iter().map(|name| format!("'{name}': ?")).collect();
    (
        format!("INSERT INTO \"{table}\" VALUE {{{}}}", fields.join(", ")),
        values,
    )
}

/// Fails if there is no item, or another version of it, or one that was marked since it was read: an update would keep the mark.
fn updated(
    table: &str,
    mut attributes: BTreeMap<String, AttributeValue>,
    expected: StreamVersion,
) -> (String, Vec<AttributeValue>) {
    let keys = [PK, SK].map(|key| attributes.remove(key));
    let mut statement = format!("UPDATE \"{table}\"");
    for name in attributes.keys() {
        let _ = write!(statement, " SET \"{name}\" = ?");
    }
    let _ = write!(
        statement,
        " WHERE \"{PK}\" = ? AND \"{SK}\" = ? AND \"{APPLIED}\" = ? AND \"{QUARANTINE}\" IS MISSING"
    );
    let expected = AttributeValue::N(expected.to_string());
    let condition = keys.into_iter().flatten().chain([expected]);
    (statement, attributes.into_values().chain(condition).collect())
}
