locals {
  api_url = var.custom_domain == null ? aws_api_gateway_stage.this.invoke_url : "https://${var.custom_domain.name}"
}

output "patients_url" {
  description = "GET it for the patients."
  value       = "${local.api_url}/patients"
}

output "api_url" {
  description = "Where the API begins; the page for people is at this address with a slash at the end."
  value       = local.api_url
}

output "rest_api_id" {
  description = "The API's id in API Gateway."
  value       = aws_api_gateway_rest_api.this.id
}

output "event_table" {
  description = "Name of the event table."
  value       = aws_dynamodb_table.events.name
}

output "read_model_table" {
  description = "Name of the read model's table."
  value       = aws_dynamodb_table.read_model.name
}

output "quarantine_queue_url" {
  description = "The queue with a message for each event that can't be applied."
  value       = aws_sqs_queue.this["quarantine"].url
}

output "stream_failures_queue_url" {
  description = "The queue with a message for each batch of stream records that Lambda gave up."
  value       = aws_sqs_queue.this["stream_failures"].url
}

output "record_to_make" {
  description = "The DNS record that is yours to make: name, type, value. Empty unless custom_domain has no zone_id."
  value       = var.custom_domain == null || try(var.custom_domain.zone_id, null) != null ? "" : "${var.custom_domain.name} CNAME ${aws_api_gateway_domain_name.this[0].regional_domain_name}"
}

output "replay_environment" {
  description = "What `replay` takes from its environment to find this deployment."
  value       = { AWS_REGION = var.region, DEPLOYMENT = var.name }
}

output "function_names" {
  description = "Name of each function."
  value       = local.function_names
}

output "log_groups" {
  description = "Log group of each function, and those of the API."
  value = merge(
    { for service, group in aws_cloudwatch_log_group.function : service => group.name },
    { api-access = aws_cloudwatch_log_group.access.name, api-errors = aws_cloudwatch_log_group.execution.name },
  )
}

output "alarm_topic_arn" {
  description = "The SNS topic of all alarms: subscribe to it."
  value       = aws_sns_topic.alarms.arn
}

output "dashboard_url" {
  description = "The dashboard in the console; null without one."
  value       = var.dashboard ? "https://${var.region}.console.aws.amazon.com/cloudwatch/home?region=${var.region}#dashboards/dashboard/${var.name}" : null
}

output "iam_authorization" {
  description = "Whether the API answers signed requests only."
  value       = var.iam_authorization
}
