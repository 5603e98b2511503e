"""A sink that somebody else wrote is found by its entry point, passes the same contract, and imports one module."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from telemetry_forwarder import plugin
from telemetry_forwarder.lambda_api.registration import events
from telemetry_forwarder.plugin import ConfigError, Destination, HttpResponse
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.sinks import load
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract
from telemetry_forwarder.variables.reading import read_all

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples/ndjson_sink"
PAGE = REPOSITORY / "docs/sinks.md"
SINKS = sorted((REPOSITORY / "examples").glob("*_sink/**/*.py"))


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path) -> Iterator[None]:
    """Make the example's module and metadata importable, as installing its wheel would."""
    metadata = tmp_path / "telemetry_forwarder_ndjson-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: telemetry-forwarder-ndjson\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[telemetry_forwarder.sinks]\nndjson = ndjson_sink:create\n")
    sys.path[:0] = [str(tmp_path), str(EXAMPLE)]
    yield
    del sys.path[:2]
    sys.modules.pop("ndjson_sink", None)


class TestNdjson(SinkContract):
    answers = Answers(
        accept=HttpResponse(status=200),
        throttle=HttpResponse(status=429),
        reject=HttpResponse(status=400),
        deny=HttpResponse(status=403),
        too_large=HttpResponse(status=413),
    )

    def destination(self) -> Destination[Any, Any]:
        return load("ndjson")(read_all({"NDJSON_URL": "http://127.0.0.1:1/logs"}))


def test_third_party_sink_is_named_in_the_settings() -> None:
    environ = {"TELEMETRY_FORWARDER_SINKS": "ndjson", "NDJSON_URL": "https://logs.example.com"}
    settings = Settings.from_values(read_all(environ))
    assert [destination.sink.name for destination in settings.destinations] == ["ndjson"]
    assert settings.problems == ()
    assert events(read_all(environ), can_listen=True) == ("INVOKE", "SHUTDOWN")


def test_its_own_problem_is_reported_like_ours() -> None:
    with pytest.raises(ConfigError, match="NDJSON_URL is 'nowhere'"):
        load("ndjson")(read_all({"NDJSON_URL": "nowhere"}))


def test_unknown_sink_is_named_with_what_is_allowed() -> None:
    settings = Settings.from_values(
        read_all({"TELEMETRY_FORWARDER_SINKS": "splnuk,ndjson", "NDJSON_URL": "https://a.example"})
    )
    assert [destination.sink.name for destination in settings.destinations] == ["ndjson"]
    assert "splnuk" in str(settings.problems[0])
    assert events(read_all({"TELEMETRY_FORWARDER_SINKS": "splnuk"}), can_listen=True) == ("SHUTDOWN",)


def own_modules_in(code: str) -> set[str]:
    """Return the modules of the package that `code` names in an import, wherever in it that stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name for name in found if name.split(".")[0] == "telemetry_forwarder"}


@pytest.mark.parametrize("path", SINKS, ids=lambda path: path.name)
def test_the_examples_import_the_stable_module_alone(path: Path) -> None:
    """And in their tests the published contract."""
    allowed = {"telemetry_forwarder.plugin"}
    if path.name.startswith("test_"):
        allowed.add("telemetry_forwarder.testing.sink_contract")
    assert own_modules_in(path.read_text()) <= allowed


def test_both_examples_are_looked_at() -> None:
    folders = {path.relative_to(REPOSITORY / "examples").parts[0] for path in SINKS}
    assert folders == {"ndjson_sink", "tcp_sink"}


def test_the_page_imports_the_stable_module_alone() -> None:
    """And in its test the published contract. (tests/integration/test_tutorial.py runs what is on the page.)"""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    stable = {"telemetry_forwarder.plugin"}
    contract = stable | {"telemetry_forwarder.testing.sink_contract"}
    assert [found for one in code if (found := own_modules_in(one))] == [stable, contract]


def test_the_stable_module_gives_what_it_promises() -> None:
    assert sorted(plugin.__all__) == sorted(set(plugin.__all__))
    assert all(hasattr(plugin, name) for name in plugin.__all__)
    assert not [name for name in plugin.__all__ if name.startswith("_")]
