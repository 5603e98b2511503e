"""A correct extension, standard library only. The wrong ones beside it differ from it in one thing each.

PORT says where to listen, ARRIVED names the file that plays the destination.
"""

import http.client
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Extension:
    name = os.path.basename(sys.argv[0])
    host = "0.0.0.0"
    port = int(os.environ.get("PORT", "0"))
    types = ("platform", "function")
    max_items = 1000

    def run(self):
        self.listen()
        self.register()
        self.subscribe()
        self.live()

    def listen(self):
        extension = self

        class Listener(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            log_message = None

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(extension.take(body, self.headers["sequence-id"]))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_request(self, *_):
                pass

        server = ThreadingHTTPServer((self.host, self.port), Listener)
        server.handle_error = lambda *_: None  # a client that does not wait for the answer
        server.daemon_threads = True
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def take(self, body, sequence_id):
        """Store what came, then acknowledge it."""
        with open(os.environ.get("ARRIVED", os.devnull), "a") as arrived:
            for record in json.loads(body):
                arrived.write(json.dumps(record) + "\n")
        return 200

    def events(self):
        managed = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "lambda-managed-instances"
        return ["SHUTDOWN"] if managed else ["INVOKE", "SHUTDOWN"]

    def register(self):
        headers = {"Lambda-Extension-Name": self.name}
        _, answer, _ = self.call("POST", "/2020-01-01/extension/register", headers, {"events": self.events()})
        self.me = {"Lambda-Extension-Identifier": answer["Lambda-Extension-Identifier"]}

    def subscribe(self):
        wanted = {
            "schemaVersion": "2025-01-29",
            "types": self.types,
            "buffering": {"maxItems": self.max_items, "maxBytes": 262144, "timeoutMs": 25},
            "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{self.port}/"},
        }
        return self.call("PUT", "/2022-07-01/telemetry", self.me, wanted)[0]

    def live(self):
        while True:
            event = self.next()
            if event["eventType"] == "SHUTDOWN":
                self.shutdown()
                os._exit(0)
            self.invoked()

    def next(self):
        return json.loads(self.call("GET", "/2020-01-01/extension/event/next", self.me)[2])

    def invoked(self):
        pass

    def shutdown(self):
        pass

    def call(self, method, path, headers, body=None):
        connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


if __name__ == "__main__":
    Extension().run()
