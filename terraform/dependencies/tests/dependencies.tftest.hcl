# What has to be there before an image is: the repository, and the key that encrypts it and everything later.

mock_provider "aws" {
  override_data {
    target = data.aws_caller_identity.this
    values = { account_id = "123456789012" }
  }
  override_data {
    target = data.aws_partition.this
    values = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
  }
}

variables {
  region = "eu-central-1"
}

run "an_image_never_changes_and_is_scanned" {
  assert {
    condition     = aws_ecr_repository.this.name == "checkin" && aws_ecr_repository.this.image_tag_mutability == "IMMUTABLE"
    error_message = "A tag can be moved to another image."
  }
  assert {
    condition     = one(aws_ecr_repository.this.image_scanning_configuration).scan_on_push
    error_message = "Images are not scanned."
  }
  assert {
    condition     = aws_ecr_repository.this.force_delete
    error_message = "destroy fails while there are images."
  }
  assert {
    condition     = [for rule in jsondecode(aws_ecr_lifecycle_policy.this.policy).rules : rule.selection.countNumber] == [1, 20]
    error_message = "Images are kept for ever, or not long enough to roll back to."
  }
}

run "images_are_encrypted_with_the_one_key" {
  assert {
    condition     = one(aws_ecr_repository.this.encryption_configuration).encryption_type == "KMS" && one(aws_ecr_repository.this.encryption_configuration).kms_key == aws_kms_key.this[0].arn
    error_message = "Images are encrypted otherwise."
  }
  assert {
    condition     = output.kms_key_arn == aws_kms_key.this[0].arn && aws_kms_key.this[0].enable_key_rotation && aws_kms_key.this[0].deletion_window_in_days == 30
    error_message = "The key is not rotated, not put out, or gone too soon."
  }
  assert {
    condition     = aws_kms_alias.this[0].name == "alias/checkin"
    error_message = "The key is not found by its name."
  }
}

run "key_is_used_by_those_who_are_named" {
  assert {
    condition = jsonencode([
      for statement in jsondecode(aws_kms_key.this[0].policy).Statement : [statement.Sid, values(statement.Principal), statement.Action, try(statement.Condition, {})]
      ]) == jsonencode([
      ["PoliciesOfThisAccountDecide", ["arn:aws:iam::123456789012:root"], "kms:*", {}],
      ["LogsAreEncrypted", ["logs.eu-central-1.amazonaws.com"], ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"],
        { ArnLike = { "kms:EncryptionContext:aws:logs:arn" = "arn:aws:logs:eu-central-1:123456789012:log-group:*" } }
      ],
      ["AlarmsAreSent", ["cloudwatch.amazonaws.com"], ["kms:Decrypt", "kms:GenerateDataKey"], { StringEquals = { "aws:SourceAccount" = "123456789012" } }],
    ])
    error_message = "The key's policy is not the one that is written here."
  }
}

run "only_functions_of_this_deployment_get_the_image" {
  assert {
    condition = jsonencode([
      for statement in jsondecode(aws_ecr_repository_policy.this.policy).Statement : [statement.Principal, statement.Action, statement.Condition]
      ]) == jsonencode([[
        { Service = "lambda.amazonaws.com" },
        ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        {
          ArnLike = { "aws:SourceArn" = "arn:aws:lambda:eu-central-1:123456789012:function:checkin-*" }
        },
    ]])
    error_message = "Somebody else may get the image."
  }
}

run "without_an_own_key_images_are_encrypted_all_the_same" {
  variables {
    customer_managed_key = false
  }

  assert {
    condition     = one(aws_ecr_repository.this.encryption_configuration).encryption_type == "AES256" && length(aws_kms_key.this) == 0 && output.kms_key_arn == ""
    error_message = "There is a key, or no encryption."
  }
}

run "wrong_values_are_refused" {
  command = plan

  variables {
    name                     = "Check-in"
    region                   = "Frankfurt"
    key_deletion_window_days = 6
    images_kept              = 1
    tags                     = { "aws:mine" = "x" }
  }

  expect_failures = [
    var.name,
    var.region,
    var.key_deletion_window_days,
    var.images_kept,
    var.tags,
  ]
}
