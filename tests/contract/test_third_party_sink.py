"""A sink that somebody else wrote is found by its entry point, and passes the same contract."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import Destination, HttpResponse
from telemetry_forwarder.lambda_api.registration import events
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.sinks import load
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract

EXAMPLE = Path(__file__).parents[2] / "examples/ndjson_sink"


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
        return load("ndjson")({"NDJSON_URL": "http://127.0.0.1:1/logs"})


def test_third_party_sink_is_named_in_the_settings() -> None:
    environ = {"TELEMETRY_FORWARDER_SINKS": "ndjson", "NDJSON_URL": "https://logs.example.com"}
    settings = Settings.from_env(environ)
    assert [destination.sink.name for destination in settings.destinations] == ["ndjson"]
    assert settings.problems == ()
    assert events(environ, can_listen=True) == ("INVOKE", "SHUTDOWN")


def test_its_own_problem_is_reported_like_ours() -> None:
    with pytest.raises(ConfigError, match="NDJSON_URL is 'nowhere'"):
        load("ndjson")({"NDJSON_URL": "nowhere"})


def test_unknown_sink_is_named_with_what_is_allowed() -> None:
    settings = Settings.from_env({"TELEMETRY_FORWARDER_SINKS": "splnuk,ndjson", "NDJSON_URL": "https://a.example"})
    assert [destination.sink.name for destination in settings.destinations] == ["ndjson"]
    assert "splnuk" in str(settings.problems[0])
    assert events({"TELEMETRY_FORWARDER_SINKS": "splnuk"}, can_listen=True) == ("SHUTDOWN",)
