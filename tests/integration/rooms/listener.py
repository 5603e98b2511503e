#!/usr/bin/env python3
"""An extension as many are written: in a directory of its own in /opt, with a listener at a fixed port.

The API to subscribe to is in EXTENSION_API, telemetry or logs; what to bind in EXTENSION_BINDS, Lambda's name for it if
nothing else is said. A second listener is at localhost. What it was sent it prints at SHUTDOWN.
"""

import http.client
import http.server
import json
import os
import socket
import sys
import threading
import time

NAME = os.path.basename(os.environ.get("EXTENSION_NAME", "listener"))
PORT, LOCAL_PORT = 4243, 2773
seen = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        seen.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def do_GET(self):  # who is it?
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["AWS_LAMBDA_RUNTIME_API"].encode())

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host, port):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


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
    Server(os.environ.get("EXTENSION_BINDS", "sandbox.localdomain"), PORT)
    if "EXTENSION_BINDS" in os.environ:
        Server("localhost", LOCAL_PORT)
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
