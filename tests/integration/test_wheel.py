"""The wheel as pip lays it, in an environment of its own and far from the checkout; with the extra and without."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from layer.locked import environment, pip
from local_backends import SplunkHec
from telemetry_forwarder import __version__
from telemetry_forwarder.cli import LOCAL
from telemetry_forwarder.cli.settings import markdown
from telemetry_forwarder.failover.parcels import object_key
from tests.layers import REPOSITORY

from .aws_service import moto
from .places import KEYS, make_bucket, place_at, put
from .test_replay import ids, many, parcel_of

__all__ = ["moto"]

WRONG = Path(__file__).parent / "wrong_extensions"


def closure(*wanted: str) -> set[str]:
    """Return the names of the distributions that `wanted`, requirements, bring along."""
    found: set[str] = set()
    waiting = [Requirement(one) for one in wanted]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        if (key := str(requirement)) in seen:
            continue
        seen.add(key)
        found.add(requirement.name)
        waiting += [
            one for one in map(Requirement, distribution(requirement.name).requires or ())
            if not one.marker or any(one.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras))
        ]  # fmt: skip
    return found


def lay(names: set[str], into: Path) -> None:
    """Link what the distributions `names` of this environment have installed, and nothing else, `into` a directory."""
    into.mkdir()
    for name in names:
        files = distribution(name).files or ()
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            place = Path(str(distribution(name).locate_file(top)))
            if not (into / top).exists():
                (into / top).symlink_to(place)


def install(wheel: Path, folder: Path, *requirements: str) -> Path:
    """Make an environment with `wheel` and what `requirements` bring; return the directory of its programs."""
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    command = [
        *pip(sys.executable),
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        str(wheel),
    ]
    subprocess.run(command, check=True, env=environment(os.environ))
    lay(closure(*requirements), folder / "dependencies")
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{folder / 'dependencies'}\n")
    return python.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def requires(*, extra: str = "") -> list[str]:
    """Return what our own package asks for."""
    asked = map(Requirement, distribution("telemetry-forwarder").requires or ())
    return [f"{one.name}{one.specifier}" for one in asked if not one.marker or one.marker.evaluate({"extra": extra})]


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment without extras."""
    return install(wheel, tmp_path_factory.mktemp("bare") / "a venv", *requires())


@pytest.fixture(scope="module")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the extra `local`."""
    return install(wheel, tmp_path_factory.mktemp("full") / "a venv", *requires(extra="local"))


def run(
    programs: Path, cwd: Path, *arguments: str, stdin: str = "", **environ: str
) -> "subprocess.CompletedProcess[str]":
    surroundings = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "COLUMNS": "120", **environ}
    command = [str(programs / "telemetry-forwarder"), *arguments]
    return subprocess.run(command, cwd=cwd, env=surroundings, capture_output=True, text=True, input=stdin, timeout=100)


def test_the_names_of_the_extra_are_those_of_the_package() -> None:
    assert {re.split(r"[^\w-]", one)[0] for one in set(requires(extra="local")) - set(requires())} == set(LOCAL)


def test_wheel_holds_the_three_packages_and_the_sample_function_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {
        "telemetry_forwarder", "local_lambda", "local_backends", f"telemetry_forwarder-{__version__}.dist-info",
    }  # fmt: skip
    assert "telemetry_forwarder/cli/sample/app.py" in names
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--version"], f"telemetry-forwarder {__version__}\n"),
        (["settings"], markdown()),
        (["--help"], None),
        (["replay", "--help"], None),
        (["settings", "--help"], None),
    ],
)
def test_without_extras_the_operators_commands_work(
    bare: Path, tmp_path: Path, arguments: list[str], said: str | None
) -> None:
    done = run(bare, tmp_path, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: telemetry-forwarder") if said is None else done.stdout == said


async def test_without_extras_a_replay_replays(bare: Path, tmp_path: Path, moto: str) -> None:
    bucket, parcel = await make_bucket(moto, "replayed-by-the-wheel"), parcel_of(many(0, 10))
    await put(moto, bucket, {object_key("kept", "splunk", parcel): parcel.data})
    async with SplunkHec(token="hec-token") as splunk:
        environ = {"SPLUNK_HEC_URL": splunk.url, "SPLUNK_HEC_TOKEN": "hec-token", **KEYS, **place_at(moto)}
        done = await asyncio.to_thread(
            run, bare, tmp_path, "replay", f"s3://{bucket}/kept", "--to", "splunk", **environ
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(event.fields["record_id"] for event in splunk.events) == ids(0, 10)
    assert re.search(r"splunk +10 +10 +0 +0", done.stdout)


@pytest.mark.parametrize("command", ["demo", "local", "conform"])
def test_without_the_extra_the_others_say_what_is_missing(bare: Path, tmp_path: Path, command: str) -> None:
    done = run(bare, tmp_path, command, "--help")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"Error: `telemetry-forwarder {command}` needs {', '.join(LOCAL)}, which the extra `local` "
        "brings: pip install 'telemetry-forwarder[local]'\n"
    )


def test_with_the_extra_the_demo_runs_anywhere(full: Path, tmp_path: Path) -> None:
    done = run(full, tmp_path, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"cloudwatch\W+588\W+0\W+0", done.stdout)
    assert list(tmp_path.iterdir()) == [], "and leaves nothing"


def test_with_the_extra_a_function_is_run_anywhere(full: Path, tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "examples" / "python" / "app.py", tmp_path)
    report = tmp_path / "run.html"  # it is made of the files of the page, which lie in the wheel
    done = run(full, tmp_path, "local", "--event", "-", "--json", "--report", str(report), stdin='{"lines": 2}')
    assert done.returncode == 0, done.stdout + done.stderr
    assert "line 1: a plain print" in report.read_text()
    kinds = [json.loads(line) for line in done.stdout.splitlines()]
    assert any("line 1: a plain print" in str(one) for one in kinds)


def test_with_the_extra_an_extension_is_judged_anywhere(full: Path, tmp_path: Path) -> None:
    extension = full.parent / "telemetry-forwarder"
    extension.write_text(f"#!/bin/sh\nexec '{full}/python' -I -m telemetry_forwarder telemetry-forwarder\n")
    extension.chmod(0o755)
    options = ("--env", "TELEMETRY_FORWARDER_PORT={port}", "--env", f"TELEMETRY_FORWARDER_SPOOL_DIR={tmp_path}/spool")
    done = run(full, tmp_path, "conform", str(extension), *options, "--freeze", "0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
