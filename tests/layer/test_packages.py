"""Which packages come into a layer for a name, a file or a directory; and what is refused, from real wheels and pip."""

import hashlib
import sys
import tarfile
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from layer import packages
from layer.errors import Refused
from layer.interpreter import Interpreter
from layer.packages import Package

from .wheelhouse import SINK, wheel

LINES = {"lines": "their_sink:create"}


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that pip finds."""
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


@pytest.fixture
def target() -> Interpreter:
    """Another Python than the one that runs the tests."""
    nothing = Path("/nowhere")
    return Interpreter(program=nothing, stdlib=nothing, dynload=None, version="3.15.2", arch="x86_64", origin="")


@pytest.fixture
def present(tmp_path: Path) -> dict[str, Distribution]:
    """What the layer has: two distributions, and ours."""
    for name, version, requires in (
        ("orjson", "3.13.0", ""),
        ("aiohttp", "3.14.5", "Requires-Dist: nobody-has-this\n"),
        ("telemetry-forwarder", "0.1.0", "Provides-Extra: local\nRequires-Dist: click ; extra == 'local'\n"),
    ):
        info = tmp_path / "layer" / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}")
    return {one.name: one for one in distributions(path=[str(tmp_path / "layer")])}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Fetching:
    def __init__(self, target: Interpreter, present: dict[str, Distribution], scratch: Path) -> None:
        self.target, self.present, self.scratch = target, present, scratch
        scratch.mkdir()

    def __call__(self, *words: Path | str) -> list[Package]:
        return packages.fetch([str(word) for word in words], self.target, self.present, self.scratch)

    def refuses(self, match: str, *words: Path | str) -> None:
        with pytest.raises(Refused, match=match) as refusal:
            self(*words)
        text = str(refusal.value)
        assert text == f"{refusal.value.problem}. {refusal.value.remedy}."
        assert "\n" not in text
        assert refusal.value.remedy[0].isupper()
        assert not refusal.value.problem.endswith(".")


@pytest.fixture
def fetch(target: Interpreter, present: dict[str, Distribution], tmp_path: Path) -> Fetching:
    return Fetching(target, present, tmp_path / "scratch")


# --- what comes -----------------------------------------------------------------------------------------------------


def test_a_wheel_comes_with_what_it_needs_beside_the_layer(fetch: Fetching, index: Path, tmp_path: Path) -> None:
    """Markers and versions are those of the layer's Python; what the layer has is not fetched, nor what that needs."""
    asked = [
        "orjson>=3", "aiohttp", "telemetry-forwarder", "plain", "extra[more]", "only-old ; python_version < '3.14'",
        "only-new ; python_version >= '3.15'", "only-windows ; sys_platform == 'win32'",
    ]  # fmt: skip
    made = wheel(tmp_path, "Their.Sink", sinks=LINES, requires=asked, files={"their_sink.py": SINK})
    wheel(index, "plain", "1.0", requires=["deep<2"])
    wheel(index, "deep", "1.5")
    wheel(index, "deep", "2.0")
    wheel(index, "extra", requires=["deeper ; extra == 'more'", "deepest ; extra == 'most'"], extras=["more", "most"])
    wheel(index, "deeper")
    wheel(index, "only-new")
    found = {package.name: package for package in fetch(made)}
    assert {str(package) for package in found.values()} == {
        "Their.Sink 1.0", "plain 1.0", "deep 1.5", "extra 1.0", "deeper 1.0", "only-new 1.0",
    }  # fmt: skip
    theirs, plain = found["Their.Sink"], found["plain"]
    assert (theirs.sinks, theirs.is_local, theirs.is_wanted) == (("lines",), True, True)
    assert theirs.sha256 == digest(made)
    assert (plain.sinks, plain.is_local, plain.is_wanted) == ((), False, False)
    assert plain.sha256 == digest(index / "plain-1.0-py3-none-any.whl")
    assert (plain.folder / "plain.py").read_text() == SINK


def test_a_version_is_chosen_that_suits_all_who_ask(fetch: Fetching, index: Path, tmp_path: Path) -> None:
    """`one` is fetched before it is known that another wants it older; what the newer one wanted is not kept."""
    wheel(index, "one", "2.0", requires=["only-of-two"])
    wheel(index, "one", "1.0")
    wheel(index, "only-of-two")
    wheel(index, "other", requires=["further"])
    wheel(index, "further", requires=["one<2"])
    made = wheel(tmp_path, "their-sink", sinks=LINES, requires=["one", "other"])
    assert {str(package) for package in fetch(made)} == {"their-sink 1.0", "one 1.0", "other 1.0", "further 1.0"}


