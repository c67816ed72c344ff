# One image holds all functions; which one it is, its entry point says.
resource "aws_ecr_repository" "this" {
  name = var.name

  # A tag names one state of the sources, for ever.
  image_tag_mutability = "IMMUTABLE"

  # Images are made from the sources, so nothing is lost with them.
  force_delete = true

  image_scanning_configuration {
    scan_on_push = true
  }

  # An image can contain an operator's own roster, which is patient data: so the one key for it, too.
  encryption_configuration {
    encryption_type = var.customer_managed_key ? "KMS" : "AES256"
    kms_key         = var.customer_managed_key ? aws_kms_key.this[0].arn : null
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  repository = aws_ecr_repository.this.name

  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "What was pushed halfway"
        selection = {
          tagStatus   = "untagged"
          countType   = "sinceImagePushed"
          countUnit   = "days"
          countNumber = 1
        }
        action = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "All but the last ${var.images_kept} images"
        selection = {
          tagStatus   = "any"
          countType   = "imageCountMoreThan"
          countNumber = var.images_kept
        }
        action = { type = "expire" }
      },
    ]
  })
}

# Without this Lambda would write such a policy itself, if whoever deploys may.
resource "aws_ecr_repository_policy" "this" {
  repository = aws_ecr_repository.this.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "FunctionsOfThisDeploymentGetTheirImage"
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      Condition = {
        ArnLike = {
          "aws:SourceArn" = "arn:${data.aws_partition.this.partition}:lambda:${var.region}:${data.aws_caller_identity.this.account_id}:function:${var.name}-*"
        }
      }
    }]
  })
}
