"""Builds the replay function's code: our package and its dependencies, for a Python runtime of Lambda.

    python -m layer.function DIRECTORY [--python 3.13] [--arch x86_64]

The layer cannot serve it: its byte code is for the interpreter that it carries, which no runtime has. The packages and
their versions are those of the layer (requirements-layer.lock).
"""

import argparse
import platform
import sys
from pathlib import Path

from layer import wheels
from layer.__main__ import ARCHITECTURES
from layer.commands import say
from layer.errors import Refused
from layer.interpreter import Interpreter
from layer.service_models import REPLAY_OPERATIONS

_RUNTIME = "3.13"  # replay/template.yaml names the same


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m layer.function", description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path, help="an empty or missing directory")
    parser.add_argument("--python", default=_RUNTIME, help=f"the runtime's minor version ({_RUNTIME})")
    parser.add_argument("--arch", default=platform.machine(), choices=sorted(ARCHITECTURES))
    options = parser.parse_args()
    try:
        build(options.directory, options.python, ARCHITECTURES[options.arch])
    except Refused as refusal:
        say(f"refused: {refusal}")
        return 1
    return 0


def build(into: Path, python: str, arch: str) -> None:
    """Fill `into` with the code for the runtime python`python` on `arch`. Raises Refused."""
    if into.exists() and any(into.iterdir()):
        raise Refused(f"{into} is not empty", "Remove it, or name another directory")
    into.mkdir(parents=True, exist_ok=True)
    nowhere = Path("/var/lang")  # it is not on this machine
    runtime = Interpreter(program=nowhere, stdlib=nowhere, dynload=None, version=python, arch=arch, origin="Lambda's")
    say(f"fetching packages for Lambda's python{python} on {arch}")
    wheels.install(wheels.requirements(wheels.LOCK.read_text(), python, arch), runtime, into)
    wheels.install_package(into, without=wheels.NOT_IN_FUNCTION)
    wheels.complete(into, python, arch)
    wheels.trim(into, REPLAY_OPERATIONS)
    size = sum(path.stat().st_size for path in into.rglob("*") if path.is_file())
    say(f"{into}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
