"""A runtime of its own, as an OS-only runtime would have it: it echoes, and streams its answer in chunks."""

import http.client
import json
import os

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    response = connection.getresponse()
    event = json.loads(response.read())
    answer = json.dumps({"echo": event, "mode": "streaming"}).encode()
    path = f"/2018-06-01/runtime/invocation/{response.getheader('Lambda-Runtime-Aws-Request-Id')}/response"
    headers = {"Transfer-Encoding": "chunked", "Lambda-Runtime-Function-Response-Mode": "streaming"}
    connection.request("POST", path, iter([answer[:5], answer[5:]]), headers, encode_chunked=True)
    connection.getresponse().read()
