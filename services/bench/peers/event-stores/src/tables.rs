//! The tables that the crates ask for.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType, StreamSpecification, StreamViewType,
};

use crate::Error;

/// A key attribute: its name, and its type.
pub(crate) type Key = (&'static str, ScalarAttributeType);

/// Creates a table with these keys.
pub(crate) async fn create(client: &Client, table: &str, keys: &[Key]) -> Result<(), Error> {
    create_as(client, table, keys, None, false).await
}

/// Creates a table of events: with a stream, as whoever projects from it needs one.
pub(crate) async fn create_journal(client: &Client, table: &str, keys: &[Key]) -> Result<(), Error> {
    create_as(client, table, keys, None, true).await
}

/// Creates a table with these keys, and with an index with those of the other.
pub(crate) async fn create_indexed(
    client: &Client,
    table: &str,
    keys: &[Key],
    index: (&str, &[Key]),
) -> Result<(), Error> {
    create_as(client, table, keys, Some(index), false).await
}

async fn create_as(
    client: &Client,
    table: &str,
    keys: &[Key],
    index: Option<(&str, &[Key])>,
    stream: bool,
) -> Result<(), Error> {
    let mut attributes: Vec<AttributeDefinition> = Vec::new();
    for (name, kind) in keys.iter().chain(index.into_iter().flat_map(|(_, keys)| keys)) {
        if attributes.iter().all(|defined| defined.attribute_name() != *name) {
            let defined = AttributeDefinition::builder().attribute_name(*name).attribute_type(kind.clone());
            attributes.push(defined.build()?);
        }
    }
    let indexes = match index {
        None => None,
        Some((name, keys)) => {
            let all = Projection::builder().projection_type(ProjectionType::All).build();
            let index = GlobalSecondaryIndex::builder().index_name(name).projection(all);
            Some(vec![index.set_key_schema(Some(schema(keys)?)).build()?])
        }
    };
    let stream = StreamSpecification::builder()
        .stream_enabled(stream)
        .set_stream_view_type(stream.then_some(StreamViewType::NewImage));
    client
        .create_table()
        .stream_specification(stream.build()?)
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(schema(keys)?))
        .set_attribute_definitions(Some(attributes))
        .set_global_secondary_indexes(indexes)
        .send()
        .await?;
    Ok(())
}

fn schema(keys: &[Key]) -> Result<Vec<KeySchemaElement>, Error> {
    let kinds = [KeyType::Hash, KeyType::Range];
    let elements = keys.iter().zip(kinds).map(|((name, _), kind)| {
        Ok(KeySchemaElement::builder().attribute_name(*name).key_type(kind).build()?)
    });
    elements.collect()
}
