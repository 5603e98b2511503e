"""A runtime of its own whose event says what it streams, and how that ends.

"chunks": texts, sent one by one; "pause_s": waited between them; "size": so many bytes instead; "type": the content
type; "prelude": a JSON object and eight NUL bytes before them; "break": an error in the trailers; "exit": the process
ends in the middle; "plain": no stream, but this answer.
"""

import base64
import http.client
import json
import os
import time

PATH = "/2018-06-01/runtime/invocation"
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def send(chunk):
    connection.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))


def stream(request_id, event):
    connection.putrequest("POST", f"{PATH}/{request_id}/response")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    connection.putheader("Content-Type", event.get("type", "application/octet-stream"))
    connection.endheaders()
    if "prelude" in event:
        prelude = json.dumps(event["prelude"]).encode() + bytes(8)
        send(prelude[:5])
        send(prelude[5:-3])
        send(prelude[-3:])
    for chunk in event.get("chunks", []):
        send(chunk.encode())
        time.sleep(event.get("pause_s", 0))
    for _ in range(event.get("size", 0) // 65536):
        send(bytes(65536))
    if "exit" in event:
        os._exit(event["exit"])
    trailers = ""
    if "break" in event:
        body = json.dumps({"errorType": "Mine", "errorMessage": event["break"]}).encode()
        trailers = "Lambda-Runtime-Function-Error-Type: Function.Broken\r\n"
        trailers += f"Lambda-Runtime-Function-Error-Body: {base64.b64encode(body).decode()}\r\n"
    connection.send(f"0\r\n{trailers}\r\n".encode())
    connection.getresponse().read()


while True:
    connection.request("GET", f"{PATH}/next")
    response = connection.getresponse()
    event = json.loads(response.read())
    if event.get("version") == "2.0":  # of a function URL: what to do is in its body
        event = json.loads(event["body"])
    request_id = response.getheader("Lambda-Runtime-Aws-Request-Id")
    if "plain" in event:
        connection.request("POST", f"{PATH}/{request_id}/response", json.dumps(event["plain"]))
        connection.getresponse().read()
    else:
        stream(request_id, event)
