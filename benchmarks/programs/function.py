"""The function of the benchmarks: a minimal Python runtime with one connection and only socket imports.

INIT_CPU_MS in the environment is CPU time spent before the first invocation. The event says what an invocation does:
`{"lines": N, "cpu_ms": M}` prints N lines and uses M ms of CPU; `{"secret": NAME}` asks the extension for a secret
before that. The answer is the time that took, in ms.
"""

import _socket
import os
import sys
import time

host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
connection.connect((host, int(port)))
connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)


def exchange(request):
    """Send a request; return the head and body of the answer."""
    connection.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, body = data.split(b"\r\n\r\n", 1)
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:")
    while len(body) < length:
        body += connection.recv(65536)
    return head, body


def _burn(ms):
    end = time.process_time() + ms / 1000
    while time.process_time() < end:
        pass


def _ask_for(secret):
    """Read a secret of Secrets Manager from the extension's port, like a function that starts."""
    asking = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    asking.connect(("127.0.0.1", int(os.environ["PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"])))
    head = f"GET /secretsmanager/get?secretId={secret} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    asking.sendall(f"{head}X-Aws-Parameters-Secrets-Token: {os.environ['AWS_SESSION_TOKEN']}\r\n\r\n".encode())
    answer = b""
    while news := asking.recv(65536):
        answer += news
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(answer.decode())


def handle(event):
    began = time.perf_counter()
    if "secret" in event:
        _ask_for(event["secret"])
    sys.stdout.write(
        "".join(f"order {number:08} of customer 7311 accepted\n" for number in range(event.get("lines", 0)))
    )
    sys.stdout.flush()
    _burn(event.get("cpu_ms", 0))
    return (time.perf_counter() - began) * 1000


_burn(int(os.environ.get("INIT_CPU_MS", "0")))
while True:
    head, body = exchange(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
    took = b"%.4f" % handle({} if body in (b"null", b"{}") else eval(body))  # noqa: S307 - our own JSON of numbers
    request_id = next(
        line[31:] for line in head.split(b"\r\n") if line[:31].lower() == b"lambda-runtime-aws-request-id: "
    )
    exchange(
        b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
        % (request_id, len(took), took)
    )
