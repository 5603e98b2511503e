"""A runtime of its own, as an OS-only runtime would have it: it echoes, and streams its answer in chunks.

An event with "break" makes it fail in the middle of the stream, which it says in trailers.
"""

import base64
import http.client
import json
import os

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def stream(path, chunks, trailers):
    connection.putrequest("POST", path)
    connection.putheader("Transfer-Encoding", "chunked")
    connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    if trailers:
        connection.putheader("Trailer", ", ".join(trailers))
    connection.endheaders()
    for chunk in chunks:
        connection.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
    rows = "".join(f"{name}: {value}\r\n" for name, value in trailers.items())
    connection.send(f"0\r\n{rows}\r\n".encode())
    connection.getresponse().read()


while True:
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    response = connection.getresponse()
    event = json.loads(response.read())
    answer = json.dumps({"echo": event, "mode": "streaming"}).encode()
    trailers = {}
    if event and "break" in event:
        error = json.dumps({"errorType": "Mine", "errorMessage": event["break"]}).encode()
        trailers = {
            "Lambda-Runtime-Function-Error-Type": "Function.Broken",
            "Lambda-Runtime-Function-Error-Body": base64.b64encode(error).decode(),
        }
    path = f"/2018-06-01/runtime/invocation/{response.getheader('Lambda-Runtime-Aws-Request-Id')}/response"
    stream(path, [answer[:5], answer[5:]], trailers)
