"""Every way in which an invocation, an init or an environment ends, run for real, and what the backends show of it.

`python -m tests.integration.endings` writes docs/endings/*.txt anew. A line there is one record: which request it is
attributed to (A, B, … in order of their invocations), whether it is of a cold start, its level, and its text.
"""

import asyncio
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from local_lambda import Invocation, LocalLambda, Platform
from telemetry_forwarder.sinks.platform_lines import platform_text
from tests.integration.local_lambda_probe import Probe
from tests.integration.world import EXTENSION, GROUP, SINKS, World, world

FOLDER = Path(__file__).parents[2] / "docs" / "endings"
LETTERS = "ABC"
SHORT = 110  # characters of a text that are shown
RETRY = Platform(on_init_failure="retry")


def request_id(letter: str) -> str:
    number = LETTERS.index(letter) + 1
    return f"{number}0000000-8a51-4f0e-9c6b-2f1f6f0b7a11"


class Shown(NamedTuple):
    """One record as a backend shows it. `request` is a letter, or "-"; a level that was not told counts as info."""

    record_id: str
    type: str
    request: str
    cold: str
    level: str
    text: str

    def __str__(self) -> str:
        first, *more = self.text.split("\n")
        text = first.replace("\t", "  ")
        text = text[:SHORT] + "…" if len(text) > SHORT and self.type == "function" else text + " …" * bool(more)
        return f"{self.request} {self.cold:4} {self.level:5} {text}"


