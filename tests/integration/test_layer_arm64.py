"""The layer for the other processor, run on the local Lambda by QEMU's user-mode emulation (`make qemu`)."""

import json
import platform
import shutil
import zipfile
from pathlib import Path

import pytest

from layer import adding, sources
from layer.qemu import emulator
from tests import layers
from tests.integration.test_layer import assert_whole, contents, live

OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}.get(platform.machine(), "aarch64")
MADE = layers.REPOSITORY / "dist" / f"telemetry-forwarder-layer-{OTHER.replace('aarch64', 'arm64')}.zip"

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(emulator(OTHER) is None, reason=f"no qemu-{OTHER} here: make qemu"),
    pytest.mark.skipif(not layers.is_fresh(MADE), reason=f"no layer for {OTHER} of today: make layer LAYER_ARCH=…"),
    pytest.mark.skipif(layers.namespace() is None, reason=layers.NO_NAMESPACE),
]


async def test_it_lives_in_a_root_that_holds_nothing_else(tmp_path: Path) -> None:
    """It registers, delivers all lines once to every sink, balances its books and shuts down; beside it is QEMU alone.

    Emulation is an order of magnitude slower, and so is what Lambda would wait for; all else is as on the processor.
    """
    root = tmp_path / "root"
    layers.unpack(MADE, root / "opt")
    (root / "tmp").mkdir()
    (program,) = (root / "opt" / layers.PRIVATE / "bin").iterdir()
    shutil.copy(str(emulator(OTHER)), root / "qemu")
    before = contents(root / "opt")
    started = f"/opt/{layers.PRIVATE}/bin/{program.name} -IS {layers.EXECUTABLE}"
    line = f"exec {' '.join(layers.namespace() or [])} {layers.CHROOT} '{root}' /qemu {started}"
    given = {"TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS": "9000"}
    # So slow a process may see the telemetry of an invocation's end later than it waits for that.
    assert_whole(await live(layers.wrapper(tmp_path / "opt", line), given, timeout_s=30.0), "is not waited for")
    assert contents(root / "opt") == before
    assert {path.name for path in root.iterdir()} == {"opt", "qemu", "tmp"}


def test_it_carries_the_newest_interpreter() -> None:
    """There is no older one for the other processor: `make layer` has it from Debian's archive or from uv."""
    with zipfile.ZipFile(MADE) as archive:
        told = json.loads(archive.read(f"{layers.PRIVATE}/sbom.cdx.json"))
    (python,) = (one for one in told["components"] if one["name"] == "cpython")
    assert tuple(map(int, python["version"].split(".")[:2])) >= sources.NEWEST


def test_packages_of_others_are_added_to_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own interpreter writes their byte code, and loads their sinks, by QEMU."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    layer = adding.copied(MADE, tmp_path / "layer", OTHER)
    (package,) = adding.add(layer, [str(layers.REPOSITORY / "examples" / "ndjson_sink")])
    assert (package.sinks, layer.was_started) == (("ndjson",), True)
