#!/usr/bin/env python3
"""An extension as many are written: in a directory of its own in /opt, it binds a fixed port by Lambda's name for it.

The API to subscribe to is in EXTENSION_API, telemetry or logs. What it was sent it prints at SHUTDOWN.
"""

import http.client
import http.server
import json
import os
import sys
import threading
import time

NAME = os.path.basename(os.environ.get("EXTENSION_NAME", "listener"))
PORT = 4243
seen = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        seen.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def call(method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, path, None if body is None else json.dumps(body), headers or {})
    answer = connection.getresponse()
    return answer.headers, answer.read()


def main():
    headers, _ = call(
        "POST",
        "/2020-01-01/extension/register",
        {"events": ["INVOKE", "SHUTDOWN"]},
        {"Lambda-Extension-Name": NAME},
    )
    mine = {"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}
    server = http.server.ThreadingHTTPServer(("sandbox.localdomain", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    destination = {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{PORT}"}
    if os.environ.get("EXTENSION_API") == "logs":
        path, schema = "/2020-08-15/logs", "2021-03-18"
        buffering = {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 100}
    else:
        path, schema = "/2022-07-01/telemetry", "2022-12-13"
        buffering = {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25}
    body = {"schemaVersion": schema, "types": ["function"], "buffering": buffering, "destination": destination}
    _, answer = call("PUT", path, body, mine)
    print("subscribed", answer.decode(), flush=True)
    while True:
        event = json.loads(call("GET", "/2020-01-01/extension/event/next", None, mine)[1])
        if event["eventType"] == "SHUTDOWN":
            while not seen and time.time() * 1000 < event["deadlineMs"] - 200:
                time.sleep(0.01)  # until the platform's buffer is due
            print("seen", json.dumps([one["record"] for one in seen]), flush=True)
            sys.exit(0)


if __name__ == "__main__":
    main()
