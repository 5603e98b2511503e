"""What the settings decide beyond single variables."""

from telemetry_forwarder.settings import Settings
from telemetry_forwarder.variables.reading import read_all


def test_a_destination_of_metrics_alone_holds_a_quarter() -> None:
    environ = {"SPLUNK_HEC_URL": "https://h", "SPLUNK_HEC_TOKEN": "t", "TELEMETRY_FORWARDER_METRICS": "on"}
    settings = Settings.from_values(read_all(environ))
    logs, metrics = (settings.capacity_for(destination) for destination in settings.destinations)
    assert logs == settings.capacity
    assert (metrics.max_bytes, metrics.max_records) == (logs.max_bytes // 4, logs.max_records // 4)
