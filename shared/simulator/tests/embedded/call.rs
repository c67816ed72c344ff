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
    /// To a table, or to a queue.
    pub(crate) target: String,
    /// With which item: its key, or that of the first of them, or whatever else tells one call from another.
    pub(crate) key: String,
    /// Which of the calls with that operation, target and key it is: the first is 1.
    pub(crate) number: usize,
}

impl Call {
    /// What a request to DynamoDB or SQS asks for; `number` is yet to be found out.
    pub(crate) fn read(header: &str, body: &[u8]) -> Call {
        let (_, operation) = header.split_once('.').unwrap();
        let body: Value = serde_json::from_slice(body).unwrap();
        let (target, key) = if let Some(queue) = body.get("QueueUrl") {
            let (_, queue) = text(queue).rsplit_once('/').unwrap();
            let key = body.get("MessageBody").or(body.get("ReceiptHandle"));
            (queue, key.map_or(String::new(), |key| text(key).to_owned()))
        } else if let Some(tables) = body.get("RequestItems").and_then(Value::as_object) {
            let (table, batch) = tables.iter().next().unwrap();
            let first = ["/Keys/0", "/0/PutRequest/Item", "/0/DeleteRequest/Key"]
                .into_iter()
                .find_map(|first| batch.pointer(first));
            (table.as_str(), key(first.unwrap()))
        } else if let Some(statement) = body.pointer("/Statements/0") {
            let table = text(&statement["Statement"]).split('"').nth(1).unwrap();
            (table, key_in_statement(statement))
        } else {
            (text(&body["TableName"]), key_of_one_table(&body))
        };
        Call {
            operation: operation.to_owned(),
            target: target.to_owned(),
            key,
            number: 0,
        }
    }

    /// Whether the two differ in nothing but their number.
    pub(crate) fn is_like(&self, other: &Call) -> bool {
        self.kind() == other.kind() && self.key == other.key
    }

    /// What is done to what.
    pub(crate) fn kind(&self) -> (&str, &str) {
        (&self.operation, &self.target)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call {
            operation,
            target,
            key,
            number,
        } = self;
        write!(f, "{operation} {target} {key} ({number})")
    }
}

fn key_of_one_table(body: &Value) -> String {
    if let Some(item) = body.get("Item").or(body.get("Key")) {
        return key(item);
    }
    let mut parts: Vec<String> = Vec::new();
    for field in ["IndexName", "Segment"] {
        parts.extend(body.get(field).map(Value::to_string));
    }
    // The SDK writes them in any order.
    let values = body.get("ExpressionAttributeValues").and_then(Value::as_object);
    let values: BTreeMap<&String, &Value> = values.into_iter().flatten().collect();
    parts.extend(values.values().map(|value| scalar(value).to_owned()));
    parts.extend(body.get("ExclusiveStartKey").map(key));
    parts.join(" ")
}

/// The key of the summary that a statement is about: that of no other parameter looks like it.
fn key_in_statement(statement: &Value) -> String {
    let parameters = statement["Parameters"].as_array().unwrap().iter();
    let mut texts = parameters.filter_map(|parameter| parameter.get("S")).map(text);
    texts.find(|text| text.contains("#patient#")).unwrap().to_owned()
}

/// The key of an item of either table.
fn key(item: &Value) -> String {
    let names = ["pk", "sk", "patient_id", "version"];
    let parts = names.iter().filter_map(|name| item.get(name)).map(scalar);
    parts.collect::<Vec<&str>>().join(" ")
}

fn scalar(value: &Value) -> &str {
    text(value.get("S").or(value.get("N")).unwrap())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
