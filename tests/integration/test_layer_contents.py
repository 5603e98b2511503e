"""What lies in the ZIP file: nothing that is not needed, everything that is, and the words for it."""

import asyncio
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from layer import __main__ as command_line
from layer import elf, interpreter, libraries, sources, stdlib, wheels
from local_lambda import Function, LocalLambda
from tests import layers
from tests.integration.world import FUNCTIONS, open_backends
from tests.sharing import sharing

MEGABYTE = 1_000_000

pytestmark = pytest.mark.timeout(400)  # the first to come may have to build the layer


@pytest.fixture(scope="module")
def members(layer_zip: Path) -> Mapping[str, zipfile.ZipInfo]:
    with zipfile.ZipFile(layer_zip) as archive:
        return {member.filename: member for member in archive.infolist()}


@pytest.fixture(scope="module")
def bill(layer_zip: Path) -> dict[str, object]:
    with zipfile.ZipFile(layer_zip) as archive:
        read: dict[str, object] = json.loads(archive.read(f"{layers.PRIVATE}/sbom.cdx.json"))
        return read


def test_only_the_two_places_that_are_ours(members: Mapping[str, zipfile.ZipInfo]) -> None:
    """/opt/python, /opt/lib and /opt/bin belong to the function."""
    assert {name.split("/")[0] for name in members} == {"extensions", "telemetry-forwarder"}
    assert [name for name in members if name.startswith("extensions/")] == ["extensions/telemetry-forwarder"]


def test_size(layer_zip: Path, members: Mapping[str, zipfile.ZipInfo]) -> None:
    assert layer_zip.stat().st_size <= 15 * MEGABYTE
    assert sum(member.file_size for member in members.values()) <= 45 * MEGABYTE


def test_modes_and_times(members: Mapping[str, zipfile.ZipInfo]) -> None:
    """Everyone may read; what the kernel starts may be executed; no link; no time."""
    for name, member in members.items():
        mode = member.external_attr >> 16
        assert mode in (0o100644, 0o100755), name
        assert member.date_time == (1980, 1, 1, 0, 0, 0)
    executable = {name for name, member in members.items() if member.external_attr >> 16 & 0o111}
    assert any(re.fullmatch(r"telemetry-forwarder/bin/python3\.\d+", name) for name in executable)
    assert "extensions/telemetry-forwarder" in executable


def test_nothing_for_tests_tools_or_other_services(members: Mapping[str, zipfile.ZipInfo]) -> None:
    names = "\n".join(members)
    for pattern in (
        r"telemetry_forwarder/(cli|testing)/",
        r"/tests?/",
        r"/(ensurepip|idlelib|tkinter|unittest|pydoc_data|distutils|sqlite3|ctypes|multiprocessing)/",
        r"\.(py|pyi|pyx|c|h|a)$",
        r"__pycache__",
        r"/(pip|setuptools|click|rich|moto|pytest)/",
    ):
        assert not re.findall(pattern, names, re.MULTILINE), pattern
    services = set(re.findall(r"botocore/data/([^/\n]+)/", names))
    assert services == {"s3", "sqs", "sts"}


def test_one_bundle_of_authorities(opt: Path, members: Mapping[str, zipfile.ZipInfo]) -> None:
    (bundle,) = [name for name in members if name.endswith(".pem")]
    assert f"/opt/{bundle}" in (opt / "extensions" / "telemetry-forwarder").read_text()
    assert (opt / bundle).read_text().count("BEGIN CERTIFICATE") > 100


def test_every_program_and_library_finds_what_it_needs(opt: Path) -> None:
    """Where no other root can be had, this is what stands for it: each file's own words on what it needs."""
    private = opt / layers.PRIVATE
    found = {path: elf.read(path) for path in sorted(private.rglob("*")) if elf.is_elf(path)}
    (program,) = (path for path in found if path.parent == private / "bin")
    carried = {path.name for path in found if path.parent == private / "lib"}
    own_c_library = "libc.so.6" in carried
    for path, one in found.items():
        assert one.arch == os.uname().machine, path
        assert not one.runpath, f"{path}: LD_LIBRARY_PATH would come before"
        assert not one.rpath or path == program, path
        assert set(one.needs) <= carried | (set() if own_c_library else libraries.OF_C_LIBRARY), path
        least = libraries.version_of(private / "lib" / "libc.so.6") if own_c_library else (2, 34)
        assert one.newer_than(least) == [], path
    if own_c_library:
        assert found[program].interpreter.startswith("/opt/telemetry-forwarder/lib/ld-linux-")
        assert found[program].interpreter.rpartition("/")[2] in carried
        assert found[program].rpath == "/opt/telemetry-forwarder/lib"


# --- what is said of it ---------------------------------------------------------------------------------------------


