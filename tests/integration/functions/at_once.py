"""A runtime for Managed Instances: several workers that each ask for invocations."""

import http.client
import json
import os
import threading
import time


def work():
    while True:
        connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        connection.request("GET", "/2018-06-01/runtime/invocation/next")
        response = connection.getresponse()
        event = json.loads(response.read())
        time.sleep(event.get("sleep", 0))
        path = f"/2018-06-01/runtime/invocation/{response.getheader('Lambda-Runtime-Aws-Request-Id')}/response"
        connection.request("POST", path, json.dumps(event))
        connection.getresponse().read()
        connection.close()


for _ in range(8):
    threading.Thread(target=work).start()
