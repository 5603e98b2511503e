"""`telemetry-forwarder local --serve --watch`: the code changes under requests, and none is lost."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from local_lambda.cli.watching import forget_bytecode
from tests.integration.local_lambda_probe import Probe
from tests.sharing import TMP

COMMAND = [sys.executable, "-c", "from telemetry_forwarder.cli import main; main()", "local", "--json"]
MOMENT = 1_700_000_000  # the modification time of every version: they differ by nothing that Python looks at
INVOKE = "/2015-03-31/functions/local-function/invocations"


def write(code: Path, version: int, *, sleep_s: float = 0.0) -> None:
    """Put one version of the function there, a file at a time and each at once, as editors do."""
    app = (
        f"import time, answers\n\ndef handler(event, context):\n    time.sleep({sleep_s})\n    return answers.VERSION\n"
    )
    for name, text in {"answers.py": f"VERSION = {version:<4}\n", "app.py": app}.items():
        path, new = code / name, code.parent / f"{name}.new"
        if not path.exists() or path.read_text() != text:
            new.write_text(text)
            os.utime(new, (MOMENT, MOMENT))
            new.replace(path)


class Served:
    """The command, and its lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        assert process.stdout is not None
        self._out = process.stdout

    async def line(self, what: str) -> dict[str, object]:
        while text := await self._out.readline():
            found: dict[str, object] = json.loads(text)
            if found["what"] == what:
                return found
        raise AssertionError(f"no line says {what}")

    async def rest(self) -> list[dict[str, object]]:
        return [json.loads(text) async for text in self._out]


@contextlib.asynccontextmanager
async def serving(code: Path, *arguments: str) -> AsyncIterator[tuple[Served, str]]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--code", str(code), "--serve", "0", "--watch", "--share", str(TMP), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=2**20,
    )  # fmt: skip
    try:
        served = Served(process)
        yield served, str((await served.line("listening"))["url"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("concurrency", [["--concurrency", "2"], []], ids=["two", "turns"])
async def test_ten_edits_in_a_row_under_requests_lose_none(tmp_path: Path, concurrency: list[str]) -> None:
    code = tmp_path / "code"
    code.mkdir()
    probe = Probe(tmp_path)
    write(code, 0)
    seen: list[list[int]] = [[], []]
    changed = asyncio.Condition()
    async with (
        serving(code, *concurrency, "--extension", str(probe.path), "--env", "=".join(probe.variable))
        as (served, url),
        aiohttp.ClientSession() as session,
    ):  # fmt: skip

        async def keep_asking(answers: list[int]) -> None:
            while not answers or answers[-1] < 10:
                async with session.post(url + INVOKE) as response:
                    assert response.status == 200, await response.text()
                    assert "X-Amz-Function-Error" not in response.headers, await response.text()
                    answers.append(int(await response.text()))
                async with changed:
                    changed.notify_all()

        async with asyncio.timeout(100), asyncio.TaskGroup() as tasks:
            printed = tasks.create_task(served.rest())
            asking = [tasks.create_task(keep_asking(answers)) for answers in seen]
            for version in range(1, 11):
                async with changed:
                    await changed.wait_for(lambda version=version: version - 1 in seen[0])  # type: ignore[misc]
                write(code, version)
            await asyncio.wait(asking)
            served.process.send_signal(signal.SIGINT)
            assert await served.process.wait() == 0
    if not concurrency:  # of two environments one may start with an edit before the other is told of it
        assert sum(line["what"] == "restart" for line in printed.result()) >= 10
        for answers in seen:
            assert answers == sorted(answers), "no request reaches older code than the one before it"
    assert set(seen[0]) == set(range(11))
    ends = [line for line in printed.result() if line["what"] == "shutdown"]
    assert {line["reason"] for line in ends} == {"spindown"}, "each environment ended in good order"
    assert all(end["extensions"]["probe"]["exit_code"] == 0 for end in ends)  # type: ignore[index]


async def test_an_edit_lets_the_invocation_in_progress_end_and_the_next_request_waits(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    write(code, 1, sleep_s=1.0)
    async with serving(code) as (served, url), aiohttp.ClientSession() as session:

        async def ask() -> str:
            async with session.post(url + INVOKE) as response:
                return await response.text()

        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(ask())
            while (await served.line("telemetry"))["type"] != "platform.start":
                pass
            write(code, 2)
            await asyncio.sleep(0.3)
            second = tasks.create_task(ask())
        assert (first.result(), second.result()) == ("1", "2")


async def test_code_that_cannot_run_is_an_answer_and_the_next_edit_mends_it(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    write(code, 1)
    async with serving(code) as (served, url), aiohttp.ClientSession() as session:

        async def ask() -> tuple[int, bool, str]:
            async with session.post(url + INVOKE) as response:
                return response.status, "X-Amz-Function-Error" in response.headers, await response.text()

        assert await ask() == (200, False, "1")
        (code / "app.py").write_text("def handler(:")
        await served.line("restart")
        status, is_error, text = await ask()
        assert (status, is_error) == (200, True)
        assert "Runtime.UserCodeSyntaxError" in text
        write(code, 2)
        await served.line("restart")
        assert await ask() == (200, False, "2")


async def test_what_the_command_prints_into_the_code_is_no_change(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    write(code, 1)
    with (code / "printed.jsonl").open("wb") as out:
        process = await asyncio.create_subprocess_exec(*COMMAND, "--code", str(code), "--watch", stdout=out, stderr=out)
        try:
            for _ in range(200):
                if '"what":"invocation"' in (code / "printed.jsonl").read_text():
                    break
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
        finally:
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    printed = (code / "printed.jsonl").read_text()
    assert printed.count('"what":"invocation"') == 1
    assert '"what":"restart"' not in printed


def test_only_the_bytecode_of_what_changed_is_forgotten(tmp_path: Path) -> None:
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    names = ["app.cpython-311.pyc", "app.cpython-312.opt-1.pyc", "apple.cpython-311.pyc", "a[p]p.cpython-311.pyc"]
    for name in names:
        (cache / name).touch()
    forget_bytecode([str(tmp_path / "app.py"), str(tmp_path / "apple.txt"), str(tmp_path / "gone" / "x.py")])
    assert sorted(path.name for path in cache.iterdir()) == sorted(names[2:])
    forget_bytecode([str(tmp_path / "a[p]p.py")])
    assert [path.name for path in cache.iterdir()] == ["apple.cpython-311.pyc"]
