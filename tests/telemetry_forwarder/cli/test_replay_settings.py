"""A replay leads to one destination: a sink's own, or the one that the sink has for metrics."""

import pytest

from telemetry_forwarder.cli.replay import _settings
from telemetry_forwarder.interfaces import taken_by
from telemetry_forwarder.records.record import Signal

ENVIRON = {"SPLUNK_HEC_URL": "https://splunk.example:8088", "SPLUNK_HEC_TOKEN": "token"}


@pytest.mark.parametrize("metrics", ["off", "on"])
def test_a_sink_s_own_records_go_to_its_own_destination(metrics: str) -> None:
    (found,) = _settings("splunk", {**ENVIRON, "TELEMETRY_FORWARDER_METRICS": metrics}).destinations
    assert (found.sink.name, taken_by(found.sink)) == ("splunk", {Signal.LOG})


@pytest.mark.parametrize("metrics", ["off", "on"])
def test_metrics_that_were_kept_go_to_the_destination_of_metrics(metrics: str) -> None:
    """Whatever the environment of the replay says: what was kept is to be sent."""
    (found,) = _settings("splunk-metrics", {**ENVIRON, "TELEMETRY_FORWARDER_METRICS": metrics}).destinations
    assert (found.sink.name, taken_by(found.sink)) == ("splunk-metrics", {Signal.METRIC})


def test_metrics_that_were_kept_with_the_log_records_are_metrics_again() -> None:
    (found,) = _settings("cloudwatch", {"CLOUDWATCH_LOG_GROUP": "g"}).destinations
    assert taken_by(found.sink) == {Signal.LOG, Signal.METRIC}


def test_a_sink_without_such_a_destination_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _settings("splunk-traces", ENVIRON)
    assert ended.value.code == 2
    assert "--to splunk-traces" in capsys.readouterr().err
