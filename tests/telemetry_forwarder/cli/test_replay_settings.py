"""A replay leads to one destination: a sink's own, or the one that the sink has for metrics."""

import pytest

from telemetry_forwarder.cli.replay import _settings
from telemetry_forwarder.failover.parcels import word
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


@pytest.mark.parametrize("to", ["splunk:audit", "splunk:audit-metrics"])
def test_what_was_kept_for_a_further_sink_goes_to_it_and_not_to_the_first(to: str) -> None:
    own = {"SPLUNK_INDEX__AUDIT": "audit", "TELEMETRY_FORWARDER_TYPES__AUDIT": "platform"}
    (found,) = _settings(to, {**ENVIRON, **own}).destinations
    assert found.sink.name == to


def test_keys_of_a_further_sink_are_told_from_those_of_others() -> None:
    """Which is why no further sink may be called `metrics`."""
    names = ["splunk", "splunk-metrics", "splunk:audit", "splunk:audit-metrics"]
    assert len({word(name) for name in names}) == 4
    assert word("splunk:metrics") == word("splunk-metrics")
