"""The destinations of a replay: those of the sinks in the environment, for all signals, whatever it says of these."""

from collections.abc import Mapping
from typing import Any

from telemetry_forwarder.interfaces import Destination, HttpDelivery
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.variables.reading import read_all


def settings_for_all(environ: Mapping[str, str]) -> Settings:
    """Return the settings for all sinks of the environment, with their destinations for metrics and traces.

    CloudWatch's metrics are kept with its log records, so even there the sink has to take them.
    """
    wanted = {"TELEMETRY_FORWARDER_METRICS": "on", "TELEMETRY_FORWARDER_TRACES": "on"}
    return Settings.from_values(read_all({**environ, **wanted}))


def target_of(destination: Destination[Any, Any]) -> str:
    """Return a text that identifies the destination: the sink's name, and its URL or log group."""
    delivery, sink = destination.delivery, destination.sink
    where = delivery.url if isinstance(delivery, HttpDelivery) else getattr(sink, "group", "")
    return f"{sink.name} {where}".strip()
