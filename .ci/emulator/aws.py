#!/usr/bin/env python3
"""An AWS on this machine: ministack, reachable under AWS's own names, with functions that run from their images.

    aws.py FOLDER

writes FOLDER/environment once it is ready: the variables with which the tools find it. It listens on loopback only.
"""

import json
import os
import pathlib
import re
import signal
import socket
import sys
import threading
from xml.sax.saxutils import escape

FOLDER = pathlib.Path(sys.argv[1])
REGION = "eu-central-1"
FOLDER.mkdir(parents=True, exist_ok=True)

with socket.create_server(("127.0.0.1", 0)) as free:
    PORT = free.getsockname()[1]
# ministack reads its settings when it is imported.
os.environ |= {
    "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(PORT), "MINISTACK_REGION": REGION, "TMPDIR": str(FOLDER),
}
sys.argv = ["ministack"]

from ministack import app  # noqa: E402
from ministack.services import apigateway_v1, cloudwatch, dynamodb, lambda_svc  # noqa: E402

from functions import Functions  # noqa: E402
from network import Network  # noqa: E402

network = Network(FOLDER, REGION, PORT)
authorities = FOLDER / "authorities.pem"
authorities.write_text(pathlib.Path("/etc/ssl/certs/ca-certificates.crt").read_text()
                       + network.authority.read_text())
proxy = f"http://127.0.0.1:{network.proxy_port}"
access = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
functions = Functions(
    FOLDER, access | {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}, network.address, network.authority,
    {"HTTPS_PROXY": proxy, "SSL_CERT_FILE": str(authorities)},
)


# APIs have the host names that they have on AWS.
app._EXECUTE_API_RE = re.compile(rf"^([a-z0-9]+)\.execute-api\.{REGION}\.amazonaws\.com(?::\d+)?$")


# Functions of image type run here.
def execute(func, event, _url, request_id):
    record = func.get("config") or func
    answer, failed = functions.invoke(
        record, record["ImageUri"], json.dumps(event).encode(), request_id, int(record["Timeout"])
    )
    return {"body": json.loads(answer) if answer else None, "error": failed}


lambda_svc._proxy_url_for = lambda config: "here" if config.get("ImageUri") else None
lambda_svc._execute_function_proxy = execute


# PutRestApi, which ministack lacks: a REST API's definition is replaced as a whole.
rest_api = apigateway_v1.handle_request


async def handle_rest_api(method, path, headers, body, query):
    parts = path.strip("/").split("/")
    if method != "PUT" or len(parts) != 2 or parts[0] != "restapis":
        return await rest_api(method, path, headers, body, query)
    api, definition = parts[1], json.loads(body)
    resources = apigateway_v1._resources[api]
    for identity in [identity for identity, resource in resources.items() if resource["path"] != "/"]:
        del resources[identity]
    for resource in resources.values():
        resource["resourceMethods"] = {}
    schemes = apigateway_v1._import_security_schemes(api, definition)
    for path, item in definition.get("paths", {}).items():
        apigateway_v1._import_path_item(api, path, item, schemes, definition.get("security"))
    return apigateway_v1._get_rest_api(api)


apigateway_v1.handle_request = handle_rest_api
apigateway_v1._OPENAPI_HTTP_METHODS.add("x-amazon-apigateway-any-method")
import_operation = apigateway_v1._import_operation


def import_any_method(api, resource, method, *rest):
    return import_operation(api, resource, "ANY" if method.startswith("X-AMAZON") else method, *rest)


apigateway_v1._import_operation = import_any_method




# Alarms are told as they were made; ministack leaves half of it out, so that a plan would never be empty.
describe_alarms = cloudwatch._describe_alarms


