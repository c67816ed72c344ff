locals {
  own_key     = var.kms_key_arn != ""
  kms_key_arn = local.own_key ? var.kms_key_arn : null
}