def test_a_requirement_is_looked_up(fetch: Fetching, index: Path) -> None:
    for version in ("1.0", "1.5", "2.0"):
        wheel(index, "their-sink", version, sinks=LINES)
    assert [str(package) for package in fetch("their_sink>=1,<2")] == ["their-sink 1.5"]


def test_a_compiled_wheel_for_the_layers_python_and_processor(fetch: Fetching, index: Path) -> None:
    """Among others, also one of the stable interface."""
    for tag in ("cp311-cp311-manylinux_2_17_x86_64", "cp315-cp315-manylinux_2_28_x86_64", "cp315-cp315-win_amd64"):
        wheel(index, "their-sink", sinks=LINES, requires=["stable"], tag=tag)
    wheel(index, "stable", tag="cp39-abi3-manylinux2014_x86_64")
    assert [str(package) for package in fetch("their-sink")] == ["their-sink 1.0", "stable 1.0"]


def test_a_project_is_built(fetch: Fetching, tmp_path: Path) -> None:
    """From its directory, or from an archive of its sources."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "their_sink.py").write_text(SINK)
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "their-sink"\nversion = "1.0"\n'
        '[project.entry-points."telemetry_forwarder.sinks"]\nlines = "their_sink:create"\n'
    )
    (package,) = fetch(project)
    assert (str(package), package.sinks, package.is_local) == ("their-sink 1.0", ("lines",), True)
    assert sorted(path.name for path in project.iterdir()) == ["pyproject.toml", "their_sink.py"]


def test_a_file_of_requirements(fetch: Fetching, index: Path, tmp_path: Path) -> None:
    """With hashes it is taken as it is, and what the layer has is left out of it; without, it is a list."""
    made, needed = wheel(index, "their-sink", sinks=LINES, requires=["plain"]), wheel(index, "plain")
    lines = [
        f"their-sink==1.0 \\\n    --hash=sha256:{digest(made)}",
        f"plain==1.0 \\\n    --hash=sha256:{digest(needed)}",
    ]
    locked = tmp_path / "sinks.lock"
    locked.write_text(
        "# a comment\n\n" + "\n".join([*lines, "orjson==3.13.0 \\\n    --hash=sha256:" + "0" * 64]) + "\n"
    )
    assert [str(package) for package in fetch(locked)] == ["their-sink 1.0", "plain 1.0"]
    loose = tmp_path / "requirements.txt"
    loose.write_text("their-sink>=1  # the newest\nplain ; python_version < '3.12'\n")
    assert [str(package) for package in fetch(loose)] == ["their-sink 1.0", "plain 1.0"]


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "refused"),
    [
        ("no-such-sink", r"There is no package no-such-sink where pip looks\. .*PIP_INDEX_URL"),
        ("./no/directory", r"\./no/directory is not there"),
        ("no-such-1.0-py3-none-any.whl", "no-such-1.0-py3-none-any.whl is not there"),
        ("two words", "'two words' is no requirement"),
        ("a-sink @ https://example.com/a.whl", r"is an address\. Fetch what is there"),
        ("orjson", r"orjson: the layer has orjson 3\.13\.0 already\. Leave it out"),
        ("orjson<3", r"orjson<3 asks for orjson<3, and the layer has orjson 3\.13\.0"),
    ],
)
def test_words_that_name_nothing(fetch: Fetching, word: str, refused: str) -> None:
    fetch.refuses(refused, word)


def test_a_package_without_a_sink(fetch: Fetching, index: Path) -> None:
    wheel(index, "requests")
    fetch.refuses(r"requests publishes no sink: .*telemetry_forwarder\.sinks.*lines_sink:create", "requests")


def test_a_directory_without_a_project(fetch: Fetching, tmp_path: Path) -> None:
    fetch.refuses(r"index holds no pyproject\.toml", tmp_path / "index")


def test_a_version_that_the_layer_has_otherwise(fetch: Fetching, index: Path, tmp_path: Path) -> None:
    """Both are named, also where it is asked for by what a sink brings along."""
    wheel(index, "client", requires=["orjson<3"])
    made = wheel(tmp_path, "their-sink", sinks=LINES, requires=["client"])
    fetch.refuses(r"client 1\.0 asks for orjson<3, and the layer has orjson 3\.13\.0", made)


def test_a_wheel_for_something_else(fetch: Fetching, tmp_path: Path) -> None:
    for tag in ("cp315-cp315-manylinux_2_17_aarch64", "cp311-cp311-manylinux_2_17_x86_64", "cp315-cp315-linux_x86_64"):
        made = wheel(tmp_path, "their-sink", sinks=LINES, tag=tag)
        fetch.refuses(rf"is made for {tag}, and the layer is for Python 3\.15 on x86_64 with glibc", made)


def test_no_wheel_for_the_layers_python(fetch: Fetching, index: Path) -> None:
    """There are some for others, or sources alone."""
    wheel(index, "their-sink", sinks=LINES, tag="cp311-cp311-manylinux_2_17_x86_64")
    with tarfile.open(index / "sources-3.0.tar.gz", "w:gz") as archive:
        archive.add(index / "their_sink-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", "sources-3.0/PKG-INFO")
    fetch.refuses(r"Of sources there is no wheel for Python 3\.15 on x86_64; .* 3\.0\. .*pip download", "sources")
    if sys.version_info[:2] == (3, 11):
        fetch.refuses(r"Of their-sink there is no wheel for Python 3\.15 on x86_64; .* 1\.0", "their-sink")


def test_something_that_it_needs_is_nowhere(fetch: Fetching, tmp_path: Path) -> None:
    made = wheel(tmp_path, "their-sink", sinks=LINES, requires=["nowhere-to-be-had>=2"])
    fetch.refuses(r"There is no package nowhere-to-be-had, which their-sink 1\.0 asks for, where pip looks", made)


def test_what_has_to_be_compiled(fetch: Fetching, tmp_path: Path) -> None:
    """A project whose wheel is for this machine, which says nothing of the C library that it needs."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "their_sink.py").write_text(SINK)
    (project / "hatch_build.py").write_text(
        "from hatchling.builders.hooks.plugin.interface import BuildHookInterface\n"
        "class Compiled(BuildHookInterface):\n"
        "    def initialize(self, version, data):\n"
        "        data['pure_python'], data['infer_tag'] = False, True\n"
    )
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "their-sink"\nversion = "1.0"\n[tool.hatch.build.targets.wheel.hooks.custom]\n'
    )
    fetch.refuses(r"project has parts that are compiled: .*Name a wheel of it .* Python 3\.15 and manylinux", project)


