"""The Lambda Runtime API's client: what AWS's own does per invocation, and no more."""

import http.client
import json
import os
import traceback


def run(handler):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

    def call(method, path, body=None):
        connection.request(method, "/2018-06-01/runtime" + path, body)
        answer = connection.getresponse()
        return answer, answer.read()

    while True:
        answer, payload = call("GET", "/invocation/next")
        request_id = answer.headers["Lambda-Runtime-Aws-Request-Id"]
        try:
            result = handler(json.loads(payload))
            call("POST", f"/invocation/{request_id}/response", json.dumps(result, separators=(",", ":")).encode())
        except Exception as error:
            traceback.print_exc()
            report = {"errorType": type(error).__name__, "errorMessage": str(error)}
            call("POST", f"/invocation/{request_id}/error", json.dumps(report).encode())
