"""A forwarder in plain Python as in tutorials: `requests`, a thread with http.server, a queue, a post for each event.

It sends the records received so far when the next event arrives, and waits for nothing: a measure of cost, not of
delivery.
"""

import gzip
import json
import os
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import requests

API = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}"
PORT = int(os.environ["TELEMETRY_FORWARDER_PORT"])
NAME = Path(sys.argv[0]).name
records = queue.Queue()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        for record in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
            records.put(record)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Keep standard output for telemetry."""


def send():
    batch = []
    while not records.empty():
        record = records.get()
        batch.append(json.dumps({"event": record["record"], "fields": {"type": record["type"]}}))
    if batch:
        requests.post(
            os.environ["SPLUNK_HEC_URL"] + "/services/collector/event",
            data=gzip.compress("\n".join(batch).encode()),
            headers={"Authorization": "Splunk " + os.environ["SPLUNK_HEC_TOKEN"], "Content-Encoding": "gzip"},
            timeout=5,
        )


server = HTTPServer(("0.0.0.0", PORT), Handler)  # noqa: S104 - the platform reaches it there
threading.Thread(target=server.serve_forever, daemon=True).start()
answer = requests.post(
    f"{API}/2020-01-01/extension/register",
    json={"events": ["INVOKE", "SHUTDOWN"]},
    headers={"Lambda-Extension-Name": NAME},
    timeout=10,
)
if answer.status_code != 200:
    sys.exit(1)
mine = {"Lambda-Extension-Identifier": answer.headers["Lambda-Extension-Identifier"]}
requests.put(
    f"{API}/2022-07-01/telemetry",
    json={
        "schemaVersion": "2022-12-13",
        "types": ["platform", "function"],
        "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
        "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{PORT}"},
    },
    headers=mine,
    timeout=10,
)
while True:
    event = requests.get(f"{API}/2020-01-01/extension/event/next", headers=mine, timeout=None).json()  # noqa: S113
    send()
    if event["eventType"] == "SHUTDOWN":
        break
