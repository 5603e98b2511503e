"""The command line of the builder: `python -m layer DIRECTORY` (see `make layer` and docs/layer.md)."""

import argparse
import platform
import sys
from pathlib import Path

from layer import interpreter
from layer.archive import files, zip_tree
from layer.build import Built, build
from layer.errors import Refused

ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


def main() -> int:
    options = parser().parse_args()
    try:
        built = build(options.directory, interpreter.find(options.python, ARCHITECTURES[options.arch]))
        tell(built)
        if options.zip:
            options.zip.parent.mkdir(parents=True, exist_ok=True)
            zip_tree(options.directory, options.zip)
            say(f"{options.zip}: {options.zip.stat().st_size / 1e6:.1f} MB")
    except Refused as refusal:
        say(str(refusal))
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m layer", description="Build the Lambda layer.")
    found.add_argument("directory", type=Path, help="an empty or missing directory")
    found.add_argument("--python", metavar="PATH", help="the interpreter to carry: a program, or its directory")
    found.add_argument("--arch", default=platform.machine(), choices=sorted(ARCHITECTURES))
    found.add_argument("--zip", type=Path, help="write the layer as this file too")
    return found


def tell(built: Built) -> None:
    """Say what was built, and where it runs."""
    python = built.python
    say(f"Python {python.version} for {python.arch}, {python.origin}: {python.program}")
    say("with its own C library and loader" if built.carries_c_library else "with the C library of the runtime")
    say(f"serves {', '.join(built.runtimes)}")
    size = sum(path.stat().st_size for path in files(built.tree))
    say(f"{built.tree}: {size / 1e6:.1f} MB")


def say(line: str) -> None:
    sys.stderr.write(f"layer: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
