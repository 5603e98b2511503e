"""The throughput in records per second, its CPU cost and memory: the real program, fed through its socket.

If there are two processors, the extension has one to itself; the platform, the backend and this file use the other.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from benchmarks.measure import cpu_s, free_port, memory_mb
from benchmarks.subjects import Subject

_RECORD_BYTES = 200
_IN_A_BODY = 1000
_STREAM_SHARE = 0.9
_LINGER_S = 1.2  # longer than `continuous` holds a record
REQUEST = "8f5b6c1e-2c5a-4a0b-9d55-0123456789ab"
LINES = 50  # number of different bodies, sent in turn


def bodies() -> list[bytes]:
    """Return telemetry bodies of Python log lines as Lambda sends them; each record has about `_RECORD_BYTES`.

    They are of the present hour, because Datadog takes none of the day before.
    """
    made = []
    hour = time.strftime("%Y-%m-%dT%H", time.gmtime())
    for number in range(LINES):
        lines = []
        for index in range(_IN_A_BODY):
            when = f"{hour}:00:{number % 60:02}.{index:03}Z"
            text = (
                f"[INFO]\t{when}\t{REQUEST}\torder {number * 7919 + index * 104729:09} of customer {index * 31 % 977}"
            )
            record = {"time": when, "type": "function", "record": text + " accepted\n"}
            missing = _RECORD_BYTES - len(json.dumps(record, separators=(",", ":"))) - 1
            record["record"] = text + " " + "accepted and forwarded to the warehouse"[: max(0, missing)] + "\n"
            lines.append(record)
        made.append(orjson.dumps(lines))
    return made


def _in_round(number: int, body: bytes) -> bytes:
    """Return `body` with another text in its first record: the same bytes again would count as a repeated batch."""
    return body.replace(b" of customer ", b" in round %d of customer " % number, 1)


def read_request(peer: socket.socket, data: bytearray) -> tuple[bytes, bytes] | None:
    """Return the head and body of the next request on a connection; None at its end. `data` holds bytes read ahead."""
    while (end := data.find(b"\r\n\r\n")) < 0:
        more = peer.recv(1 << 18)
        if not more:
            return None
        data += more
    head = bytes(data[:end])
    del data[: end + 4]
    length = sum(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(data) < length:
        more = peer.recv(1 << 18)
        if not more:
            return None
        data += more
    body = bytes(data[:length])
    del data[:length]
    return head, body


class Server:
    """A server with one thread per connection; `answer` returns the response to a request."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def answer(self, head: bytes, body: bytes) -> bytes:
        raise NotImplementedError

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        data = bytearray()
        with peer, contextlib.suppress(OSError):
            while found := read_request(peer, data):
                peer.sendall(self.answer(*found))


class _Api(Server):
    """A minimal Extensions API: one invocation, which never ends."""

    def __init__(self) -> None:
        self._asked = 0
        self.subscribed = threading.Event()
        self.waiting = threading.Event()  # set when the first event is requested
        super().__init__()

    def answer(self, head: bytes, body: bytes) -> bytes:
        path = head.split(b" ", 2)[1]
        headers, content = b"", b"{}"
        if path.endswith(b"/register"):
            headers = b"Lambda-Extension-Identifier: e-1\r\n"
            content = b'{"functionName":"orders","functionVersion":"$LATEST","accountId":"123456789012"}'
        elif path.endswith(b"/telemetry"):
            self.subscribed.set()
            content = b"OK"
        elif path.endswith(b"/event/next"):
            self._asked += 1
            self.waiting.set()
            # Only the first call gets an event; later ones wait for ever, so that the invocation stays open.
            if self._asked > 1:
                threading.Event().wait()
            deadline = round((time.time() + 800) * 1000)
            content = b'{"eventType":"INVOKE","deadlineMs":%d,"requestId":"%b"}' % (deadline, REQUEST.encode())
        return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (headers, len(content), content)


