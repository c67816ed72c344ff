terraform {
  # `use_lockfile` of the S3 backend, and mocked providers in tests.
  required_version = ">= 1.10.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = merge({ application = var.name, stage = "dependencies" }, var.tags)
  }
}
