"""Installing from a lock: the Makefile's own commands, against an index that offers newer releases too."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from layer import wheels
from layer.errors import Refused
from layer.interpreter import describe

ROOT = Path(__file__).parents[2]

# coverage[toml] as pytest-cov asks for it: an extra of a package that the lock names, which the lock cannot name.
NEEDS = {
    ("engine", "1.0"): ["Provides-Extra: toml", 'Requires-Dist: tomllike; extra == "toml" and python_version < "3"'],
    ("engine", "2.0"): ["Provides-Extra: toml"],
    ("plugin", "1.0"): ["Requires-Dist: engine[toml]>=0.9"],
    ("plugin", "2.0"): ["Requires-Dist: engine[toml]>=2"],
    ("tomllike", "1.0"): [],
    ("tomllike", "2.0"): [],
}
# A project whose backend is its own: the real one would have to be offered by the index.
PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "sample-project"
version = "0.1"
dependencies = ["plugin>=1"]
"""
BACKEND = """\
import pathlib, shutil
WHEEL = "sample_project-0.1-py3-none-any.whl"
def build_editable(directory, config_settings=None, metadata_directory=None):
    shutil.copyfile(pathlib.Path(__file__).parent / WHEEL, pathlib.Path(directory) / WHEEL)
    return WHEEL
"""


def wheel(folder: Path, name: str, version: str, headers: list[str]) -> Path:
    """Write the smallest wheel there is; return its path."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *headers, ""]),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in files.items():
            archive.writestr(inner, text)
    return path


class Index(NamedTuple):
    url: str
    folder: Path

    def lock(self, *names: str) -> str:
        """Return a lock of these packages in version 1.0, as `make lock` writes them."""
        hashes = {name: hashlib.sha256((self.folder / name / _file(name)).read_bytes()).hexdigest() for name in names}
        return "".join(f"{name}==1.0 \\\n    --hash=sha256:{digest}\n" for name, digest in hashes.items())


def _file(name: str) -> str:
    return f"{name}-1.0-py3-none-any.whl"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index on loopback; http.server's listings are pages of links, which is all that an index is."""
    folder = tmp_path_factory.mktemp("simple")
    for (name, version), headers in NEEDS.items():
        wheel(folder / name, name, version, headers)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Index(f"http://127.0.0.1:{server.server_port}/", folder)
        server.shutdown()
        thread.join()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project with this checkout's Makefile and installer."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "layer").symlink_to(ROOT / "layer")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND)
    wheel(folder, "sample_project", "0.1", ["Requires-Dist: plugin>=1"])
    return folder


@pytest.fixture(params=["pip", "uv"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PATH with uv, or without."""
    uv = shutil.which("uv")
    if request.param == "uv" and not uv:
        pytest.skip("there is no uv on this machine's PATH")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ["make", "touch", "sh", "sed", "uname", *(["uv"] if request.param == "uv" else [])]:
        found = shutil.which(name)
        assert found, name
        (programs / name).symlink_to(found)
    return str(programs)


def make(project: Path, target: str, environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    command = ["make", "-f", str(ROOT / "Makefile"), target, f"PYTHON={sys.executable}"]
    return subprocess.run(command, cwd=project, env=dict(environ), capture_output=True, text=True, timeout=110)


def surroundings(path: str, tmp_path: Path, index: Index) -> dict[str, str]:
    """The environment of one who has settings for other work: each of them breaks, or moves, an install if heard."""
    elsewhere = tmp_path / "elsewhere"
    constraint = tmp_path / "constraint.txt"
    constraint.write_text("engine==2.0\n")
    own = tmp_path / "own"  # on PYTHONPATH: pip would take it for installed
    with zipfile.ZipFile(index.folder / "plugin" / _file("plugin")) as archive:
        archive.extractall(own)
    return {
        "PATH": path,
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": index.url,
        "UV_DEFAULT_INDEX": index.url,
        "PIP_FIND_LINKS": str(index.folder / "engine"),
        "PIP_USER": "1",
        "PIP_TARGET": str(elsewhere),
        "PIP_CONSTRAINT": str(constraint),
        "PIP_REQUIRE_HASHES": "1",
        "PIP_NO_BINARY": ":all:",
        "UV_CONSTRAINT": str(constraint),
        "UV_REQUIRE_HASHES": "1",
        "UV_NO_BINARY": "1",
        "UV_EXCLUDE_NEWER": "2001-01-01",
        "PYTHONPATH": str(own),
        "VIRTUAL_ENV": str(elsewhere),
    }


def installed(venv: Path) -> dict[str, str]:
    found = venv.glob("lib/python*/site-packages/*.dist-info")
    versions = dict(folder.name.removesuffix(".dist-info").split("-") for folder in found)
    return {name: version for name, version in versions.items() if name not in ("pip", "setuptools")}


def test_install_takes_the_lock_whatever_the_index_offers(
    project: Path, path: str, tmp_path: Path, index: Index
) -> None:
    """`make install`: newer releases, an extra that no lock names, and settings for other work change nothing."""
    (project / "requirements.lock").write_text(index.lock("engine", "plugin"))
    done = make(project, "install", surroundings(path, tmp_path, index))
    assert done.returncode == 0, done.stdout + done.stderr
    assert installed(project / ".venv") == {"engine": "1.0", "plugin": "1.0", "sample_project": "0.1"}
    assert not (tmp_path / "elsewhere").exists()
    assert "install: .venv: 2 packages of requirements.lock" in done.stderr


def test_sam_is_installed_the_same_way(project: Path, path: str, tmp_path: Path, index: Index) -> None:
    (project / "requirements-sam.lock").write_text(index.lock("engine", "plugin"))
    done = make(project, ".venv-sam/.installed", surroundings(path, tmp_path, index))
    assert done.returncode == 0, done.stdout + done.stderr
    assert installed(project / ".venv-sam") == {"engine": "1.0", "plugin": "1.0"}


def test_a_lock_that_lacks_a_package_is_told(project: Path, path: str, tmp_path: Path, index: Index) -> None:
    """Nothing is resolved, so what is lacking must be said: here, not by an import in the middle of a test."""
    (project / "requirements.lock").write_text(index.lock("plugin"))
    done = make(project, "install", surroundings(path, tmp_path, index))
    assert done.returncode != 0
    assert "engine" in done.stdout + done.stderr
    assert not (project / ".venv" / ".installed").exists()


def test_the_layer_takes_the_lock_whatever_the_index_offers(
    path: str, tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for the wheels of the layer; and what is lacking there is said."""
    for name, value in surroundings(path, tmp_path, index).items():
        monkeypatch.setenv(name, value)
    python, lib = describe(Path(sys.executable), "the current one"), tmp_path / "lib"
    wheels.install(index.lock("engine", "plugin"), python, lib)
    assert {folder.name for folder in lib.glob("*.dist-info")} == {"engine-1.0.dist-info", "plugin-1.0.dist-info"}
    wheels.complete(lib, python.minor, python.arch)
    shutil.rmtree(lib / "engine-1.0.dist-info")
    with pytest.raises(Refused, match=r"plugin asks for engine\[toml\]>=0\.9"):
        wheels.complete(lib, python.minor, python.arch)
