"""A function for the end-to-end tests: numbered lines, and every way to end."""

import json
import os
import socket
import time
import urllib.request


def handler(event, context):
    first = event.get("first", 0)
    for number in range(first, first + event.get("lines", 0)):
        print(f"line {number:06d}", flush=True)
        time.sleep(event.get("pause", 0))
    for number in range(event.get("json", 0)):
        print(json.dumps({"level": "ERROR", "message": f"json {number:06d}", "number": number}))
    if "text" in event:
        print(event["text"])
    for line in event.get("statsd", ()):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(line.encode(), ("127.0.0.1", event["port"]))
    if event.get("raise"):
        raise ValueError("asked to raise")
    if event.get("exit"):
        os._exit(7)
    time.sleep(event.get("sleep", 0))
    if "otlp" in event:
        return {"answers": {path: post(event["port"], path, body) for path, body in event["otlp"].items()}}
    return {"ok": True}


def post(port, path, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)
