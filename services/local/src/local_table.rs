//! The table in which `local` keeps what AWS keeps for itself: the messages of queues, and how far the stream has
//! been delivered. It lives and dies with the data that it is about.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

const TABLE: &str = "local-system-state";
const PK: &str = "pk";
const SK: &str = "sk";

/// The table of `local`. Items are of types that have a text `pk` and `sk`.
#[derive(Debug, Clone)]
pub(crate) struct LocalTable {
    client: Client,
}

/// The table could not be read or written. Try again.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the table {TABLE}")]
pub(crate) struct LocalTableUnavailable(#[source] runtime::BoxError);

impl LocalTable {
    /// The table, created if it is not there yet.
    ///
    /// # Errors
    /// [`LocalTableUnavailable`]
    pub(crate) async fn open(client: Client) -> Result<LocalTable, LocalTableUnavailable> {
        let mut create = client
            .create_table()
            .table_name(TABLE)
            .billing_mode(BillingMode::PayPerRequest);
        for (name, key_type) in [(PK, KeyType::Hash), (SK, KeyType::Range)] {
            create = create
                .attribute_definitions(
                    AttributeDefinition::builder()
                        .attribute_name(name)
                        .attribute_type(ScalarAttributeType::S)
                        .build()
                        .map_err(unavailable)?,
                )
                .key_schema(
                    KeySchemaElement::builder()
                        .attribute_name(name)
                        .key_type(key_type)
                        .build()
                        .map_err(unavailable)?,
                );
        }
        match create.send().await {
            Ok(_) => {}
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_resource_in_use_exception()) => {}
            Err(error) => return Err(unavailable(error)),
        }
        Ok(LocalTable { client })
    }

    /// The item with this key.
    ///
    /// # Errors
    /// [`LocalTableUnavailable`]
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        pk: &str,
        sk: &str,
    ) -> Result<Option<T>, LocalTableUnavailable> {
        let found = self
            .client
            .get_item()
            .table_name(TABLE)
            .consistent_read(true)
            .key(PK, text(pk))
            .key(SK, text(sk))
            .send()
            .await
            .map_err(unavailable)?;
        found
            .item
            .map(|item| serde_dynamo::from_item(item).map_err(unavailable))
            .transpose()
    }

    /// All items with this partition key, in order of their sort keys.
    ///
    /// # Errors
    /// [`LocalTableUnavailable`]
    pub(crate) async fn list<T: DeserializeOwned>(&self, pk: &str) -> Result<Vec<T>, LocalTableUnavailable> {
        let mut items = Vec::new();
        let mut pages = self
            .client
            .query()
            .table_name(TABLE)
            .consistent_read(true)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", text(pk))
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            for item in page.map_err(unavailable)?.items.into_iter().flatten() {
                items.push(serde_dynamo::from_item(item).map_err(unavailable)?);
            }
        }
        Ok(items)
    }

    /// Writes an item, whether or not it is there already.
    ///
    /// # Errors
    /// [`LocalTableUnavailable`]
    pub(crate) async fn put<T: Serialize>(&self, item: &T) -> Result<(), LocalTableUnavailable> {
        let item = serde_dynamo::to_item(item).map_err(unavailable)?;
        self.client
            .put_item()
            .table_name(TABLE)
            .set_item(Some(item))
            .send()
            .await
            .map_err(unavailable)?;
        Ok(())
    }

    /// Deletes an item, if it is there.
    ///
    /// # Errors
    /// [`LocalTableUnavailable`]
    pub(crate) async fn delete(&self, pk: &str, sk: &str) -> Result<(), LocalTableUnavailable> {
        self.client
            .delete_item()
            .table_name(TABLE)
            .key(PK, text(pk))
            .key(SK, text(sk))
            .send()
            .await
            .map_err(unavailable)?;
        Ok(())
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn unavailable(error: impl Into<runtime::BoxError>) -> LocalTableUnavailable {
    LocalTableUnavailable(error.into())
}
