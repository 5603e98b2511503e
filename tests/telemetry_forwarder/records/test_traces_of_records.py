"""Each record has the trace id of its request, where traces are on, and the same whenever it is made again."""

from typing import Any

import orjson
import pytest
from msgspec.structs import asdict, replace

from telemetry_forwarder.records.enrich import enrich
from telemetry_forwarder.records.handover import SIZE, Handover
from telemetry_forwarder.records.knowledge import Knowledge
from telemetry_forwarder.records.record import Item, Record
from telemetry_forwarder.records.tracing import trace_of
from telemetry_forwarder.variables.table import MANAGED_INSTANCES
from tests.builders import ORIGIN, WholeBatches, item, request_id
from tests.telemetry_forwarder.records.test_enrich import line

ONE, TWO = request_id(1), request_id(2)
ROOT, TRACE = "1-68c4a1f0-3b2a90d1c7e845f6a0b1c2d3", "68c4a1f03b2a90d1c7e845f6a0b1c2d3"
OWN = "aa" * 16


def start(request: str, root: str | None = None) -> Item:
    tracing = {"tracing": {"type": "X-Amzn-Trace-Id", "value": f"Root={root};Sampled=1"}} if root else {}
    return item("platform.start", {"requestId": request, **tracing})


def traced(init_type: str | None = None, before: Handover | None = None) -> WholeBatches:
    return WholeBatches(replace(ORIGIN, init_type=init_type), before, is_traced=True)


def ids(records: list[Record]) -> list[str | None]:
    return [one.context.trace_id for one in records]


def test_no_record_has_one_where_traces_are_off() -> None:
    items = start(ONE, ROOT), line("a"), line({"trace_id": OWN})
    assert ids(WholeBatches(ORIGIN).enrich_all(items, "b")) == [None, None, None]


def test_a_record_has_the_id_that_lambda_told_of_its_request_or_one_derived_from_it() -> None:
    items = (
        line("init"),
        start(ONE, ROOT),
        line("a"),
        item("platform.report", {"requestId": ONE}),
        start(TWO),
        line("b"),
    )
    assert ids(traced().enrich_all(items, "b")) == [None, TRACE, TRACE, TRACE, trace_of(TWO), trace_of(TWO)]


def test_what_a_line_tells_of_itself_wins_and_is_forgotten_behind_it() -> None:
    texts: list[Any] = [{"trace_id": OWN}, {"trace_id": "odd"}, '{"dd.trace_id":"17"}', "a"]
    found = ids(traced().enrich_all([start(ONE, ROOT), *map(line, texts)], "b"))
    assert found[1:] == [OWN, TRACE, f"{17:032x}", TRACE]


def test_lines_that_share_a_trace_share_their_context() -> None:
    records = traced().enrich_all([start(ONE), *[line({"trace_id": OWN, "n": n}) for n in range(3)]], "b")
    assert len({id(one.context) for one in records[1:]}) == 1


def test_the_id_is_known_in_the_next_batch_and_to_whoever_makes_the_records_again() -> None:
    one = traced()
    one.enrich_all([start(ONE, ROOT)], "b")
    kept = orjson.loads(orjson.dumps(asdict(one.knowledge)))  # as a spool keeps it
    again = Knowledge(**{name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()})
    items = [line("a")]
    first = one.enrich_all(items, "c")
    assert ids(first) == [TRACE]
    assert next(enrich(ORIGIN, again, items, "c", 1)) == first


def test_interleaved_requests_have_their_own_ids() -> None:
    one = traced(MANAGED_INSTANCES)
    one.enrich_all([start(ONE, ROOT), start(TWO)], "b")
    found = one.enrich_all([line({"requestId": TWO}), line({"requestId": ONE}), line("nobody's")], "c")
    assert ids(found) == [trace_of(TWO), TRACE, None]


@pytest.mark.parametrize(("init_type", "most"), [(None, 16), (MANAGED_INSTANCES, 4096)])
def test_the_ids_that_are_remembered_are_bounded(init_type: str | None, most: int) -> None:
    one = traced(init_type)
    one.enrich_all([start(request_id(number), ROOT) for number in range(5000)], "b")
    assert len(one.knowledge.traces) == most
    assert one.knowledge.traces[-1] == (request_id(4999), TRACE)


def test_the_next_process_knows_the_trace_of_the_request_that_ran_and_its_start() -> None:
    one = traced()
    one.enrich_all([start(ONE, ROOT)], "b")
    left = one.handover
    assert (left.request_id, left.trace_id, left.started) == (ONE, TRACE, "1800000000000")
    tail = traced(before=left).enrich_all([line("last words"), item("platform.report", {"requestId": ONE})], "c")
    assert ids(tail) == [TRACE, TRACE]


def test_a_process_without_a_request_of_its_own_leaves_what_it_inherited_but_the_start() -> None:
    left = traced(before=Handover(request_id=ONE, trace_id=TRACE, started="7")).handover
    assert (left.request_id, left.trace_id, left.started) == (ONE, TRACE, None)


def test_nothing_of_it_is_left_where_traces_are_off() -> None:
    one = WholeBatches(ORIGIN)
    one.enrich_all([start(ONE, ROOT)], "b")
    assert (one.handover.trace_id, one.handover.started) == (None, None)


def test_a_handover_with_all_of_it_fits_into_its_file() -> None:
    full = Handover(
        instance_id="2026/03/02/[123]" + "f" * 32, request_id=ONE, first=ONE, taken="f" * 24 * 64,
        restored="2026/03/02/[123]" + "f" * 32, trace_id=TRACE, started="1800000000000", measured=ONE, traced=ONE,
    )  # fmt: skip
    assert len(orjson.dumps(asdict(full))) <= SIZE
