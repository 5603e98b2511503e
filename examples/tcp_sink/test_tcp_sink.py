"""The contract suite, run by a third party whose destination can say two things alone."""

from typing import Any

from tcp_sink import create

from telemetry_forwarder.plugin import Destination
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract


class TestTcpSink(SinkContract):
    answers = Answers(accept=b"ok\n", throttle=b"busy\n")

    def destination(self) -> Destination[Any, Any]:
        return create({"TCP_SINK_ADDRESS": "127.0.0.1:9"})
