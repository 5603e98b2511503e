"""`make bench`: the cost of a secret request to localhost, compared with a bare aiohttp handler in the same run.

Absolute figures of a shared machine vary; the ratios are stable. Each figure is the median of rounds that alternate
between the two. Nothing here passes or fails.
"""

import asyncio
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from telemetry_forwarder.clock import Clock, Moment, SystemClock
from telemetry_forwarder.secrets.answers import Answer, Outcome
from telemetry_forwarder.secrets.cache import Cache
from telemetry_forwarder.secrets.names import Key
from telemetry_forwarder.secrets.settings import secrets_from
from telemetry_forwarder.testing import virtual_time
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.variables.reading import read_all

ROUNDS = 5
_REQUESTS = 4000
BODY = b'{"Parameter":{"Name":"/prod/db/pass","Type":"SecureString","Value":"correct horse battery staple"}}'
# A request with the usual headers of an HTTP client library.
REQUEST = (
    b"GET /?name=/prod/db/pass HTTP/1.1\r\nHost: localhost:2773\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
    b"User-Agent: python-requests/2.32\r\nConnection: keep-alive\r\n"
    b"X-Aws-Parameters-Secrets-Token: " + b"t" * 1000 + b"\r\n\r\n"
)
_SSM_S = (0.020, 0.050)  # the time of a call to SSM within a region, from the docs of such caches
ENVIRONMENTS, PER_SECOND = 200, 40


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(_SERVERS[sys.argv[1]](int(sys.argv[2])))
        return
    with served("cache") as ours, served("bare") as bare:
        hits(ours, bare)
        _throughput(1, ours, bare)
        _throughput(4, ours, bare)
    burst()
    _cold_starts()


# --- the servers, each in its own process ---------------------------------------------------------------------------


async def _serve_cache(port: int) -> None:
    """Serve one secret with the extension's own server; requests need a token."""
    from telemetry_forwarder.secrets.server import Endpoint, Guard, serving
    from telemetry_forwarder.variables.types import Secret

    async def fetch(key: Key, on_trouble: Callable[[], None]) -> Answer:
        return Answer(Outcome.FOUND, Moment.now(SystemClock()), 200, BODY)

    async with asyncio.TaskGroup() as tasks:
        policy = secrets_from(read_all({})).policy
        cache = Cache(fetch, policy=policy, clock=SystemClock(), spawn=tasks.create_task)
        guard = Guard(tokens=(Secret("t" * 1000),), allow=("/prod/*",))
        endpoint = Endpoint(cache, guard, spawn=tasks.create_task, stats=cpu)
        async with serving([socket.create_server(("127.0.0.1", port))], endpoint):
            await asyncio.Event().wait()


async def _serve_bare(port: int) -> None:
    """Serve the same words with aiohttp's low-level server, without any check or look-up."""
    from aiohttp import web

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path == "/stats":
            return web.json_response(cpu())
        return web.Response(body=b'{"value":"correct horse battery staple"}', content_type="application/json")

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


_SERVERS = {"cache": _serve_cache, "bare": _serve_bare}


def cpu() -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": used.ru_utime + used.ru_stime}


@contextmanager
def served(name: str) -> Any:
    """Start a server and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, name, str(port)])
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


# --- the client -----------------------------------------------------------------------------------------------------


def hits(ours: int, bare: int) -> None:
    """Print the time of one hit on a kept-alive connection."""
    rounds = [(_latencies(ours), _latencies(bare)) for _ in range(ROUNDS)]
    for name, index in (("the cache", 0), ("a bare aiohttp handler", 1)):
        p50, p99 = (statistics.median(_quantile(one[index], share) for one in rounds) * 1000 for share in (0.5, 0.99))
        print(f"a hit on a kept connection, {name:<24} p50 {p50:.3f} ms, p99 {p99:.3f} ms")
        if index == 0:
            gains = " to ".join(f"{seconds * 1000 / p50:.0f}" for seconds in _SSM_S)
            print(f"  a call to SSM of 20 to 50 ms takes {gains} times as long")


def _latencies(port: int) -> list[float]:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        for _ in range(_REQUESTS):
            start = time.perf_counter()
            connection.sendall(REQUEST)
            read_answer(connection)
            times.append(time.perf_counter() - start)
    return times


def read_answer(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    while not is_whole(data):
        data += connection.recv(65536)
    return data


def is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return len(body) >= int(length.partition(b":")[2])


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def _throughput(connections: int, ours: int, bare: int) -> None:
    """Print the hits per second on several connections at once, and per second of the server's own CPU time."""
    rounds = [(rate(ours, connections), rate(bare, connections)) for _ in range(ROUNDS)]
    for name, index in (("the cache", 0), ("a bare aiohttp handler", 1)):
        per_s, per_cpu_s = (statistics.median(one[index][which] for one in rounds) for which in (0, 1))
        print(f"hits on {connections} connection(s), {name:<28} {per_s:>7,.0f} /s, {per_cpu_s:>7,.0f} per s of CPU")


