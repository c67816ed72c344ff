output "repository_url" {
  description = "Where images are pushed to: registry and repository, without a tag."
  value       = aws_ecr_repository.this.repository_url
}

output "repository_name" {
  description = "The repository's name in ECR."
  value       = aws_ecr_repository.this.name
}

output "kms_key_arn" {
  description = "The key that encrypts everything; empty when AWS's own keys do. The second stage takes it."
  value       = var.customer_managed_key ? aws_kms_key.this[0].arn : ""
}