def describe_alarms_in_full(params, cbor, is_cbor, is_json=False):
    if is_cbor or is_json:
        return describe_alarms(params, cbor, is_cbor, is_json)
    asked = {value[0] for key, value in params.items() if key.startswith("AlarmNames.member.")}
    alarms = []
    for alarm in cloudwatch._alarms.values():
        if asked and alarm["AlarmName"] not in asked:
            continue
        alarm = {key: value for key, value in alarm.items() if not key.endswith("Timestamp") and value is not None}
        if "ExtendedStatistic" in alarm:
            del alarm["Statistic"]
        if not alarm["MetricName"]:  # it is of several metrics, and these are theirs
            for name in ("MetricName", "Namespace", "Statistic", "Period", "Dimensions"):
                del alarm[name]
        alarms.append(alarm)
    return cloudwatch._xml(200, "DescribeAlarmsResponse", element("DescribeAlarmsResult", {"MetricAlarms": alarms}))


def element(name, value):
    if isinstance(value, dict):
        inner = "".join(element(key, part) for key, part in value.items())
    elif isinstance(value, list):
        inner = "".join(element("member", part) for part in value)
    else:
        inner = escape(str(value).lower() if isinstance(value, bool) else str(value))
    return f"<{name}>{inner}</{name}>"


cloudwatch._describe_alarms = describe_alarms_in_full

# And so is for how many days a table can be restored.
recovery_days = {}
update_backups, describe_backups = dynamodb._update_continuous_backups, dynamodb._describe_continuous_backups


def update_backups_with_days(data):
    recovery_days[data["TableName"]] = data["PointInTimeRecoverySpecification"].get("RecoveryPeriodInDays", 35)
    return update_backups(data)


def describe_backups_with_days(data):
    status, headers, body = describe_backups(data)
    answer = json.loads(body)
    recovery = answer.get("ContinuousBackupsDescription", {}).get("PointInTimeRecoveryDescription", {})
    if recovery.get("PointInTimeRecoveryStatus") == "ENABLED":
        recovery["RecoveryPeriodInDays"] = recovery_days[data["TableName"].rpartition("/")[2]]
    return status, headers, json.dumps(answer).encode()


dynamodb._update_continuous_backups = update_backups_with_days
dynamodb._describe_continuous_backups = describe_backups_with_days

# An SDK that got no answer asks again. AWS says 409 to the second AddPermission, which the provider then repeats for
# five minutes; this machine loses no answers for good, so an identical repeat is taken as done.
add_permission = lambda_svc._add_permission


def add_permission_again(name, data, *rest):
    answer = add_permission(name, data, *rest)
    if answer[0] != 409:
        return answer
    statements = lambda_svc._functions[name]["policy"]["Statement"]
    old = next(one for one in statements if one.get("Sid") == data.get("StatementId"))
    statements.remove(old)
    again = add_permission(name, data, *rest)
    if again[0] == 201 and statements[-1] == old:
        return again
    if again[0] == 201:
        statements.pop()
    statements.append(old)
    return answer


lambda_svc._add_permission = add_permission_again


def tell_when_ready():
    while True:
        try:
            socket.create_connection(("127.0.0.1", PORT), 1).close()
            break
        except OSError:
            pass
    credentials = FOLDER / "credentials"
    credentials.write_text(
        f"[inception-health]\naws_access_key_id = test\naws_secret_access_key = test\nregion = {REGION}\n")
    lines = {
        "AWS_SHARED_CREDENTIALS_FILE": credentials, "AWS_CONFIG_FILE": credentials,
        "AWS_EC2_METADATA_DISABLED": "true",
        "HTTPS_PROXY": proxy, "AWS_CA_BUNDLE": authorities, "CURL_CA_BUNDLE": authorities,
        "SSL_CERT_FILE": authorities,
    }
    text = "".join(f"export {name}={value}\n" for name, value in lines.items())
    (FOLDER / "environment.new").write_text(text)
    (FOLDER / "environment.new").rename(FOLDER / "environment")


threading.Thread(target=tell_when_ready, daemon=True).start()


def note_names(*_):
    (FOLDER / "asked.new").write_text("\n".join(sorted(network.asked)) + "\n")
    (FOLDER / "asked.new").rename(FOLDER / "asked")


# Which names the functions have looked up.
signal.signal(signal.SIGUSR1, note_names)
try:
    app.main()
finally:
    functions.stop()
