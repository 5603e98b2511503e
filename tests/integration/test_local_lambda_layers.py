"""Layers on the local Lambda: order, modes, launch errors, and what is left of them."""

import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from local_lambda import Function, InitFailed, LocalLambda, Platform
from local_lambda.errors import InvalidLayer
from local_lambda.rules.log_lines import text_of
from tests.integration.local_lambda_probe import FUNCTIONS, Probe, local_lambda


def zip_of(path: Path, files: dict[str, tuple[int, bytes]]) -> Path:
    """Write a ZIP file with these modes (0: as packed where files have none) and contents."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (mode, content) in files.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            archive.writestr(member, content)
    return path


async def test_layers_are_laid_low_to_high_and_the_last_one_wins(tmp_path: Path) -> None:
    probe = Probe(tmp_path, types=[])
    low = tmp_path / "low"
    (low / "extensions").mkdir(parents=True)
    (low / "extensions" / "probe").write_text("#!/bin/sh\nexit 9\n")
    (low / "only-low.txt").write_text("low")
    high = zip_of(
        tmp_path / "high.zip",
        {
            "extensions/": (stat.S_IFDIR | 0o755, b""),
            "extensions/probe": (stat.S_IFREG | 0o755, probe.path.read_bytes()),
            "bin/tool": (stat.S_IFREG | 0o750, b"#!/bin/sh\n"),
            "python/beside.py": (stat.S_IFREG | 0o644, b"word = 'from a layer'\n"),
            "link": (stat.S_IFLNK | 0o777, b"only-low.txt"),
        },
    )
    code = tmp_path / "code"
    code.mkdir()
    (code / "app.py").write_text("import beside\ndef handler(event, context):\n    return beside.word\n")
    platform = Platform(file_system="shared")
    async with local_lambda(
        layers=[low, high], code=code, environment=dict([probe.variable]), platform=platform
    ) as env:
        result = await env.invoke()
        seen = probe.notes("start")[0]["environ"]
        opt = Path(seen["PATH"].rpartition(":")[2]).parent
        assert (opt / "link").read_text() == "low"
        assert stat.S_IMODE((opt / "bin" / "tool").stat().st_mode) == 0o750
        assert seen["LD_LIBRARY_PATH"] == str(opt / "lib"), "nobody could name the place of a layer otherwise"
        assert "PYTHONPATH" not in seen, "the function's packages are not the extension's"
    assert result.json() == "from a layer"
    assert not opt.exists()


@pytest.mark.parametrize(
    ("mode", "content", "words", "error_type"),
    [
        (0o644, b"#!/bin/sh\n", "is not marked as executable", "PermissionDenied"),
        (0, b"#!/bin/sh\n", "is not marked as executable", "PermissionDenied"),
        (0o755, b"#!/nowhere/python3\n", "its interpreter /nowhere/python3 does not exist", "UnknownError"),
        (0o755, b"#!/bin/sh\r\nexit 0\r\n", "ends in CR LF", "UnknownError"),
        # Of a machine that is not.
        (0o755, b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xff\x00" + bytes(64), "processor", "UnknownError"),
    ],
    ids=["not-executable", "no-modes", "no-interpreter", "crlf", "architecture"],
)
@pytest.mark.fidelity("1.4-launch-type", "3.5-extension-error")
async def test_what_cannot_be_executed_from_a_zip_is_a_launch_error(
    tmp_path: Path, mode: int, content: bytes, words: str, error_type: str
) -> None:
    layer = zip_of(tmp_path / "layer.zip", {"extensions/mine": (mode, content)})
    env = local_lambda(layers=[layer])
    with pytest.raises(InitFailed, match=f"cannot be executed: .*{words}") as caught:
        await env.__aenter__()
    assert caught.value.error_type == "Extension.LaunchError"
    event = next(event for event in env.telemetry if event["type"] == "platform.extension")
    assert text_of(event) == f"EXTENSION\tName: mine\tState: LaunchError\tEvents: []\tError Type: {error_type}"


async def test_what_env_cannot_find_is_said_of_the_file(tmp_path: Path) -> None:
    """`env` is executed and looks for a name that ends in CR, so all that Lambda tells is an exit code."""
    layer = zip_of(tmp_path / "layer.zip", {"extensions/mine": (0o755, b"#!/usr/bin/env python3\r\n")})
    with pytest.raises(InitFailed, match="ended with exit status 127: its first line ends in CR LF") as caught:
        await local_lambda(layers=[layer]).__aenter__()
    assert caught.value.error_type == "Extension.Crash"


def test_a_bad_layer_is_said_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(private))
    function = Function(code=FUNCTIONS)
    (tmp_path / "text.zip").write_text("not a ZIP file")
    outside = zip_of(tmp_path / "outside.zip", {"../evil": (0o644, b"")})
    for layers, words in [
        ([tmp_path / "nowhere"], "neither a directory nor a file"),
        ([tmp_path / "text.zip"], "cannot be unzipped"),
        ([outside], "a member outside of its own directory: "),
        ([tmp_path] * 6, "6 layers"),
    ]:
        with pytest.raises(InvalidLayer, match=words):
            LocalLambda(function, layers=layers)
    assert list(private.iterdir()) == []


async def test_nothing_is_written_through_a_link_of_a_lower_layer(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    low = zip_of(tmp_path / "low.zip", {"lib": (stat.S_IFLNK | 0o777, str(victim).encode())})
    high = zip_of(tmp_path / "high.zip", {"lib/file": (0o644, b"x")})
    async with local_lambda(layers=[low, high]):
        pass
    assert list(victim.iterdir()) == []
    shutil.rmtree(victim)


async def test_a_layer_can_switch_extensions_off(tmp_path: Path) -> None:
    layer = zip_of(
        tmp_path / "layer.zip",
        {"disable-extensions-jwigqn8j": (0o644, b""), "extensions/mine": (0o755, b"#!/bin/sh\nexit 1\n")},
    )
    async with local_lambda(layers=[layer]) as env:
        assert env.pids.keys() == {"runtime"}