class _Backend(Server):
    """A backend that keeps every body; they are unpacked and counted afterwards. `answer_with` is its answer."""

    def __init__(self, answer_with: bytes) -> None:
        self.bodies: list[bytes] = []
        self.times: list[float] = []
        self._answer_with = answer_with
        super().__init__()

    def answer(self, head: bytes, body: bytes) -> bytes:
        if body:
            self.bodies.append(body)
            self.times.append(time.perf_counter())
        return self._answer_with

    def records(self, share: float = 1.0) -> int:
        """Return the number of records in the first `share` of the bodies."""
        return sum(len(_IDS.findall(unpacked(body))) for body in self.bodies[: round(len(self.bodies) * share)])


def _answer(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


# By sink: what its backend answers, and the settings that lead to it, where `{}` is its address.
_SINKS: dict[str, tuple[bytes, dict[str, str]]] = {
    "splunk": (
        _answer(b"200 OK", b'{"text":"Success","code":0}'),
        {"SPLUNK_HEC_URL": "http://{}", "SPLUNK_HEC_TOKEN": "t"},
    ),
    "datadog": (
        _answer(b"202 Accepted", b"{}"),
        {"DD_LOGS_CONFIG_LOGS_DD_URL": "http://{}", "DD_API_KEY": "k"},
    ),
    "cloudwatch": (
        _answer(b"200 OK", b"{}"),
        {
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": "http://{}", "CLOUDWATCH_LOG_GROUP": "/g", "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
        },
    ),
    "otlp": (_answer(b"200 OK", b"{}"), {"TELEMETRY_FORWARDER_OTLP_ENDPOINT": "http://{}"}),
}  # fmt: skip


_IDS = re.compile(rb"record_id|log\.record\.uid")


def unpacked(body: bytes) -> bytes:
    return zlib.decompress(body, 31) if body[:2] == b"\x1f\x8b" else body


@dataclass
class _Flood:
    """The result of a flood. Memory in MiB, times in seconds."""

    sent: int
    delivered: int
    rate: float  # records per second
    cpu_s: float
    idle_mb: float
    peak_mb: float
    bodies: list[bytes] = field(repr=False, default_factory=list)


@dataclass
class _Started:
    """An extension that has loaded all and waits for telemetry at `port`."""

    pid: int
    port: int
    backend: _Backend


@contextlib.contextmanager
def started(
    subject: Subject, memory_mb_of_function: int = 1769, *, sink: str = "splunk", **environment: str
) -> Iterator[_Started]:
    """Start the extension in an invocation that does not end; where there are two, it has a processor to itself."""
    answer, settings = _SINKS[sink]
    api, backend, port = _Api(), _Backend(answer), free_port()
    variables = {
        "PATH": os.environ["PATH"],
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_LAMBDA_FUNCTION_NAME": "orders",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb_of_function),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_REGION": "eu-central-1",
        "TELEMETRY_FORWARDER_PORT": str(port),
        "TELEMETRY_FORWARDER_SINKS": sink,
        **{name: value.format(backend.address) for name, value in settings.items()},
        "DD_ENV": "production",
        "DD_SERVICE": "orders",
        "TELEMETRY_FORWARDER_TAGS": "team:shop,tier:1",
        **environment,
    }
    with tempfile.TemporaryDirectory() as spool:  # an old spool would add its records
        variables["TELEMETRY_FORWARDER_SPOOL_DIR"] = spool
        process = subprocess.Popen([str(subject.executable)], env=variables, stdout=subprocess.DEVNULL)
        try:
            with _on_other_processors(process.pid):
                if not (api.subscribed.wait(20) and api.waiting.wait(20)):
                    raise RuntimeError("the extension did not start")
                settle(process.pid)
                yield _Started(process.pid, port, backend)
        finally:
            process.kill()
            process.wait()
            api.close()
            backend.close()


def pour(
    subject: Subject, records: int, memory_mb_of_function: int = 1769, *, sink: str = "splunk", **environment: str
) -> _Flood:
    """Start the extension, send `records` as fast as it answers, and wait until it sends nothing more."""
    with started(subject, memory_mb_of_function, sink=sink, **environment) as extension:
        return _pour(extension.pid, extension.backend, extension.port, bodies(), records)


def _pour(pid: int, backend: _Backend, port: int, given: list[bytes], records: int) -> _Flood:
    with socket.create_connection(("127.0.0.1", port), 10) as platform:
        platform.settimeout(30)
        post(platform, _start_of_request(), "s-0")
        settle(pid)
        idle, cpu, began = memory_mb(pid), cpu_s(pid), time.perf_counter()
        for number in range(records // _IN_A_BODY):
            post(platform, _in_round(number // len(given), given[number % len(given)]), f"s-{number + 1}")
        settle(pid)
        if backend.records() <= records:  # the last of them may wait for a request's worth, for a second at most
            time.sleep(_LINGER_S)
            settle(pid)
    peak = memory_mb(pid, "VmHWM")
    delivered = backend.records() - 1  # without the platform.start
    # The last records are sent later, in the background, so the rate is that of the stream before them.
    count = max(1, round(len(backend.times) * _STREAM_SHARE))
    rate = backend.records(_STREAM_SHARE) / (backend.times[count - 1] - began) if backend.times else 0.0
    return _Flood(records, delivered, rate, cpu_s(pid) - cpu, idle, peak, backend.bodies)


def _start_of_request() -> bytes:
    started = {"requestId": REQUEST, "version": "$LATEST"}
    now = time.strftime("%Y-%m-%dT%H:00:00.000Z", time.gmtime())
    return orjson.dumps([{"time": now, "type": "platform.start", "record": started}])


def post(platform: socket.socket, body: bytes, sequence_id: str) -> None:
    """Send a batch as Lambda does: each is answered before the next is sent."""
    head = f"POST / HTTP/1.1\r\nHost: sandbox.localdomain\r\nSequence-Id: {sequence_id}\r\n"
    platform.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = b""
    while b"\r\n\r\n" not in answer:
        more = platform.recv(4096)
        if not more:
            raise RuntimeError("the extension hung up")
        answer += more
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"a batch was answered {answer[:40]!r}")


def settle(pid: int) -> None:
    """Wait until the process uses no more CPU: it has sent what it sends in this invocation."""
    before, quiet = -1.0, 0
    while quiet < 3:
        time.sleep(0.1)
        now = cpu_s(pid)
        quiet = quiet + 1 if now - before < 0.001 else 0
        before = now


@contextlib.contextmanager
def _on_other_processors(pid: int) -> Iterator[None]:
    """Give the process `pid` one processor and this process the others, if there is more than one."""
    ours = os.sched_getaffinity(0)
    if len(ours) > 1:
        os.sched_setaffinity(pid, {min(ours)})
        os.sched_setaffinity(0, ours - {min(ours)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


def bare_loop(sent: list[bytes], level: int = 3) -> float:
    """Return the CPU seconds per record of a loop that only parses the same telemetry and encodes and packs it."""
    given, wire = bodies(), [unpacked(body) for body in sent if body]
    records = 0
    batches = [[orjson.loads(line) for line in body.split(b"\n")] for body in wire[:40]]
    count = sum(len(batch) for batch in batches)
    if not count:
        raise RuntimeError("nothing was delivered")
    began = time.process_time()
    for number in range(-(-count // _IN_A_BODY)):
        records += len(orjson.loads(given[number % len(given)]))
    reading = time.process_time() - began
    began = time.process_time()
    for batch in batches:
        packer = zlib.compressobj(level, wbits=31)
        packer.compress(b"\n".join([orjson.dumps(record) for record in batch]))
        packer.flush()
    return reading / records + (time.process_time() - began) / count


if __name__ == "__main__":  # to measure this alone during development
    import sys
    import tempfile
    from pathlib import Path

    from benchmarks.subjects import OURS, subjects

    with tempfile.TemporaryDirectory() as folder:
        (ours,) = [one for one in subjects(Path(folder), Path(sys.executable), None, None) if one.name == OURS]
        count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
        for sink in sys.argv[2:] or _SINKS:
            flood = pour(ours, count, sink=sink, TELEMETRY_FORWARDER_FLUSH="continuous")
            print(f"{sink}: {flood}: {flood.rate:,.0f}/s, {flood.cpu_s / (flood.delivered or 1) * 1e6:.2f} us each")