def test_a_project_that_cannot_be_built(fetch: Fetching, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text("[project\n")
    fetch.refuses(r"project/pyproject\.toml cannot be read", project)
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n[project]\nname = "a-b"\n'
    )
    fetch.refuses(r"project could not be built \(.*version.*pip wheel --no-deps", project)


def test_wheels_that_do_not_suit_each_other(fetch: Fetching, tmp_path: Path) -> None:
    one = wheel(tmp_path, "one", sinks=LINES, requires=["two>=2"])
    two = wheel(tmp_path, "two", sinks={"more": "two:create"})
    fetch.refuses(r"one 1\.0 asks for two>=2, and two-1\.0-py3-none-any\.whl was named", one, two)


def test_files_of_requirements_that_are_not_taken(fetch: Fetching, index: Path, tmp_path: Path) -> None:
    made, needed = wheel(index, "their-sink", sinks=LINES, requires=["plain"]), wheel(index, "plain")
    listed = tmp_path / "sinks.lock"
    listed.write_text("--index-url https://example.com\ntheir-sink\n")
    fetch.refuses(r"has the option --index-url, .*PIP_INDEX_URL", listed)
    listed.write_text(f"their-sink==1.0 --hash=sha256:{'0' * 64}\nplain==1.0 --hash=sha256:{'0' * 64}\n")
    fetch.refuses(r"their-sink==1\.0 as it was fetched has none of the hashes that .*sinks\.lock has", listed)
    listed.write_text(f"their-sink==1.0 --hash=sha256:{digest(made)}\n")
    fetch.refuses(r"their-sink 1\.0 asks for plain, and .*sinks\.lock has no line of it", listed)
    listed.write_text("their sink\n")
    fetch.refuses(r"'their sink' in .*sinks\.lock is no requirement", listed)
    listed.write_bytes(needed.read_bytes())
    fetch.refuses("is no file of requirements", listed)
