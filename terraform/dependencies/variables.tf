variable "name" {
  description = "Prefix of the name of everything. Two deployments in one account and region need two names."
  type        = string
  default     = "checkin"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.name)) && length(var.name) >= 3 && length(var.name) <= 32
    error_message = "name must be 3 to 32 of a-z, 0-9 and single hyphens between them, and begin with a letter."
  }
}

variable "region" {
  description = "AWS region of everything, such as eu-central-1."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2,3}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be the name of an AWS region, such as eu-central-1."
  }
}

variable "customer_managed_key" {
  description = "Whether one key of this account encrypts everything: images, tables, queues, logs, alarm messages. It costs about 1 USD a month and shows in CloudTrail who decrypted what. Without it AWS's own keys do. Not to be changed once there are data: they stay encrypted with the key they were written with."
  type        = bool
  default     = true
  nullable    = false
}

variable "key_deletion_window_days" {
  description = "For how many days after `terraform destroy` the key, and with it every backup, can still be brought back: 7 to 30."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.key_deletion_window_days >= 7 && var.key_deletion_window_days <= 30 && floor(var.key_deletion_window_days) == var.key_deletion_window_days
    error_message = "key_deletion_window_days must be a whole number from 7 to 30."
  }
}

variable "images_kept" {
  description = "How many images the repository keeps. The oldest ones beyond that are removed, and a release is rolled back only to an image that is there: 2 to 1000."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.images_kept >= 2 && var.images_kept <= 1000 && floor(var.images_kept) == var.images_kept
    error_message = "images_kept must be a whole number from 2 to 1000."
  }
}

variable "tags" {
  description = "Further tags for everything, such as a cost centre."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:") && length(key) <= 128])
    error_message = "tags must have keys of at most 128 characters that do not begin with aws:."
  }
}