def test_the_bill_names_every_part(opt: Path, bill: dict[str, object]) -> None:
    """Each wheel of the lock; each program and library, with the hash of the file that is in the layer."""
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    components = bill["components"]
    assert isinstance(components, list)
    purls = {component["purl"] for component in components}
    assert len(purls) == len(components)
    (minor,) = (path.name.removeprefix("python") for path in (opt / layers.PRIVATE / "bin").iterdir())
    lock = wheels.requirements(wheels.LOCK.read_text(), minor, os.uname().machine)
    for name, version in re.findall(r"^(\S+)==(\S+)", lock, re.MULTILINE):
        assert {f"pkg:pypi/{name}@{version}", f"pkg:pypi/{name.replace('-', '_')}@{version}"} & purls, name
    files = {file["name"]: file for component in components for file in component.get("components", [])}
    private = opt / layers.PRIVATE
    owned = [path for folder in ("bin", "lib") for path in (private / folder).iterdir() if elf.is_elf(path)]
    assert set(files) == {path.relative_to(private).as_posix() for path in owned}
    for path in owned:
        (digest,) = files[path.relative_to(private).as_posix()]["hashes"]
        assert digest == {"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_every_part_has_its_licence(opt: Path, bill: dict[str, object]) -> None:
    licences = opt / layers.PRIVATE / "licenses"
    listed = (licences / "README").read_text().splitlines()
    components = bill["components"]
    assert isinstance(components, list)
    assert len(listed) == len(components)
    for component in components:
        assert any(line.startswith(f"{component['name']} {component['version']}: ") for line in listed)
        texts = list((licences / component["name"]).glob("*"))
        assert texts, component["name"]
        assert all(text.stat().st_size > 100 for text in texts), component["name"]


# --- made again -----------------------------------------------------------------------------------------------------


def test_the_same_input_gives_the_same_bytes(layer_zip: Path, bill: dict[str, object], tmp_path: Path) -> None:
    """Built again at another place and time, with other surroundings, the ZIP file is the same."""
    components = bill["components"]
    assert isinstance(components, list)
    (version,) = (component["version"] for component in components if component["name"] == "cpython")
    fetched = sorted(str(path) for path in command_line.FETCHED.glob("*/root/usr"))
    for program in (*fetched, "/usr/bin/python3", sys.executable):
        if Path(program).exists() and interpreter.describe(Path(program), "").version == version:
            break
    else:
        pytest.skip(f"the Python {version} of which the layer was made is not known here")
    changed = os.environ | {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7", "LC_ALL": "C", "HOME": str(tmp_path)}
    again = tmp_path / "somewhere else" / "layer.zip"
    layers.build(tmp_path / "a tree", "--python", program, "--zip", str(again), **changed)
    assert again.read_bytes() == layer_zip.read_bytes()


# --- what a run loads -----------------------------------------------------------------------------------------------

# Each import is noted as it begins, so that nothing hangs on how the process ends.
TRACER = """#!{python} -I
import os, sys
told = os.open({told!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(event, words):
    if event == "import":
        os.write(told, (words[0] + "\\n").encode())
os.write(told, ("\\n".join(sys.modules) + "\\n").encode())
sys.addaudithook(note)
from telemetry_forwarder.bootstrap import main
sys.exit(main("telemetry-forwarder", os.environ))
"""


async def test_a_real_run_loads_nothing_that_is_not_carried(tmp_path: Path) -> None:
    """Traced on a whole interpreter, with every sink, a secret and a bad setting: each module is on the list."""
    told = tmp_path / "modules"
    opt = layers.wrapper(tmp_path / "opt", "")
    (opt / "extensions" / "telemetry-forwarder").write_text(TRACER.format(python=sys.executable, told=str(told)))
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        _, _, cloudwatch, given = await open_backends(stack, {"DD_SITE": "not a site"})
        del given["DD_API_KEY"]
        given["DD_API_KEY_SECRET_ARN"] = "arn:aws:secretsmanager:us-east-1:123456789012:secret:key-AbCdEf"
        given["AWS_ENDPOINT_URL_SECRETS_MANAGER"] = cloudwatch.url
        async with LocalLambda(
            Function(code=FUNCTIONS, handler="lines.handler", environment=given), opt=opt, platform=sharing()
        ) as env:
            await env.invoke({"lines": 20})
            await env.shutdown()
    loaded = {name.split(".")[0] for name in told.read_text().splitlines()} & sys.stdlib_module_names
    assert {"asyncio", "ssl", "email"} <= loaded  # of the AWS SDK, which has more, the builder makes every client
    missing = loaded - stdlib.KEPT - NOT_NEEDED
    assert {name for name in missing if importlib.util.find_spec(name)} == set()  # others are Windows', tried in vain


# What the layer leaves out knowingly: `site` and what it reads, which -S keeps away; parts of the interpreter itself;
# compression that shutil and zipfile would offer; libuuid, of which uuid makes no use for random numbers.
NOT_NEEDED = {
    "site", "_sitebuiltins", "_frozen_importlib", "_frozen_importlib_external", "bz2", "_bz2", "lzma", "_lzma", "_uuid",
}  # fmt: skip


def test_what_make_layer_carries_is_the_newest_interpreter(layer_zip: Path, opt: Path) -> None:
    """CPython 3.15 where Debian's archive was reached; the bill, the program and its byte code are of one version."""
    if layer_zip != layers.MADE:
        pytest.skip("this layer was made by the tests, around the Python that runs them: make layer")
    told = json.loads((opt / layers.PRIVATE / "sbom.cdx.json").read_text())
    (python,) = (one for one in told["components"] if one["name"] == "cpython")
    (program,) = (opt / layers.PRIVATE / "bin").iterdir()
    assert program.name == "python" + ".".join(python["version"].split(".")[:2])
    if not any(command_line.FETCHED.glob("debian-*/contents")):
        pytest.skip(f"Debian's archive was not reached, and the layer carries CPython {python['version']}")
    assert tuple(map(int, python["version"].split(".")[:2])) >= sources.NEWEST


def test_the_interpreter_of_the_layer_shows_what_it_was_built_from(opt: Path) -> None:
    """It starts at the place where it lies, by its own loader, and finds its library there."""
    private = opt / layers.PRIVATE
    (program,) = (private / "bin").iterdir()
    loader = next(iter((private / "lib").glob("ld-linux-*")), None)
    command = [str(loader), "--library-path", str(private / "lib")] if loader else []
    ended = subprocess.run(
        [*command, str(program), "-IS", "-c", "import sys; print(sys.prefix, sys.flags.isolated, len(sys.path))"],
        capture_output=True,
        text=True,
        check=True,
        env={},
    )
    assert ended.stdout.split() == [str(private), "1", "3"]
    assert ended.stderr == ""
