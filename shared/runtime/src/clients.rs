//! AWS clients for a Lambda function.
//!
//! Deliberately absent: the default credential chain. Lambda puts credentials into the environment, so a
//! chain of providers and the crates behind it would only slow down the cold start.

use std::time::Duration;

use aws_sdk_dynamodb::config::RuntimeComponents;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{Credentials, Region, SharedHttpClient, StalledStreamProtectionConfig};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use crate::config::{ConfigError, Lookup, optional, required};

/// Where AWS is and who is calling, from the variables that every Lambda function has
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>). `AWS_ENDPOINT_URL_DYNAMODB` and
/// `AWS_ENDPOINT_URL_SQS`, as the AWS CLI knows them, point a client somewhere else.
#[derive(Debug, Clone)]
pub struct AwsEnvironment {
    region: Region,
    credentials: Credentials,
    dynamodb_endpoint: Option<String>,
    sqs_endpoint: Option<String>,
    http_client: SharedHttpClient,
}

impl AwsEnvironment {
    /// Reads the environment.
    ///
    /// # Errors
    /// [`ConfigError`] names the variable that is missing.
    pub fn from_lookup(lookup: Lookup<'_>) -> Result<AwsEnvironment, ConfigError> {
        Ok(AwsEnvironment {
            region: Region::new(required(lookup, "AWS_REGION")?),
            credentials: Credentials::new(
                required(lookup, "AWS_ACCESS_KEY_ID")?,
                required(lookup, "AWS_SECRET_ACCESS_KEY")?,
                optional(lookup, "AWS_SESSION_TOKEN"),
                None,
                "environment",
            ),
            dynamodb_endpoint: optional(lookup, "AWS_ENDPOINT_URL_DYNAMODB"),
            sqs_endpoint: optional(lookup, "AWS_ENDPOINT_URL_SQS"),
            http_client: http_client(),
        })
    }

    /// A DynamoDB client.
    #[must_use]
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let mut config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::v2026_01_12())
            .region(self.region.clone())
            .credentials_provider(self.credentials.clone())
            .http_client(self.http_client.clone())
            .retry_config(retries())
            .timeout_config(timeouts())
            .stalled_stream_protection(stalled_streams());
        config.set_endpoint_url(self.dynamodb_endpoint.clone());
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// An SQS client.
    #[must_use]
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        let mut config = aws_sdk_sqs::Config::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::v2026_01_12())
            .region(self.region.clone())
            .credentials_provider(self.credentials.clone())
            .http_client(self.http_client.clone())
            .retry_config(retries())
            .timeout_config(timeouts())
            .stalled_stream_protection(stalled_streams());
        config.set_endpoint_url(self.sqs_endpoint.clone());
        aws_sdk_sqs::Client::from_conf(config.build())
    }
}

/// The HTTPS client: rustls with ring, whose first connection costs a fraction of the CPU that the SDK's
/// default provider spends on entropy.
#[must_use]
pub fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

/// The same for a program on somebody's machine: through the proxy that `HTTPS_PROXY` and `NO_PROXY` name, as the AWS CLI
/// goes. A function has none.
#[must_use]
pub fn http_client_behind_proxy() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).build()
    })
}

/// How often a call is made, in all, before it counts as failed.
#[must_use]
pub fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(4)
        .with_initial_backoff(Duration::from_millis(50))
}

/// None looks whether an answer has stopped coming: the SDK would after 20 seconds, and each attempt is over after 5.
#[must_use]
pub fn stalled_streams() -> StalledStreamProtectionConfig {
    StalledStreamProtectionConfig::disabled()
}

/// Every call ends well before the function that makes it would be timed out.
#[must_use]
pub fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(5))
        .operation_timeout(Duration::from_secs(15))
        .build()
}
