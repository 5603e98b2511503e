"""A function with an internal extension: a thread that registers under a name of its own."""

import http.client
import os
import threading


def extension():
    def call(method, path, headers, body=None):
        connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
        connection.request(method, f"/2020-01-01/extension/{path}", body, headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response

    first = call("POST", "register", {"Lambda-Extension-Name": "inside"}, '{"events": ["INVOKE"]}')
    registered.set()
    identifier = first.getheader("Lambda-Extension-Identifier")
    while True:
        call("GET", "event/next", {"Lambda-Extension-Identifier": identifier})


registered = threading.Event()
threading.Thread(target=extension, daemon=True).start()
registered.wait()  # registration closes when the runtime asks for its first invocation


def handler(event, context):
    return "ok"
