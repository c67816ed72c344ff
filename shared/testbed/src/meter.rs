//! What calls to DynamoDB cost, for tests that hold a budget.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeSerializationInterceptorContextMut,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::operation::batch_execute_statement::{
    BatchExecuteStatementInput, BatchExecuteStatementOutput,
};
use aws_sdk_dynamodb::operation::batch_get_item::{BatchGetItemInput, BatchGetItemOutput};
use aws_sdk_dynamodb::operation::batch_write_item::{BatchWriteItemInput, BatchWriteItemOutput};
use aws_sdk_dynamodb::operation::get_item::{GetItemInput, GetItemOutput};
use aws_sdk_dynamodb::operation::put_item::{PutItemInput, PutItemOutput};
use aws_sdk_dynamodb::operation::query::{QueryInput, QueryOutput};
use aws_sdk_dynamodb::operation::scan::{ScanInput, ScanOutput};
use aws_sdk_dynamodb::types::{ConsumedCapacity, ReturnConsumedCapacity};

/// Has every call say what it cost, and keeps that.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<Bill>>);

/// What some calls cost.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bill {
    /// How often each operation was called.
    pub calls: BTreeMap<&'static str, u32>,
    /// Read units of each table and index, by its name.
    pub reads: BTreeMap<String, f64>,
    /// Write units of each table and index, by its name.
    pub writes: BTreeMap<String, f64>,
}

impl Meter {
    /// The same client, metered.
    #[must_use]
    pub fn on(&self, client: &Client) -> Client {
        Client::from_conf(client.config().to_builder().interceptor(self.clone()).build())
    }

    /// What was spent since this was asked last.
    #[must_use]
    pub fn take(&self) -> Bill {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Bill {
    /// All read units.
    #[must_use]
    pub fn read_units(&self) -> f64 {
        self.reads.values().sum()
    }

    /// All write units.
    #[must_use]
    pub fn write_units(&self) -> f64 {
        self.writes.values().sum()
    }

    /// How many calls there were in all.
    #[must_use]
    pub fn all_calls(&self) -> u32 {
        self.calls.values().sum()
    }

    fn add(&mut self, operation: &'static str, kind: Kind, costs: &[ConsumedCapacity]) {
        // Without it there would be no bill, and every budget would be kept.
        assert!(!costs.is_empty(), "{operation} does not say what it cost");
        *self.calls.entry(operation).or_default() += 1;
        let units = match kind {
            Kind::Read => &mut self.reads,
            Kind::Write => &mut self.writes,
        };
        for cost in costs {
            let indexes = cost.global_secondary_indexes().into_iter().flatten();
            let indexes = indexes.map(|(name, index)| (name.as_str(), index.capacity_units()));
            let table = cost.table().and_then(|table| table.capacity_units());
            let table = (cost.table_name().unwrap_or_default(), table);
            let mut told = 0.0;
            for (name, spent) in indexes.chain([table]) {
                let spent = spent.unwrap_or_default();
                told += spent;
                if spent > 0.0 {
                    *units.entry(name.to_owned()).or_default() += spent;
                }
            }
            assert_eq!(Some(told), cost.capacity_units(), "{operation}: {cost:?}");
        }
    }
}

impl fmt::Display for Bill {
    /// For the message of a test, and for the benchmark.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "calls {:?}, reads {:?}, writes {:?}",
            self.calls, self.reads, self.writes
        )
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Read,
    Write,
}

/// Asks the call for its cost, if it is one of these.
macro_rules! asked {
    ($context:expr, $($input:ty),+) => {
        $(if let Some(input) = $context.input_mut().downcast_mut::<$input>() {
            input.return_consumed_capacity = Some(ReturnConsumedCapacity::Indexes);
            return Ok(());
        })+
    };
}

impl Intercept for Meter {
    fn name(&self) -> &'static str {
        "meter"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        asked!(
            context,
            BatchExecuteStatementInput,
            BatchGetItemInput,
            BatchWriteItemInput,
            GetItemInput,
            PutItemInput,
            QueryInput,
            ScanInput
        );
        Err("an operation that the meter does not know".into())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // A call that failed does not say.
        if let Ok(output) = context.output_or_error() {
            let mut bill = self.0.lock().unwrap();
            let one = |cost: Option<&ConsumedCapacity>| cost.cloned().into_iter().collect::<Vec<_>>();
            if let Some(got) = output.downcast_ref::<GetItemOutput>() {
                bill.add("GetItem", Kind::Read, &one(got.consumed_capacity()));
            } else if let Some(got) = output.downcast_ref::<BatchGetItemOutput>() {
                bill.add("BatchGetItem", Kind::Read, got.consumed_capacity());
            } else if let Some(found) = output.downcast_ref::<QueryOutput>() {
                bill.add("Query", Kind::Read, &one(found.consumed_capacity()));
            } else if let Some(found) = output.downcast_ref::<ScanOutput>() {
                bill.add("Scan", Kind::Read, &one(found.consumed_capacity()));
            } else if let Some(put) = output.downcast_ref::<PutItemOutput>() {
                assert!(put.attributes().is_none(), "no old item is asked for");
                bill.add("PutItem", Kind::Write, &one(put.consumed_capacity()));
            } else if let Some(put) = output.downcast_ref::<BatchExecuteStatementOutput>() {
                bill.add("BatchExecuteStatement", Kind::Write, put.consumed_capacity());
            } else if let Some(put) = output.downcast_ref::<BatchWriteItemOutput>() {
                bill.add("BatchWriteItem", Kind::Write, put.consumed_capacity());
            }
        }
        Ok(())
    }
}