class Story:
    """What the three backends show, in chapters: each begins with a heading and holds what arrived until the next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shown: dict[str, list[Shown]] = {sink: [] for sink in SINKS}
        self.chapters: list[tuple[str, Mapping[str, int]]] = []
        self.other_streams: set[str] = set()  # of CloudWatch Logs, beside the environment's own

    def chapter(self, heading: str, w: World[LocalLambda]) -> None:
        """Note what has arrived by now under `heading`."""
        self.shown = {sink: [_shown(sink, one) for one in w.arrived(sink)] for sink in SINKS}
        # A batch of CloudWatch Logs is in the order of its times; those of a runtime's own frames are not the pipe's.
        arrived = {one.record_id: at for at, one in enumerate(self.shown["splunk"])}
        self.shown["cloudwatch"].sort(key=lambda one: arrived.get(one.record_id, len(arrived)))
        self.chapters.append((heading, {sink: len(found) for sink, found in self.shown.items()}))
        streams = {event.stream for event in w.cloudwatch.events(GROUP)} if GROUP in w.cloudwatch.groups else set()
        self.other_streams = streams - {w.env.instance_id}

    def of(self, request: str, sink: str = "splunk") -> list[Shown]:
        return [one for one in self.shown[sink] if one.request == request]

    def text(self, sink: str) -> str:
        """Return the chapters as one backend shows them."""
        lines, done = [], 0
        for heading, counts in self.chapters:
            rows = [str(one) for one in self.shown[sink][done : counts[sink]]]
            lines += [f"--- {heading} ---", *(rows or ["(nothing)"])]
            done = counts[sink]
        return "\n".join(lines).replace(str(self.folder), "/tmp") + "\n"


def _shown(sink: str, one: Mapping[str, Any]) -> Shown:
    raw = one["raw"]
    if sink == "datadog":
        tags = dict(tag.partition(":")[::2] for tag in raw.ddtags.split(","))
        cold, level = tags.get("cold_start"), raw.status
    else:
        known = one if sink == "splunk" else raw["lambda"]
        cold, level = str(known.get("cold_start")).lower(), known.get("level")
    if sink == "splunk" and isinstance(raw, dict) and "record" in raw:
        text = platform_text(raw["type"], raw["record"]) or str(raw["record"])
    else:
        text = one["text"]
    request = next((letter for letter in LETTERS if one.get("request_id") == request_id(letter)), None)
    return Shown(
        record_id=one["record_id"],
        type=one["type"],
        request=request or ("?" if one.get("request_id") else "-"),
        cold={"true": "cold", "false": "warm"}.get(cold or "", "?"),
        level={"warning": "warn", None: "info"}.get(level, level),
        text=text,
    )


def normal(text: str) -> str:
    """Return a story without what differs between two runs."""
    text = re.sub(r"\d+\.\d\d ms|(?<=Billed Duration: )\d+ ms", "… ms", text)
    text = re.sub(r"(?<=Max Memory Used: )(?!128 MB)\d+ MB", "… MB", text)
    text = re.sub(r"python:\S+", "python:…", text)
    # How far this one has come when another breaks the init is the machine's business.
    text = re.sub(r"(?<=Name: telemetry-forwarder  State: )(Ready|Registered)", "…", text)
    text = re.sub(r"\{'.*|\{\".*", "{…}", text)  # an event without a line: JSON, each backend in its own way
    return re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "…Z", text)


@asynccontextmanager
async def environment(story: Story, **more: Any) -> AsyncIterator[World[LocalLambda]]:
    variables = {"FIRST_INIT": str(story.folder / "first-init"), **more.pop("environment", {})}
    async with world(handler="endings.handler", environment=variables, **{"timeout_s": 10.0, **more}) as w:
        yield w


async def invoke(w: World[LocalLambda], letter: str, *steps: Sequence[Any]) -> Invocation:
    return await w.env.invoke([list(step) for step in steps], request_id=request_id(letter))


# --- the endings ----------------------------------------------------------------------------------------------------


async def timeout(story: Story) -> None:
    """A function that runs into its timeout."""
    async with environment(story, timeout_s=3.0) as w:
        await invoke(w, "A", ("say", "calling the slow API"), ("sleep", 60))
        await to_the_end(story, w)


async def exception(story: Story) -> None:
    """A handler that raises an exception: for Lambda a success, for the caller an error."""
    async with environment(story) as w:
        await invoke(w, "A", ("say", "paying order 17"), ("fail", "no stock"))
        story.chapter("when the invocation has ended", w)
        await w.env.shutdown()
        story.chapter("when the environment has ended", w)


async def crash(story: Story) -> None:
    """A runtime that ends in mid-invocation, here by a segmentation fault."""
    async with environment(story) as w:
        await invoke(w, "A", ("say", "calling native code"), ("crash", 0))
        await to_the_end(story, w)


async def out_of_memory(story: Story) -> None:
    """A function that takes more memory than it has."""
    async with environment(story, memory_mb=128) as w:
        await invoke(w, "A", ("say", "loading the whole table"), ("allocate", 400))
        await to_the_end(story, w)


async def init_failure(story: Story) -> None:
    """A module that cannot be imported: the init fails, and again within the first invocation."""
    async with environment(story, environment={"INIT": "fails"}, platform=RETRY) as w:
        story.chapter("when the init has failed", w)
        await to_the_end(story, w, first="A")


async def init_timeout(story: Story) -> None:
    """An init that takes too long (here 2 s instead of 10), and succeeds within the first invocation."""
    platform = Platform(on_init_failure="retry", init_limit_s=2.0)
    async with environment(story, environment={"INIT": "hangs once"}, platform=platform) as w:
        story.chapter("when the init was given up", w)
        await invoke(w, "A", ("say", "paying order 17"))
        await w.env.shutdown()
        story.chapter("when the environment has ended", w)


async def other_extension(story: Story) -> None:
    """Another extension that exits in mid-invocation."""
    other = Probe(story.folder, "other-extension", types=[], invoked=[{"sleep": 0.5}, {"exit": 3}])
    name, script = other.variable
    async with environment(story, extensions=[other.path], environment={name: script}) as w:
        await invoke(w, "A", ("say", "paying order 17"), ("sleep", 60))
        other.path.write_text(other.path.read_text().replace('    act("invoked")\n', ""))  # and is repaired
        await to_the_end(story, w)


async def other_extension_in_init(story: Story) -> None:
    """Another extension that exits before it has registered."""
    other = Probe(story.folder, "other-extension", types=[], at_start=[{"sleep": 1.0}, {"exit": 3}])
    name, script = other.variable
    async with environment(story, extensions=[other.path], environment={name: script}, platform=RETRY) as w:
        story.chapter("when the init has failed", w)
        await to_the_end(story, w, first="A")


async def reset(story: Story) -> None:
    """An invocation that Lambda itself abandons, with a reset of the environment."""
    async with environment(story) as w:
        task = asyncio.get_running_loop().create_task(invoke(w, "A", ("say", "paying order 17"), ("sleep", 60)))
        await w.env.event(lambda event: event["type"] == "function")
        task.cancel()
        await asyncio.wait([task])
        await to_the_end(story, w)


async def spindown(story: Story) -> None:
    """An environment that is no longer needed: no error, and the last report all the same."""
    async with environment(story) as w:
        await invoke(w, "A", ("say", "paying order 17"))
        story.chapter("when the invocation has ended", w)
        await w.env.shutdown()
        story.chapter("when the environment has ended", w)


async def killed_extension(story: Story) -> None:
    """This extension is killed, with lines on their way to it that it never took. With `strict` durability."""
    async with environment(story, environment={"TELEMETRY_FORWARDER_DURABILITY": "strict"}) as w:
        await invoke(w, "A", ("say", "paying order 16"))
        go = story.folder / "go"
        steps = ("wait for", str(go)), ("say", "paying order 17"), ("sleep", 60)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(invoke(w, "B", *steps))
            await w.env.until(lambda: _is_taken(w.env, "B"))
            os.kill(w.env.pids[EXTENSION.name], signal.SIGSTOP)
            go.touch()
            await w.env.event(lambda event: event["record"] == "paying order 17\n")
            os.kill(w.env.pids[EXTENSION.name], signal.SIGKILL)
        assert task.result().error_type == "Extension.Crash"
        await to_the_end(story, w, "C")


async def killed_environment(story: Story) -> None:
    """The environment ends without a word, as with a host that fails."""
    async with environment(story) as w:
        await invoke(w, "A", ("say", "paying order 17"))
        await w.env.kill()
        story.chapter("when the environment has ended", w)


def _is_taken(env: LocalLambda, letter: str) -> bool:
    """Say whether the extension has taken the start of a request."""
    starts = [
        e for e in env.telemetry if e["type"] == "platform.start" and e["record"]["requestId"] == request_id(letter)
    ]
    return bool(starts) and not any(request_id(letter).encode() in held for held in env.held_telemetry)


async def to_the_end(story: Story, w: World[LocalLambda], letter: str = "B", first: str = "") -> None:
    """End what ended in an invocation (`first`, if it is still to be made): note it, invoke once more, shut down."""
    if first:
        await invoke(w, first)
    story.chapter("when the invocation has ended", w)
    await invoke(w, letter, ("say", "paying order 18"))
    await w.env.shutdown()
    story.chapter("with the next invocation", w)


ENDINGS: dict[str, Callable[[Story], Awaitable[None]]] = {
    "timeout": timeout,
    "exception": exception,
    "crash": crash,
    "out-of-memory": out_of_memory,
    "init-failure": init_failure,
    "init-timeout": init_timeout,
    "other-extension": other_extension,
    "other-extension-in-init": other_extension_in_init,
    "reset": reset,
    "spindown": spindown,
    "killed-extension": killed_extension,
    "killed-environment": killed_environment,
}


async def tell(name: str, folder: Path) -> Story:
    """Run an ending and return its story."""
    story = Story(folder)
    await ENDINGS[name](story)
    return story


def page(name: str, story: Story, sink: str = "datadog") -> str:
    return f"{ENDINGS[name].__doc__}\n\n{story.text(sink)}"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in ENDINGS:
        with tempfile.TemporaryDirectory() as folder:
            (FOLDER / f"{name}.txt").write_text(page(name, asyncio.run(tell(name, Path(folder)))))


if __name__ == "__main__":
    main()
