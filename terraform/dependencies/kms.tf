data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

# The key is in this stage, not beside the tables: the repository needs it first, and the event table, when it is
# kept, needs it still after everything else was destroyed.
resource "aws_kms_key" "this" {
  count = var.customer_managed_key ? 1 : 0

  description             = "Encrypts everything of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = var.key_deletion_window_days

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # AWS's default, without which nobody could ever change the key again. It gives nothing to anybody by itself:
        # it lets IAM policies of this account do so, and those of the functions name their actions.
        Sid       = "PoliciesOfThisAccountDecide"
        Effect    = "Allow"
        Principal = { AWS = "arn:${data.aws_partition.this.partition}:iam::${data.aws_caller_identity.this.account_id}:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        Sid       = "LogsAreEncrypted"
        Effect    = "Allow"
        Principal = { Service = "logs.${var.region}.${data.aws_partition.this.dns_suffix}" }
        Action = [
          "kms:Decrypt",
          "kms:DescribeKey",
          "kms:Encrypt",
          "kms:GenerateDataKey",
          "kms:GenerateDataKeyWithoutPlaintext",
          "kms:ReEncryptFrom",
          "kms:ReEncryptTo",
        ]
        Resource = "*"
        Condition = {
          ArnLike = {
            "kms:EncryptionContext:aws:logs:arn" = "arn:${data.aws_partition.this.partition}:logs:${var.region}:${data.aws_caller_identity.this.account_id}:log-group:*"
          }
        }
      },
      {
        # An alarm that could not encrypt its message would not be heard.
        Sid       = "AlarmsAreSent"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.this.account_id } }
      },
    ]
  })
}

resource "aws_kms_alias" "this" {
  count = var.customer_managed_key ? 1 : 0

  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.this[0].key_id
}