def rate(port: int, connections: int) -> tuple[float, float]:
    selector = selectors.DefaultSelector()
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    for one in sockets:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(one, selectors.EVENT_READ)
    cpu_before, start, done = _cpu_of(port), time.perf_counter(), 0
    for one in sockets:
        one.send(REQUEST)
    while done < _REQUESTS:
        for key, _ in selector.select():
            key.fileobj.recv(65536)  # type: ignore[union-attr]  # one answer, which fits one segment
            key.fileobj.send(REQUEST)  # type: ignore[union-attr]
            done += 1
    seconds, used = time.perf_counter() - start, _cpu_of(port) - cpu_before
    for one in sockets:
        one.close()
    return done / seconds, done / used


def _cpu_of(port: int) -> float:
    import json

    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(REQUEST.replace(b"/?name=/prod/db/pass", b"/stats"))
        return float(json.loads(read_answer(connection).partition(b"\r\n\r\n")[2])["cpu_s"])


# --- many requests at once, in virtual time -------------------------------------------------------------------------


class Throttled:
    """A service that takes 30 ms per call and refuses more than `per_second` calls a second (a token bucket)."""

    def __init__(self, clock: Clock, per_second: float) -> None:
        self.calls = self.refused = 0
        self._clock = clock
        self._rate = self._tokens = per_second
        self._at = clock.monotonic()

    async def ask(self, key: Key) -> Answer:
        self.calls += 1
        asked = Moment.now(self._clock)
        self._tokens = min(self._rate, self._tokens + (asked.monotonic - self._at) * self._rate)
        self._at = asked.monotonic
        is_refused = self._tokens < 1
        self._tokens -= 0 if is_refused else 1
        self.refused += is_refused
        await asyncio.sleep(0.03)
        if is_refused:
            return Answer(Outcome.THROTTLED, asked, 400, b'{"__type":"ThrottlingException"}', "throttled")
        return Answer(Outcome.FOUND, asked, 200, BODY)


def environment(service: Throttled, clock: Clock, tasks: asyncio.TaskGroup) -> Cache:
    """Return the cache of one environment: its own retries and settings, in front of a service shared with others."""
    from telemetry_forwarder.secrets.fetch import Upstream

    class Before(Upstream):
        async def _prepare(self, service: str, region: str | None) -> None:
            """Create no client: there is no network in virtual time."""

        async def _attempt(self, key: Key) -> Answer:
            return await service.ask(key)

    settings = secrets_from(read_all({}))
    upstream = Before(Network(), timeout_s=settings.timeout_s, connections=3, clock=clock)
    return Cache(upstream.fetch, policy=settings.policy, clock=clock, spawn=tasks.create_task)


def burst() -> None:
    async def play() -> None:
        async with asyncio.TaskGroup() as tasks:
            clock = virtual_time.clock()
            service = Throttled(clock, PER_SECOND)
            cache = environment(service, clock, tasks)
            answers = await asyncio.gather(*(cache.get(Key("ssm", "/prod/db/pass")) for _ in range(500)))
            found = sum(answer.is_found for answer in answers)
            print(f"500 first requests for one key at once: {found} answered, {service.calls} call to the service")

    virtual_time.run(play())


def _cold_starts() -> None:
    async def play() -> None:
        async with asyncio.TaskGroup() as tasks:
            clock = virtual_time.clock()
            service = Throttled(clock, PER_SECOND)

            async def start() -> tuple[float, Outcome]:
                began = clock.monotonic()
                answer = await environment(service, clock, tasks).get(Key("ssm", "/prod/db/pass"))
                return clock.monotonic() - began, answer.outcome

            ends = await asyncio.gather(*(start() for _ in range(ENVIRONMENTS)))
        times = [seconds for seconds, _ in ends]
        found = sum(outcome is Outcome.FOUND for _, outcome in ends)
        shown = ", ".join(f"p{share:.0%} {_quantile(times, share):.2f} s".replace("%", "") for share in _SHARES)
        print(
            f"{ENVIRONMENTS} environments at once, {PER_SECOND} calls a second allowed: {found} answered, {shown}, "
            f"last {max(times):.2f} s of 10; {service.calls} calls, {service.refused} of them throttled"
        )

    virtual_time.run(play())


_SHARES = (0.25, 0.5, 0.75, 0.9)

if __name__ == "__main__":
    main()
