"""An extension that does nothing, in the bare interpreter: it registers, then asks for one event after the other."""

import _socket
import os
import sys

host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")


def call(request):
    peer = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    peer.connect((host, int(port)))
    peer.sendall(request)
    data = b""
    while more := peer.recv(65536):
        data += more
    peer.close()
    return data


body = b'{"events":["INVOKE","SHUTDOWN"]}'
answer = call(
    b"POST /2020-01-01/extension/register HTTP/1.1\r\nHost: x\r\nConnection: close\r\nLambda-Extension-Name: %b\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (sys.argv[0].rpartition("/")[2].encode(), len(body), body)
)
if not answer.startswith(b"HTTP/1.1 200"):
    sys.exit(1)
mine = next(line for line in answer.split(b"\r\n") if line.lower().startswith(b"lambda-extension-identifier"))
asked = b"GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b\r\n\r\n" % mine
while b'"SHUTDOWN"' not in (event := call(asked)):
    if not event:
        sys.exit(1)
