"""The same extension on AWS's emulator and on our local Lambda: what it saw of the APIs is the same, or listed here.

Run with `-s` to read both side by side.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from telemetry_forwarder.emulator import Function, LocalLambda, Platform
from tests.integration.local_lambda_probe import FUNCTIONS, Noted, Probe
from tests.integration.rie import emulator_is_here, rie

__all__ = ["emulator_is_here"]

TIMEOUT_S = 2
REGISTER, NEXT = ["POST", "/2020-01-01/extension/register"], ["GET", "/2020-01-01/extension/event/next"]
INIT_ERROR, EXIT_ERROR = ["POST", "/2020-01-01/extension/init/error"], ["POST", "/2020-01-01/extension/exit/error"]
SUBSCRIBE = ["PUT", "/2022-07-01/telemetry"]
NAMED = {"Lambda-Extension-Name": "probe"}
DESTINATION = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4999"}
STRANGER = "00000000-0000-4000-8000-000000000000"


def identified_by(value: str) -> dict[str, str]:
    return {"Lambda-Extension-Identifier": value}


# What goes wrong in every way that the Extensions API has an answer for, before the first /event/next.
MISTAKES: list[dict[str, Any]] = [
    {"call": [*REGISTER, {"events": ["INVOKE"]}], "headers": NAMED},
    {"call": [*REGISTER, {"events": []}], "headers": {"Lambda-Extension-Name": ""}},
    {"call": [*REGISTER, {"events": ["WAKE"]}], "headers": {"Lambda-Extension-Name": "internal"}},
    {"call": [*REGISTER, {"events": ["SHUTDOWN"]}], "headers": {"Lambda-Extension-Name": "internal"}},
    {"call": [*REGISTER, {"events": [], "configurationKeys": ["A"]}], "headers": NAMED},
    {"call": [*REGISTER, "no object"], "headers": NAMED},
    {"call": NEXT, "headers": identified_by("")},
    {"call": NEXT, "headers": identified_by("not-a-uuid")},
    {"call": NEXT, "headers": identified_by(STRANGER)},
    {"call": INIT_ERROR},
    {"call": EXIT_ERROR},
    {"call": INIT_ERROR, "headers": identified_by(STRANGER)},
    {"call": [*SUBSCRIBE, {}], "headers": identified_by("")},
    {"call": [*SUBSCRIBE, {}], "headers": identified_by(STRANGER)},
]
BUFFERING = {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25}


def subscription(**changes: Any) -> dict[str, Any]:
    body = {"schemaVersion": "2025-01-29", "types": ["platform"], "buffering": BUFFERING, "destination": DESTINATION}
    return {"call": [*SUBSCRIBE, {**body, **changes}]}


WRONG_SUBSCRIPTIONS = [
    subscription(schemaVersion="2022-12-13"),
    subscription(schemaVersion=None),
    subscription(types=[]),
    subscription(types=["platform.start"]),
    subscription(buffering={**BUFFERING, "timeoutMs": 24}),
    subscription(buffering={**BUFFERING, "maxItems": 10001}),
    subscription(destination={"protocol": "HTTP", "URI": "http://127.0.0.1:4999"}),
    subscription(destination={"protocol": "HTTP", "URI": "https://sandbox.localdomain:4999"}),
    subscription(destination={"protocol": "HTTP", "URI": "http://sandbox.localdomain"}),
]


@dataclass(frozen=True, slots=True)
class Known:
    """One difference: regular expressions for a line of ours and one of theirs (None: no such line)."""

    ours: str | None
    theirs: str | None
    reason: str


CLASSIC: list[Known] = []
MANAGED: list[Known] = []


def transcript(notes: Iterable[Noted]) -> Iterator[str]:
    """Write what the probe noted as lines without what differs from run to run; telemetry comes last."""
    records = []
    for note in notes:
        match note["what"]:
            case "start":
                yield "start"
                yield from (f"  sees {name}" for name in sorted(note["environ"]) if name.startswith(("AWS_", "_", "LAMBDA", "TZ", "LANG")))
            case "call":
                yield plain(f"{note['call']} -> {note['status']} {_headers(note['headers'])}")
                yield plain(f"  {note['answer'].rstrip()}")
            case "batch":
                yield from () if records else [plain(f"{note['first']} {_headers(dict(note['headers']))}")]
                records += note["records"]
    for record in records:
        yield plain(f"{record['type']} {json.dumps(record['record'])}")


def _headers(headers: dict[str, str]) -> str:
    shown = {name.lower(): value for name, value in headers.items()}
    return " ".join(f"{n}={v}" for n, v in sorted(shown.items()) if n.startswith(("content-type", "lambda-", "sequence")))


VARYING = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r'(?<="deadlineMs":)\d+'), "<ms>"),
    (re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z"), "<time>"),
    (re.compile(r'(?<=Ms": )[0-9.]+'), "<n>"),
    (re.compile(r"127\.0\.0\.\d+:\d+"), "<host>"),
)


def plain(line: str) -> str:
    for pattern, instead in VARYING:
        line = pattern.sub(instead, line)
    return line


def side_by_side(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """Align two transcripts: pairs of lines, one of them None where the other side has no such line."""
    rows: list[tuple[str | None, str | None]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if kind == "equal":
            rows += zip(ours[a:b], theirs[c:d], strict=True)
        else:
            rows += [(line, None) for line in ours[a:b]] + [(None, line) for line in theirs[c:d]]
    return rows


def show(title: str, rows: Iterable[tuple[str | None, str | None]]) -> None:
    print(f"\n{title}: = both, < ours only, > AWS's emulator only")
    for ours, theirs in rows:
        print(f"{'=' if ours == theirs else '<' if theirs is None else '>'} {ours or theirs}")


def assert_known(rows: Iterable[tuple[str | None, str | None]], known: Sequence[Known]) -> None:
    """Check that each difference is listed, and that each one listed was seen."""
    ours = [a for a, b in rows if b is None and a is not None]
    theirs = [b for a, b in rows if a is None and b is not None]
    for side, lines, patterns in (("ours", ours, [k.ours for k in known]), ("theirs", theirs, [k.theirs for k in known])):
        given = [pattern for pattern in patterns if pattern]
        unlisted = [line for line in lines if not any(re.fullmatch(pattern, line) for pattern in given)]
        assert not unlisted, f"{side} alone: {unlisted}"
        gone = [pattern for pattern in given if not any(re.fullmatch(pattern, line) for line in lines)]
        assert not gone, f"{side}: the difference is no more: {gone}"


def our_lambda(probe: Probe, platform: Platform | None = None, **function: Any) -> LocalLambda:
    """Our own, as much like AWS's emulator as its settings go."""
    return LocalLambda(
        Function(
            code=FUNCTIONS,
            handler="lines.handler",
            name="test_function",
            environment=dict([probe.variable]),
            timeout_s=TIMEOUT_S,
            memory_mb=3008,
            **function,
        ),
        [probe.path],
        platform=platform,
    )


