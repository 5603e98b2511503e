"""Publishing: the exact call, made from what the layer says of itself."""

import json
import os
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from layer import libraries, publish

ALL = [name for runtimes in libraries.GENERATIONS for name in runtimes.identifiers]
ARN = "arn:aws:lambda:eu-west-1:123456789012:layer:telemetry-forwarder:7"


def layer(folder: Path, runtimes: list[str], architecture: str = "aarch64") -> Path:
    """Write a ZIP file with a layer's bill and nothing else."""
    properties = {"architecture": architecture, "python": "3.13.1", "runtimes": ",".join(runtimes)}
    told = [{"name": f"telemetry-forwarder:{name}", "value": value} for name, value in properties.items()]
    bill = {"metadata": {"component": {"version": "1.2.3", "properties": told}}}
    with zipfile.ZipFile(folder / "layer.zip", "w") as archive:
        archive.writestr("telemetry-forwarder/sbom.cdx.json", json.dumps(bill))
    return folder / "layer.zip"


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["publish", *map(str, words)])
    return publish.main()


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the AWS CLI that notes how it was called; the file of its notes."""
    program = tmp_path / "bin" / "aws"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >'{tmp_path}/called'\necho {ARN}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return tmp_path / "called"


def test_dry_run_shows_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], aws: Path
) -> None:
    archive = layer(tmp_path, ["python3.13", "nodejs22.x"])
    assert run(monkeypatch, "--dry-run", "--region", "eu-west-1", archive) == 0
    assert capsys.readouterr().out == (
        "aws lambda publish-layer-version --layer-name telemetry-forwarder --description 'Forwards logs and platform "
        "telemetry; version 1.2.3, Python 3.13.1 inside' --license-info Apache-2.0 "
        f"--zip-file fileb://{archive} --compatible-architectures arm64 --compatible-runtimes python3.13 nodejs22.x "
        "--region eu-west-1 --query LayerVersionArn --output text\n"
    )
    assert not aws.exists()


def test_publishing_prints_the_arn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], aws: Path
) -> None:
    archive = layer(tmp_path, ["provided.al2023"], "x86_64")
    assert run(monkeypatch, "--name", "mine", archive) == 0
    assert capsys.readouterr().out == f"{ARN}\n"
    called = aws.read_text().splitlines()
    assert called[:4] == ["lambda", "publish-layer-version", "--layer-name", "mine"]
    assert called[called.index("--compatible-architectures") + 1] == "x86_64"


def test_fifteen_runtimes_are_named_at_most(tmp_path: Path) -> None:
    """The API takes no more; the field is for whoever searches, and the layer runs on the others too."""
    archive = layer(tmp_path, ALL)
    assert compatible(publish.call(archive, "x", None, None)) == ALL[:15]
    assert compatible(publish.call(archive, "x", "java11,java17", None)) == ["java11", "java17"]


def compatible(command: list[str]) -> list[str]:
    return command[command.index("--compatible-runtimes") + 1 : command.index("--query")]


def test_the_call_is_one_that_the_api_takes(tmp_path: Path) -> None:
    """Members, values and limits are those of the SDK's own model of the API."""
    model: Any = botocore.session.get_session().get_service_model("lambda")
    assert set(ALL) <= set(model.shape_for("Runtime").enum)
    assert set(publish.NAMES.values()) == set(model.shape_for("Architecture").enum)
    assert model.shape_for("CompatibleRuntimes").metadata["max"] == publish.MOST_RUNTIMES
    command = publish.call(layer(tmp_path, ALL), "telemetry-forwarder", None, None)
    given = {word[2:].replace("-", "") for word in command if word.startswith("--")} - {"query", "output", "zipfile"}
    members = {name.lower() for name in model.operation_model("PublishLayerVersion").input_shape.members}
    assert given <= members
    description = command[command.index("--description") + 1]
    assert len(description) <= model.shape_for("Description").metadata["max"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--runtimes", "nodejs22.x"], "is not made for nodejs22.x; it serves python3.13"),
        (["--runtimes", ",".join(["python3.13"] * 16)], "16 runtimes are named. Name up to 15"),
    ],
)
def test_what_the_layer_is_not_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    assert run(monkeypatch, *words, layer(tmp_path, ["python3.13"])) == 1
    assert problem in capsys.readouterr().err


def test_a_file_that_is_no_layer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.zip").write_text("text")
    for name in ("text.zip", "missing.zip"):
        assert run(monkeypatch, tmp_path / name) == 1
        assert "is not a layer of this builder's" in capsys.readouterr().err


def test_a_call_that_fails_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], aws: Path
) -> None:
    (tmp_path / "bin" / "aws").write_text("#!/bin/sh\necho 'Unable to locate credentials' >&2\nexit 253\n")
    assert run(monkeypatch, layer(tmp_path, ["python3.13"])) == 1
    told = capsys.readouterr()
    assert "Unable to locate credentials. Nothing was published." in told.err
    assert told.out == ""


def test_without_the_aws_cli_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(monkeypatch, layer(tmp_path, ["python3.13"])) == 1
    assert "The AWS CLI (`aws`) is not installed" in capsys.readouterr().err
