"""The command line of the builder: `python -m layer DIRECTORY` (see `make layer` and docs/layer.md)."""

import argparse
import platform
import sys
from pathlib import Path

from layer import adding, checks, debian, libraries, sources
from layer.archive import files, zip_tree
from layer.build import Built, build
from layer.commands import say
from layer.elf import dotted
from layer.errors import Refused
from layer.packages import Package
from layer.wheels import ROOT

ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
FETCHED = ROOT / "build" / "python"  # what is fetched stays here until `make clean`
OLDEST = {dotted(one.glibc): one.glibc for one in libraries.GENERATIONS}


def main() -> int:
    options = parser().parse_args()
    arch = ARCHITECTURES[options.arch]
    try:
        built = taken(options, arch) if options.onto else made(options, arch)
        added = adding.add(built, options.package) if options.package else []
        tell(built)
        tell_of_packages(added)
        if options.zip:
            options.zip.parent.mkdir(parents=True, exist_ok=True)
            zip_tree(options.directory, options.zip)
            checks.small_enough(options.directory, options.zip, has_packages=bool(added))
            say(f"{options.zip}: {options.zip.stat().st_size / 1e6:.1f} MB")
    except Refused as refusal:
        if options.zip:
            options.zip.unlink(missing_ok=True)  # else an earlier run's file would pass for this one's
        say(f"refused: {refusal}")
        return 1
    return 0


def taken(options: argparse.Namespace, arch: str) -> Built:
    """Copy the layer that --onto names. Raises Refused."""
    for name in ("python", "stdlib", "without_interpreter"):
        if getattr(options, name):
            option = f"--{name.replace('_', '-')}"
            raise Refused(
                f"{option} changes how a layer is built, and --onto takes {options.onto} as it was built",
                f"Leave out {option}, or build the layer anew, with the packages and without --onto",
            )
    return adding.copied(options.onto, options.directory, arch)


def made(options: argparse.Namespace, arch: str) -> Built:
    """Build a layer without packages of others."""
    carry = not options.without_interpreter
    archive = debian.Archive(mirror=options.mirror, into=FETCHED)
    python = sources.choose(options.python, arch, archive, is_carried=carry)
    return build(options.directory, python, carry=carry, oldest=OLDEST[options.oldest], more=options.stdlib)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m layer", description="Build the Lambda layer.")
    found.add_argument("directory", type=Path, help="an empty or missing directory")
    found.add_argument(
        "--python",
        metavar="SOURCE",
        help="the interpreter to carry: a program or its directory, or `debian` or `uv`, which fetch one; without it "
        "the best that can be had",
    )
    found.add_argument("--mirror", metavar="URL", help="an archive of Debian's (http://deb.debian.org/debian)")
    found.add_argument("--arch", default=platform.machine(), choices=sorted(ARCHITECTURES))
    found.add_argument(
        "--oldest",
        default=dotted(libraries.AMAZON_LINUX_2023.glibc),
        choices=sorted(OLDEST),
        help="the oldest C library to serve: 2.26 is Amazon Linux 2, 2.34 is 2023; an interpreter that needs a newer "
        "one gets its own carried along, and then serves both",
    )
    found.add_argument(
        "--without-interpreter", action="store_true", help="for the Python runtime of the same minor version alone"
    )
    found.add_argument(
        "--package",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package with a sink to put into the layer: the directory of a project, a wheel, an archive of sources, "
        "a requirement, or a file of requirements; repeatable",
    )
    found.add_argument(
        "--onto",
        type=Path,
        metavar="LAYER",
        help="add the packages to this layer, a ZIP file or a directory, built before",
    )
    found.add_argument(
        "--stdlib",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module of Python's standard library to carry that the layer leaves out; repeatable",
    )
    found.add_argument("--zip", type=Path, help="write the layer as this file too")
    return found


def tell(built: Built) -> None:
    """Print what was built, where it runs, and what could not be tested on this machine."""
    python = built.python
    older = f"; {sources.OLDER_COSTS}" if built.carries_interpreter and python.number < sources.NEWEST else ""
    say(f"Python {python.version} for {python.arch}, {python.origin}: {python.program}{older}")
    if not built.carries_interpreter:
        say("without it: the runtime's own runs the extension")
    else:
        say("with its own C library and loader" if built.carries_c_library else "with the C library of the runtime")
    say(f"serves {', '.join(built.runtimes)}")
    if unlicensed := [component.name for component in built.components if not component.texts]:
        say(f"no licence text was found for {', '.join(unlicensed)}: add them before you give the layer to others")
    if not built.was_started:
        say(f"not started here: this machine is {platform.machine()}; all files were checked")
    size = sum(path.stat().st_size for path in files(built.tree))
    say(f"{built.tree}: {size / 1e6:.1f} MB")


def tell_of_packages(added: list[Package]) -> None:
    for package in added:
        sinks = f", with the sink {', '.join(package.sinks)}" if package.sinks else ""
        say(f"added {package}{sinks}")


if __name__ == "__main__":
    sys.exit(main())
