"""docs/sinks.md, "A sink of your own": its blocks, taken out of the page, lead from an empty directory to a record."""

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
from packaging.tags import sys_tags

from local_lambda.machine.rooms import why_not
from tests import layers

from .test_wheel import closure, requires
from .world import free_port

REPOSITORY = layers.REPOSITORY
PORT = "8123"  # of the page's receiver; the one thing that is changed, so that two runs of the tests may be at once
COPIED = ("telemetry_forwarder", "local_lambda", "local_backends", "layer", "extensions", "examples/python")

pytestmark = pytest.mark.timeout(600)  # the first to come may have to build the layer

# A block, and the name with which the paragraph above it begins, if that ends with a colon.
_BLOCK = r"(?:^`([\w./]+)` (?:[^\n]+\n)*?[^\n]*:\n\n)?^```(\w+)\n(.*?)^```$"


def section() -> str:
    page = (REPOSITORY / "docs/sinks.md").read_text()
    return page.partition("\n## A sink of your own\n")[2].partition("\n## ")[0]


def script(text: str) -> str:
    """Return what a reader does: each block of shell is run, and what follows the name of a file is put into it."""
    steps = []
    for name, language, block in re.findall(_BLOCK, text, re.M | re.S):
        if language == "sh":
            steps.append(block)
        elif name:
            steps.append(f"cat > {name} <<'END OF {name}'\n{block}END OF {name}\n")
    return "".join(steps).replace(PORT, str(free_port()))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels that pip is asked for, made again of what this environment has installed: there is no other index."""
    folder = tmp_path_factory.mktemp("index")
    for name in closure(*requires(extra="local"), "pytest", "hatchling", "editables"):
        found = distribution(name)
        listed = re.findall(r"^Tag: (\S+)$", found.read_text("WHEEL") or "", re.MULTILINE)
        tag = next(one for one in map(str, sys_tags()) if one in listed)
        made = folder / f"{re.sub(r'[-_.]+', '_', found.name)}-{found.version}-{tag}.whl"
        with zipfile.ZipFile(made, "w") as wheel:
            for file in found.files or ():
                place = Path(str(found.locate_file(file)))
                if ".." not in file.parts and "__pycache__" not in file.parts and place.is_file():
                    wheel.write(place, file.as_posix())
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout after `make install`."""
    folder = tmp_path / "a checkout"
    for name in COPIED:
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE", "requirements.lock", "requirements-layer.lock"):
        shutil.copy(REPOSITORY / name, folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
    (folder / ".venv" / "bin" / "python").chmod(0o755)
    (folder / ".venv" / ".installed").touch()
    return folder


def test_it_leads_from_an_empty_directory_to_a_delivered_record(
    request: pytest.FixtureRequest, index: Path, checkout: Path, tmp_path: Path
) -> None:
    text = section()
    assert "rm received.ndjson\n" in text
    surroundings = {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "HOME": str(tmp_path),
        "CHECKOUT": str(checkout),
        "PIP_NO_INDEX": "1",
        "PIP_NO_COMPILE": "1",  # some seconds less
        "PIP_FIND_LINKS": str(index),
    }
    if why_not():  # a reader whose machine makes no mounts stops here, as the page says
        text = text.partition("### Put it into a layer")[0]
    else:
        # `make layer` as it is written, but not from the beginning: the layer that the other tests have is added to.
        surroundings["LAYER_OPTIONS"] = f"--onto {request.getfixturevalue('layer_zip')}"
    # What the first run sent is kept, to be looked at.
    steps = script(text.replace("rm received.ndjson\n", "mv received.ndjson first.ndjson\n"))
    log = tmp_path / "log"
    with log.open("wb") as output:
        ended = subprocess.run(
            ["sh", "-euc", f"trap '[ -z \"${{!:-}}\" ] || kill $!' EXIT\n{steps}"],
            cwd=tmp_path, env=surroundings, stdout=output, stderr=subprocess.STDOUT, check=False, timeout=550,
        )  # fmt: skip
    assert ended.returncode == 0, log.read_text()
    assert re.search(r"^\d+ passed", log.read_text(), re.MULTILINE), log.read_text()
    (shown,) = map(json.loads, re.findall(r"```json\n(.*?)```", section(), re.DOTALL))
    for name in ("received.ndjson",) if why_not() else ("first.ndjson", "received.ndjson"):
        arrived = [json.loads(line) for line in (tmp_path / "lines-sink" / name).read_text().splitlines()]
        (order,) = [one for one in arrived if one["value"] == shown["value"]]
        assert order.keys() == shown.keys()
        assert order["cut"] is shown["cut"]
        assert any(isinstance(one["value"], dict) for one in arrived), "and what the platform tells"
