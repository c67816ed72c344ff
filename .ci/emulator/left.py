"""Prints what is left in the account, a line each. Nothing, if it is as empty as a new one."""

import boto3

session = boto3.Session(profile_name="inception-health")


def call(service, operation, *path, **arguments):
    found = getattr(session.client(service), operation)(**arguments)
    for key in path:
        found = found.get(key, []) if isinstance(found, dict) else [item[key] for item in found]
    return found


LISTS = [
    ("lambda", "list_functions", "Functions", "FunctionName"),
    ("lambda", "list_event_source_mappings", "EventSourceMappings", "UUID"),
    ("dynamodb", "list_tables", "TableNames"),
    ("ecr", "describe_repositories", "repositories", "repositoryName"),
    ("events", "list_rules", "Rules", "Name"),
    ("sqs", "list_queues", "QueueUrls"),
    ("sns", "list_topics", "Topics", "TopicArn"),
    ("sns", "list_subscriptions", "Subscriptions", "SubscriptionArn"),
    ("apigateway", "get_rest_apis", "items", "name"),
    ("apigateway", "get_domain_names", "items", "domainName"),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName"),
]
for service, operation, *path in LISTS:
    for name in call(service, operation, *path):
        print(f"{service}: {name}")
for firewall in call("wafv2", "list_web_acls", "WebACLs", Scope="REGIONAL"):
    print(f"wafv2: {firewall['Name']}")
# One for the account and region; without one there is no name, or an empty one.
if role := session.client("apigateway").get_account().get("cloudwatchRoleArn"):
    print(f"apigateway: logs with {role}")
kms = session.client("kms")
for key in kms.list_keys()["Keys"]:
    # A key is removed after a delay; AWS's own keys are nobody's.
    about = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
    if about["KeyState"] != "PendingDeletion" and about.get("KeyManager") != "AWS":
        print("kms: a key")
for alias in kms.list_aliases()["Aliases"]:
    if not alias["AliasName"].startswith("alias/aws/"):
        print(f"kms: {alias['AliasName']}")
