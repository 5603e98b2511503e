"""The local Lambda in the hands of an ordinary user, for tests that root runs: user namespaces instead of rights."""

import asyncio
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration.local_lambda_probe import FUNCTIONS

PROGRAM = """
import asyncio, json, os, sys
from pathlib import Path
from local_lambda import Function, LocalLambda, Platform

async def main():
    code, layer, extension, environment = sys.argv[1:]
    function = Function(code=Path(code), environment=json.loads(environment), timeout_s=10)
    async with LocalLambda(function, layers=[Path(layer)], platform=Platform(file_system="own")) as env:
        await env.invoke({"print": ["as somebody"]})
        end = (await env.shutdown()).extensions[extension]
    print(json.dumps([os.getuid(), end.exit_code, env.extension_output(extension)]))

asyncio.run(main())
"""
NOBODY = 65534
PYTHON = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
# What the local Lambda needs of this tool's packages; the rest of them is large.
NEEDED = (
    *("local_lambda", "aiohttp", "aiohappyeyeballs", "aiosignal", "attr", "attrs", "frozenlist", "idna", "multidict"),
    *("orjson", "propcache", "typing_extensions", "yarl", "awslambdaric", "simplejson", "snapshot_restore_py"),
    "runtime_client",
)


def _why_not() -> str:
    if os.geteuid() != 0:
        return "who is not root is an ordinary user in every other test"
    return "" if PYTHON.exists() else f"there is no {PYTHON}, and this Python is not for everybody"


needs_another_user = pytest.mark.skipif(bool(_why_not()), reason=_why_not())


async def live_as_ordinary_user(layer: Path, extension: str, environment: Mapping[str, str]) -> list[str]:
    """Invoke a function that prints one line, with `extension` of `layer` beside it; return what that said."""
    # Not in a directory of pytest's: those are closed to others, and each run of pytest closes them again.
    with tempfile.TemporaryDirectory(prefix="ordinary-user-") as folder:
        code, own_layer, packages = _prepare(Path(folder), layer)
        process = await asyncio.create_subprocess_exec(
            *(PYTHON, "-c", PROGRAM, code, own_layer, extension, json.dumps(dict(environment))),
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd="/",
            env={"HOME": "/nonexistent", "PYTHONPATH": str(packages)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    uid, exit_code, said = json.loads(out)
    assert (uid, exit_code) == (NOBODY, 0)
    return list(said)


def _prepare(folder: Path, layer: Path) -> tuple[Path, Path, Path]:
    """Copy the code, the layer and the packages to where everybody can read them; return their places."""
    code, packages = folder / "code", _copied(folder / "packages")
    shutil.copytree(FUNCTIONS, code, ignore=shutil.ignore_patterns("__pycache__"))
    copy = folder / layer.name
    (shutil.copy if layer.is_file() else shutil.copytree)(layer, copy)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o055)
    return code, copy, packages


def _copied(folder: Path) -> Path:
    """Copy the local Lambda and what it needs to where everybody can read it."""
    folder.mkdir()
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        assert spec.origin is not None, name
        source = Path(spec.origin).resolve()
        if spec.submodule_search_locations:
            shutil.copytree(source.parent, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    return folder
