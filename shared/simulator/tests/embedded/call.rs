//! Which call of the SDK is which, by what it is about: the same in every run of a story, also where calls are
//! under way at the same time.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// One call of the SDK, as it comes to the proxy: `PutItem checkin-events p-1 2 (1)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    /// What is done: `PutItem`.
    pub(crate) operation: String,
    /// To what: a table or the queue, and the key of the item, or of the first of them.
    pub(crate) subject: String,
    /// The how manieth call with that operation and subject it is: the first is 1.
    pub(crate) number: usize,
}

impl Call {
    /// What a request asks for; `number` is yet to be found out.
    pub(crate) fn read(target: &str, body: &[u8]) -> Call {
        let (_, operation) = target.split_once('.').unwrap();
        let body: Value = serde_json::from_slice(body).unwrap();
        Call {
            operation: operation.to_owned(),
            subject: subject(&body),
            number: 0,
        }
    }

    /// Whether it is a call with the same operation and subject.
    pub(crate) fn is_like(&self, other: &Call) -> bool {
        self.operation == other.operation && self.subject == other.subject
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.operation, self.subject, self.number)
    }
}

fn subject(body: &Value) -> String {
    if let Some(message) = body.get("MessageBody") {
        return message.as_str().unwrap().to_owned();
    }
    if let Some((table, batch)) = body
        .get("RequestItems")
        .and_then(|tables| tables.as_object()?.iter().next())
    {
        let first = batch
            .pointer("/Keys/0")
            .or_else(|| batch.pointer("/0/PutRequest/Item"));
        return format!("{table} {}", key(first.unwrap()));
    }
    let mut subject = body["TableName"].as_str().unwrap().to_owned();
    for field in ["IndexName", "Segment"] {
        if let Some(value) = body.get(field) {
            subject.push_str(&format!(" {value}"));
        }
    }
    for field in ["Item", "Key", "ExclusiveStartKey"] {
        if let Some(item) = body.get(field) {
            subject.push_str(&format!(" {}", key(item)));
        }
    }
    if let (Some(Value::Object(values)), None) = (body.get("ExpressionAttributeValues"), body.get("Item")) {
        // The SDK writes them in any order.
        let values: BTreeMap<&String, &Value> = values.iter().collect();
        for value in values.values() {
            subject.push_str(&format!(" {}", scalar(value)));
        }
    }
    subject
}

/// The key of an item of either table.
fn key(item: &Value) -> String {
    let parts = ["pk", "sk", "patient_id", "version"];
    let parts: Vec<&str> = parts
        .iter()
        .filter_map(|name| item.get(name))
        .map(scalar)
        .collect();
    parts.join(" ")
}

fn scalar(value: &Value) -> &str {
    let value = value.get("S").or_else(|| value.get("N"));
    value.and_then(Value::as_str).unwrap()
}
