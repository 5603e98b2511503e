"""A sink of a third party, installed from a wheel of its own beside ours, delivers with the real executable."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from layer.locked import pip
from local_lambda import Function, LocalLambda
from tests.layers import REPOSITORY
from tests.sharing import sharing

from .test_wheel import install, requires, wheel
from .world import FUNCTIONS, free_port

__all__ = ["wheel"]


@pytest.fixture(scope="module")
def extension(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension of an environment that holds our wheel and that of examples/tcp_sink, and no checkout."""
    folder = tmp_path_factory.mktemp("third party")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY / "examples/tcp_sink", check=True, capture_output=True)
    (theirs,) = folder.glob("*.whl")
    python = install(wheel, folder / "venv", *requires()) / "python"
    command = [*pip(sys.executable), "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, str(theirs)], check=True)
    program = folder / "telemetry-forwarder"
    program.write_text(f"#!/bin/sh\nexec '{python}' -I -m telemetry_forwarder telemetry-forwarder\n")
    program.chmod(0o755)
    return program


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Play the destination: yield its address, and the records that it has taken."""
    taken: list[dict[str, Any]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (line := await reader.readline()).strip():
            taken.append(json.loads(line))
        writer.write(b"ok\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", taken


async def test_a_sink_from_a_package_of_its_own_delivers(extension: Path, tmp_path: Path) -> None:
    async with listening() as (address, taken):
        environment = {
            "TELEMETRY_FORWARDER_SINKS": "tcp",
            "TCP_SINK_ADDRESS": address,
            "TELEMETRY_FORWARDER_PORT": str(free_port()),
            "TELEMETRY_FORWARDER_SPOOL_DIR": str(tmp_path / "spool"),
            "TELEMETRY_FORWARDER_LOG_LEVEL": "info",
        }
        function = Function(code=FUNCTIONS, handler="lines.handler", environment=environment)
        async with LocalLambda(function, extensions=[extension], platform=sharing()) as env:
            await env.invoke({"lines": 5})
            await env.shutdown()
        said = [json.loads(line) for line in env.extension_output("telemetry-forwarder") if line.startswith("{")]
    lines = [one["record"] for one in taken if str(one["record"]).startswith("line ")]
    assert sorted(lines) == [f"line {number:06}" for number in range(5)]
    (ledger,) = [one for one in said if one["message"].startswith("ledger")]
    book = ledger["sinks"]["tcp"]
    assert (book["delivered"], book["held"], sum(book["dropped"].values())) == (len(taken), 0, 0)