async def test_classic_core_and_ours_say_the_same(tmp_path: Path) -> None:
    events = [{"lines": 1}, {"raise": True}, {"exit": True}, {"lines": 1}, {"sleep": 5}, {"lines": 1}]
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    script: dict[str, Any] = {"registered": MISTAKES, "waits": False, "port": 0}
    probe = Probe(tmp_path / "ours", **script)
    async with our_lambda(probe, Platform(telemetry_supported=False), account_id="012345678912") as env:
        for event in events:
            await env.invoke(event)
        await env.shutdown()
    other = Probe(tmp_path / "theirs", **script)
    async with rie(tmp_path / "theirs", extensions=[other.path], environment=dict([other.variable]), timeout_s=TIMEOUT_S) as aws:
        for event in events:
            await aws.invoke(event)
        assert await aws.terminate() == 0
    rows = side_by_side(list(transcript(notes(probe))), list(transcript(notes(other))))
    show("classic", rows)
    assert_known(rows, CLASSIC)


async def test_managed_instances_core_and_ours_say_the_same(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    script: dict[str, Any] = {"registered": [*MISTAKES, *WRONG_SUBSCRIPTIONS], "events": ["SHUTDOWN"], "types": ["platform", "function"], "waits": False}
    events = [{"lines": 2}, {"raise": True}, {"json": 1}, {"sleep": 3}, {"lines": 1}]
    probe = Probe(tmp_path / "ours", **script)
    async with our_lambda(probe, init_type="lambda-managed-instances") as env:
        for event in events:
            await env.invoke(event)
        await env.shutdown()
    other = Probe(tmp_path / "theirs", **script)
    async with rie(tmp_path / "theirs", extensions=[other.path], environment=dict([other.variable]), timeout_s=TIMEOUT_S, managed=True) as aws:
        for event in events:
            print(await aws.invoke(event))
        assert await aws.terminate() == 0
        print("\n".join(aws.output))
    print(other.log.stat())
    rows = side_by_side(list(transcript(notes(probe))), list(transcript(notes(other))))
    show("Managed Instances", rows)
    assert_known(rows, MANAGED)


def notes(probe: Probe) -> list[Noted]:
    return [json.loads(line) for line in probe.log.read_text().splitlines()]
