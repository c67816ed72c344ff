//! What writes cost, as DynamoDB says.

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeSerializationInterceptorContextMut,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::operation::transact_write_items::{TransactWriteItemsInput, TransactWriteItemsOutput};
use aws_sdk_dynamodb::types::ReturnConsumedCapacity;

/// The write units of all transactions, the only writes here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Units(Arc<Mutex<f64>>);

impl Units {
    /// Those since this was asked last.
    pub(crate) fn take(&self) -> f64 {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Intercept for Units {
    fn name(&self) -> &'static str {
        "units"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(input) = context.input_mut().downcast_mut::<TransactWriteItemsInput>() {
            input.return_consumed_capacity = Some(ReturnConsumedCapacity::Total);
        }
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Ok(output) = context.output_or_error()
            && let Some(written) = output.downcast_ref::<TransactWriteItemsOutput>()
        {
            let units = written.consumed_capacity().iter().filter_map(|spent| spent.capacity_units());
            *self.0.lock().unwrap() += units.sum::<f64>();
        }
        Ok(())
    }
}
