"""AWS's Runtime Interface Emulator, as a second opinion on the extension and on our local Lambda.

Its binary comes with aws-sam-cli (`make template` installs it); no Docker is needed. Each one runs in a room of its own
(`rie_room`), with the directories that Lambda has. Source: docs/fidelity.md, section 8.
"""

import asyncio
import json
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.local_lambda_probe import eventually
from tests.integration.world import EXTENSION, FUNCTIONS, World, free_port, open_backends

CHECKOUT = Path(__file__).parents[2]
ROOM = Path(__file__).parent / "rie_room.py"
ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
PYTHON = "/var/lang/bin/python3"  # in the room: the environment that runs the tests
BOOTSTRAP = f'#!/bin/sh\nexec {PYTHON} -m awslambdaric "$_HANDLER"\n'
# Starts the extension as Lambda does, under its own name, and says how it ended, which the emulator does not.
WITNESS = '#!/bin/sh\n"{0}"\ncode=$?\necho "{1} ended with $code"\nexit $code\n'
NO_WORKER = b'{"errorType":"Runtime.Unavailable"}'
INVOCATIONS = "/2015-03-31/functions/function/invocations"


def binary() -> Path | None:
    """Return the emulator for this machine's processor, if it is installed."""
    name = f"aws-lambda-rie-{ARCHITECTURES.get(platform.machine(), platform.machine())}"
    found = (CHECKOUT / ".venv-sam").glob(f"lib/python3*/site-packages/samcli/local/rapid/{name}")
    return next(found, None)


@cache
def why_not() -> str | None:
    """Return why the emulator cannot run here, or None."""
    if sys.platform != "linux":
        return "AWS's emulator runs on Linux only"
    if binary() is None:
        return "AWS's emulator is not here for this processor: `make template` installs it with aws-sam-cli"
    tried = subprocess.run([sys.executable, str(ROOM), "--try"], capture_output=True, text=True, timeout=20)
    if tried.returncode != 0:
        return f"no private mounts and process ids here (needs root): {tried.stderr.strip().rpartition(chr(10))[2]}"
    return None


@pytest.fixture(autouse=True)
def emulator_is_here() -> None:
    """Skip a test where the emulator cannot run. Modules that import this fixture use it for all their tests."""
    if reason := why_not():
        pytest.skip(reason)


class Rie:
    """One running emulator."""

    def __init__(
        self, process: asyncio.subprocess.Process, url: str, log: Path, session: aiohttp.ClientSession
    ) -> None:
        self.url = url
        self._process = process
        self._log = log
        self._session = session

    async def invoke(self, payload: Any, **headers: str) -> tuple[int, bytes]:
        """Invoke the function; return the status and the body of the answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.post(self.url + INVOCATIONS, json=payload, headers=named) as response:
            return response.status, await response.read()

    async def invoke_when_ready(self, payload: Any, *, within: float = 5.0) -> tuple[int, bytes]:
        """Invoke the function, again while no worker of Managed Instances has asked for an invocation yet."""
        async with asyncio.timeout(within):
            while (answer := await self.invoke(payload))[1] == NO_WORKER:  # noqa: ASYNC110 - it announces it to nobody
                await asyncio.sleep(0.01)
            return answer

    async def terminate(self, *, within: float = 5.0) -> int:
        """Send SIGTERM; return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(within):
            return await self._process.wait()

    async def abandon(self) -> None:
        """Kill it, and with it its room, if it still runs."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    @property
    def output(self) -> list[str]:
        """What the emulator, the function and the extensions wrote, in lines."""
        return self._log.read_text(errors="replace").splitlines()

    def extension_output(self, name: str) -> list[str]:
        """Return the output; the emulator does not tell whose a line is."""
        return self.output

    def exit_codes(self, name: str = EXTENSION.name) -> list[int]:
        """Return how each generation of an extension ended."""
        said = f"{name} ended with "
        return [int(line.partition(said)[2].split()[0]) for line in self.output if said in line]


@asynccontextmanager
async def rie(
    folder: Path,
    *,
    extensions: Sequence[Path] = (EXTENSION,),
    environment: Mapping[str, str],
    managed: bool = False,
    timeout_s: int = 10,
    log_level: str = "info",
) -> AsyncIterator[Rie]:
    """Start the emulator for `lines.handler`, on the Managed Instances core if `managed`; leave nothing behind."""
    program = binary()
    assert program is not None
    os.chmod(folder, 0o777)  # Managed Instances: the extensions run under other user ids
    api, front = free_port(), free_port()
    command = [str(program), "--log-level", log_level, "--runtime-api-address", f"127.0.0.1:{api}"]
    command += ["--runtime-interface-emulator-address", f"127.0.0.1:{front}"]
    command += (
        ["/var/runtime/bootstrap", "lines.handler"] if managed else [PYTHON, "-m", "awslambdaric", "lines.handler"]
    )
    log = folder / "rie.log"
    async with AsyncExitStack() as stack:
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(ROOM),
                json.dumps(_plan(folder, extensions)),
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=_environment(environment, managed, timeout_s),
                start_new_session=True,
            )
        timeout = aiohttp.ClientTimeout(total=30)
        session = aiohttp.ClientSession(timeout=timeout)
        it = Rie(process, f"http://127.0.0.1:{front}", log, session)
        stack.push_async_callback(it.abandon)
        await stack.enter_async_context(session)
        await eventually(lambda: process.returncode is not None or _is_open(front), timeout_s=10.0)
        assert process.returncode is None, it.output
        yield it


@asynccontextmanager
async def rie_world(
    folder: Path, *, environment: Mapping[str, str | None] | None = None, **options: Any
) -> AsyncIterator[World[Rie]]:
    """Open the three backends and the emulator with the real extension; `environment` as in `world`."""
    async with AsyncExitStack() as stack:
        splunk, datadog, cloudwatch, given = await open_backends(stack, environment or {})
        env = await stack.enter_async_context(rie(folder, environment=given, **options))
        yield World(splunk, datadog, cloudwatch, env)


def _plan(folder: Path, extensions: Sequence[Path]) -> dict[str, Any]:
    witnesses = {f"/opt/extensions/{path.name}": WITNESS.format(path, path.name) for path in extensions}
    prefixes = {sys.prefix, sys.base_prefix, str(Path(os.path.realpath(sys.executable)).parents[1])}
    return {
        "binds": {"/var/lang": sys.prefix, "/var/task": str(FUNCTIONS)},
        "files": {"/var/runtime/bootstrap": BOOTSTRAP, **witnesses},
        "kept": sorted({*prefixes, str(CHECKOUT), str(folder), *(str(path.parent) for path in extensions)}),
    }


def _environment(environment: Mapping[str, str], managed: bool, timeout_s: int) -> dict[str, str]:
    """The emulator's own environment, which it passes on (the classic core all of it)."""
    return {
        "PATH": "/var/lang/bin:/usr/bin:/bin",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIALOCALLAMBDA00000",
        "AWS_SECRET_ACCESS_KEY": "local-secret-access-key",
        "AWS_SESSION_TOKEN": "local-session-token",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout_s),
        "_HANDLER": "lines.handler",
        **({"AWS_LAMBDA_MAX_CONCURRENCY": "2"} if managed else {}),
        **environment,
    }


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
