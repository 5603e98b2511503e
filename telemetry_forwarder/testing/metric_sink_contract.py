"""The contract of a sink for metrics as a pytest class: as `sink_contract`, with metric records.

A record's id is in no request: it would make a series of every record. What shows a record is its value.
"""

from typing import Any

import pytest
from msgspec.structs import replace

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.records.derived import body_of, records_of
from telemetry_forwarder.records.record import Record, Signal, decode
from telemetry_forwarder.signals.points import MetricKind, Point, metrics
from telemetry_forwarder.testing.sink_contract import EPOCH_MS, ORIGIN, SinkContract, payload

_FIRST = 770_000  # the value of the first record


def metric_records(count: int) -> list[Record]:
    """Return `count` metric records, as the pipeline makes them, each with a value of its own."""
    kinds = list(MetricKind)
    derived = [
        metrics(
            [Point("orders.paid", _FIRST + index, "ms", kinds[index % len(kinds)])],
            EPOCH_MS + index,
            "platform",
            {"error.type": "timeout"} if index % 7 == 6 else {},
            request_id="8f5f0a4e-0d39-4f7e-b6f5-1f3b5f4b9a77",
            cold_start=index < 5,
        )
        for index in range(count)
    ]
    return records_of(ORIGIN, decode(body_of(derived), EPOCH_MS).items, "b" * 24)


class MetricSinkContract(SinkContract):
    """The tests that every sink for metrics must pass."""

    shared_mark = b"7700"

    def records(self, count: int) -> list[Record]:
        return metric_records(count)

    def mark(self, record: Record) -> bytes:
        return b"%d" % record.fields["points"][0]["value"] if record.fields else b""

    def test_it_takes_metrics_alone_or_logs_too(self) -> None:
        takes = self.destination().sink.takes  # type: ignore[attr-defined]
        assert Signal.METRIC in takes

    def test_no_request_id_is_sent(self) -> None:
        """Each combination of attributes is a series, and backends bill series."""
        sink = self.destination().sink
        assert b"8f5f0a4e" not in payload(sink.request([sink.encode(record) for record in self.records(9)]))

    def test_what_two_environments_send_at_once_are_two_points(self) -> None:
        """Nothing in the body says that one replaces the other."""
        sink = self.destination().sink
        one = self.records(1)[0]
        context = one.context
        other = replace(one, context=replace(context, origin=replace(context.origin, instance_id="another")))
        assert payload(sink.request([sink.encode(one), sink.encode(other)])).count(self.mark(one)) == 2

    @pytest.mark.parametrize(
        "value", [2**70, 10**400, -(2**64), 1e308, 5e-324, 0, -1.5, 0.1, [1, 2, 3], [1e308, 1e308]]
    )
    @pytest.mark.parametrize("kind", MetricKind)
    def test_any_number_is_expressed_or_refused(self, value: Any, kind: MetricKind) -> None:
        sink = self.destination().sink
        one = replace(
            self.records(1)[0], fields={"points": [{"name": "a.b", "value": value, "unit": "", "kind": kind}]}
        )
        try:
            encoded = sink.encode(one)
        except EncodeError:
            return
        sent = payload(sink.request([encoded]))
        assert not any(word in sent for word in (b"null", b"NaN", b"Infinity"))

    @pytest.mark.parametrize("name", ["", "_aws", "lambda", "time", "metric_name", "über 9 $", "a" * 5000, "\ud800"])
    def test_any_name_is_expressed_or_refused(self, name: str) -> None:
        sink = self.destination().sink
        fields = {
            "points": [{"name": name, "value": 7, "unit": "furlong", "kind": "distribution"}],
            "attributes": {name: name},
        }
        try:
            encoded = sink.encode(replace(self.records(1)[0], fields=fields))
        except EncodeError:
            return
        payload(sink.request([encoded])).decode("utf-8")

    def test_a_record_that_is_too_large_is_refused_by_name(self) -> None:
        sink = self.destination().sink
        points = [{"name": f"n{i}", "value": i, "unit": "ms", "kind": "distribution"} for i in range(60_000)]
        with pytest.raises(EncodeError, match=r"\d+"):
            sink.encode(replace(self.records(1)[0], fields={"points": points}))

    # What a log record may be, no metric record is.
    test_oversize_record_is_cut_to_the_limit_and_marked = None  # type: ignore[assignment]
    test_odd_records_are_expressed_or_refused_by_name = None
