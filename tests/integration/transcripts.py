"""The transcripts in docs/transcripts: four lives of an environment, run for real and written down.

`python -m tests.integration.transcripts` writes them anew. A line has a time in seconds, a lane and what happened.
"""

import asyncio
import json
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from local_lambda import Invocation, LocalLambda, Platform
from local_lambda.transcript import Entry
from tests.integration.local_lambda_probe import FUNCTIONS, Probe, free_port, local_lambda

FOLDER = Path(__file__).parents[2] / "docs" / "transcripts"
Line = tuple[float, str, str]  # seconds since the epoch, lane, what happened
_TOLD = ("name", "requestId", "phase", "status", "errorType", "state")


class Story:
    """What happened around one environment, in lanes: caller, runtime, extension, the platform's events."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[Line] = []

    def caller(self, text: str) -> None:
        self.lines.append((time.time(), "caller", text))

    async def invoke(self, env: LocalLambda, request_id: str, payload: Any = None) -> Invocation:
        self.caller(f"invokes {request_id}")
        result = await env.invoke(payload, request_id=request_id)
        self.caller(f"{request_id} is {result.status}: {result.payload.decode()[:120]}")
        return result

    def close(self, env: LocalLambda, probe: Probe) -> None:
        """Add what the environment and its extension saw."""
        for entry in env.transcript:
            if entry.direction == "in":
                self.lines += _calls(entry)
        for event in env.telemetry:
            self.lines.append((_seconds(event["time"]), "platform", _event(event)))
        for note in probe.notes("batch"):
            self.lines += [
                (note["at"], "telemetry", f"sent to {probe.name}: {_event(event)}") for event in note["records"]
            ]

    def __str__(self) -> str:
        # Events have whole milliseconds only. Within one, who asks comes first and who hears of it last.
        ordered = sorted(self.lines, key=lambda line: (_ms(line[0]), _rank(line)))
        began = _ms(ordered[0][0])
        return "".join(f"{(_ms(at) - began) / 1000:7.3f}  {lane:<10} {_normal(text)}\n" for at, lane, text in ordered)


def _ms(seconds: float) -> int:
    return round(seconds * 1000 - 0.499)


def _rank(line: Line) -> int:
    _, lane, text = line
    if lane == "caller":
        return 0 if text.startswith("invokes") else 4
    return {"platform": 2, "telemetry": 3}.get(lane, 1)


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _calls(entry: Entry) -> Iterator[Line]:
    method, _, path = entry.call.partition(" ")
    short = re.sub(r"^/\d{4}-\d\d-\d\d/(extension/|runtime/)?", "", path)
    if not short.endswith("/next"):
        yield entry.began, entry.name, f"{method} {short} {entry.status} {entry.answer[:60]}".rstrip()
        return
    yield entry.began, entry.name, f"asks for {short}"
    if entry.ended is not None and entry.name == "runtime":
        yield entry.ended, entry.name, "is given an invocation"
    elif entry.ended is not None and entry.status == 200:
        event = json.loads(entry.answer)
        more = event.get("requestId") or event["shutdownReason"]
        yield entry.ended, entry.name, f"is given {event['eventType']} {more}"


def _event(event: dict[str, Any]) -> str:
    record = event["record"]
    if isinstance(record, str):
        beginning = re.split(r"[\t\n]", record)[0]  # the rest is the runtime's business
        return f"{event['type']} {beginning}"
    told = [str(record[name]) for name in _TOLD if name in record]
    return " ".join([event["type"], *told])


def _normal(text: str) -> str:
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>", text)


# The four lives


async def timeout(story: Story) -> None:
    """A timeout, the reset, the restart in the same environment, and the late report."""
    probe = Probe(story.folder, port=free_port(), shutdown=[{"seen": "platform.runtimeDone"}])
    async with local_lambda(probe, timeout_s=0.5) as env:
        await story.invoke(env, "request-1", {"sleep": 5})
        story.caller("waits; no process is left" if not env.pids else f"finds {env.pids}")
        await story.invoke(env, "request-2", {"big": 3})
        await env.kill()
    story.close(env, probe)


async def init_failure(story: Story) -> None:
    """An init that fails, and its retry inside the first invocation."""
    probe = Probe(story.folder, port=free_port(), shutdown=[{"seen": "platform.initReport"}])
    where = {"MARKER": str(story.folder / "marker")}
    platform = Platform(on_init_failure="retry")
    async with local_lambda(probe, handler="second_time.handler", environment=where, platform=platform) as env:
        await story.invoke(env, "request-1")
        await env.kill()
    story.close(env, probe)


async def share(story: Story) -> None:
    """A runtime that ignores SIGTERM and uses up its share of 600 ms before the extension hears of the end."""
    probe = Probe(story.folder, types=[])
    async with local_lambda(probe, handler="stubborn.handler", platform=Platform(runtime_share_s=0.6)) as env:
        await story.invoke(env, "request-1")
        story.caller("ends the environment")
        end = await env.shutdown()
        left = probe.notes("event")[-1]["left_ms"]
        story.caller(
            f"{end.reason}: deadline after {end.deadline_ms - end.started_ms} ms; runtime {end.runtime_exit_code}"
        )
        story.caller(f"the extension had between 1000 and 1400 ms left: {1000 < left <= 1400}")
        story.caller(f"the extension ended with exit code {end.extensions['probe'].exit_code}")
    story.close(env, probe)


async def managed(story: Story) -> None:
    """Managed Instances: eight invocations at once, in one process, without a freeze or a platform.runtimeDone."""
    probe = Probe(story.folder, events=["SHUTDOWN"])
    command = ["python3", str(FUNCTIONS / "at_once.py")]
    async with local_lambda(probe, init_type="lambda-managed-instances", command=command) as env:
        await env.until(lambda: len(env.transcript.calls("runtime", "GET ")) == 8)  # all workers wait
        numbers = range(1, 9)
        await asyncio.gather(*(story.invoke(env, f"request-{n}", {"sleep": 0.5, "n": n}) for n in numbers))
        await env.until(lambda: probe.types().count("platform.report") == 8)
        await env.kill()
    story.close(env, probe)


LIVES: dict[str, Callable[[Story], Awaitable[None]]] = {
    "timeout": timeout,
    "init-failure": init_failure,
    "runtime-share": share,
    "managed-instances": managed,
}


async def tell(name: str, folder: Path) -> str:
    """Run a life and return its transcript with a heading."""
    story = Story(folder)
    await LIVES[name](story)
    return f"{LIVES[name].__doc__}\n\n{story}"


def lanes(text: str) -> dict[str, list[str]]:
    """Return what happened in each lane, in order and without times: how lanes interleave is the machine's business."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines()[2:]:
        _, lane, what = line.split(maxsplit=2)
        found.setdefault(lane, []).append(what)
    return found


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in LIVES:
        with tempfile.TemporaryDirectory() as folder:
            (FOLDER / f"{name}.txt").write_text(asyncio.run(tell(name, Path(folder))))


if __name__ == "__main__":
    main()
