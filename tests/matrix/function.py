"""The function of the fault matrix, and its runtime: it writes numbered lines and ends as the event says.

It has one connection and only socket imports, because every cell starts it twice. The members of the event, all of them
numbers: `first` and `lines` (which lines are written), `sleep` (seconds, afterwards), `exit` (end the process).
"""

import os
import socket
import sys
import time

host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
connection = socket.create_connection((host, int(port)))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"
DONE = b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


def header(head, name):
    """Return the value of a header; `name` is given in lower case and with its colon."""
    return next(line[len(name) :].strip() for line in head.split(b"\r\n") if line[: len(name)].lower() == name)


def exchange(request):
    """Send a request; return the head and body of the answer."""
    connection.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, body = data.split(b"\r\n\r\n", 1)
    length = int(header(head, b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return head, body


def handle(event):
    first = event.get("first", 0)
    for number in range(first, first + event.get("lines", 0)):
        sys.stdout.write(f"line {number:06d}\n")
    sys.stdout.flush()
    time.sleep(event.get("sleep", 0))
    if "exit" in event:
        os._exit(event["exit"])


while True:
    head, body = exchange(NEXT)
    handle(eval(body))  # our JSON of numbers is also Python, and importing json takes time
    exchange(DONE % header(head, b"lambda-runtime-aws-request-id:"))
