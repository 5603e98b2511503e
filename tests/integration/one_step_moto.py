"""Moto in a process of its own, in which each write to S3 is one step, as S3's conditional writes are: moto's are not.

`python -m tests.integration.one_step_moto` prints its address and serves until its standard input ends.
"""

import functools
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.server import ThreadedMotoServer


@contextmanager
def running() -> Iterator[str]:
    """Run it; yield its address."""
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        lines = (line.decode().strip() for line in process.stdout)
        yield next(line for line in lines if line.startswith("http://"))
        process.stdin.close()


def main() -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    one_at_a_time = threading.Lock()
    serving: Any = server._server
    serve = serving.app
    serve.get_backend_for_host = functools.cache(serve.get_backend_for_host)  # it looks into 180 directories each time

    def locked(environ: Any, start: Any) -> Any:
        if environ["REQUEST_METHOD"] != "PUT":
            return serve(environ, start)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))  # a client may be killed in it
        environ["wsgi.input"] = io.BytesIO(body)
        with one_at_a_time:
            return serve(environ, start)

    serving.app = locked
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
