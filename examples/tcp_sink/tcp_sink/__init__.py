"""A sink of a third party with a transport of its own: records as lines of JSON over TCP (TCP_SINK_ADDRESS, host:port).

A request is one connection: lines of JSON and a blank one. Its answer is one line, `ok`, or what is wrong.
"""

from collections.abc import Mapping
from typing import Any

from tcp_sink.sink import TcpSink
from tcp_sink.transport import connecting_to
from telemetry_forwarder.plugin import ConfigError, Destination, Problem

NAME = "TCP_SINK_ADDRESS"


def create(environ: Mapping[str, str]) -> Destination[Any, Any]:
    """Return the destination that `environ` describes. Raises ConfigError where TCP_SINK_ADDRESS is no address."""
    given = environ.get(NAME, "")
    host, _, port = given.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError([Problem(NAME, repr(given), "`host:port`", "Sink tcp does not run without it.")])
    return Destination(sink=TcpSink(), delivery=connecting_to(host, int(port)))
