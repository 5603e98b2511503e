"""Which request a line belongs to, and what else is known of it."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_forwarder.records.enrich import enrich as fold
from telemetry_forwarder.records.enrich import learn
from telemetry_forwarder.records.handover import Handover
from telemetry_forwarder.records.knowledge import Knowledge
from telemetry_forwarder.records.record import Item, Record, batch_id
from telemetry_forwarder.records.running import Invocation
from telemetry_forwarder.variables.table import MANAGED_INSTANCES
from tests.builders import ORIGIN, WholeBatches, item, request_id
from tests.telemetry_forwarder.records.test_record import JSON

FIRST, SECOND, OTHER = request_id(1), request_id(2), request_id(99)


def start(request: str) -> Item:
    return item("platform.start", {"requestId": request, "version": "$LATEST"})


def line(body: Any) -> Item:
    return item("function", body)


def init_start(**members: Any) -> Item:
    return item("platform.initStart", {"phase": "init", **members})


def enrich(*items: Item, init_type: str | None = None) -> list[Record]:
    return WholeBatches(replace(ORIGIN, init_type=init_type)).enrich_all(items, "b")


def last(*items: Item, init_type: str | None = None) -> Record:
    return enrich(*items, init_type=init_type)[-1]


# --- request ids ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["platform.start", "platform.runtimeDone", "platform.report", "platform.new"])
def test_a_platform_event_names_its_own_request(kind: str) -> None:
    assert last(start(FIRST), item(kind, {"requestId": OTHER})).request_id == OTHER


def test_a_platform_event_without_request_has_none() -> None:
    assert last(start(FIRST), item("platform.extension", {"name": "x"})).request_id is None
    assert last(start(FIRST), item("platform.odd", {"requestId": 7})).request_id is None


def test_a_plain_line_belongs_to_the_request_that_runs() -> None:
    records = enrich(line("init\n"), start(FIRST), line("a\n"), start(SECOND), line("b\n"))
    assert [record.request_id for record in records] == [None, FIRST, FIRST, SECOND, SECOND]


PYTHON = "[INFO]\t2026-03-02T10:15:30.100Z\t{}\torder accepted\n"
NODE = "2026-03-02T10:15:30.100Z\t{}\tERROR\torder refused\n"


@pytest.mark.parametrize(
    ("body", "level"),
    [
        (PYTHON, "info"),
        (NODE, "error"),
        ('{{"level":"WARN","requestId":"{}"}}\n', "warn"),
        ('{{"AWSRequestId":"{}"}}', None),
        ('{{"function_request_id":"{}"}}', None),
    ],
)
def test_a_line_that_names_a_request_that_was_started_belongs_to_it(body: str, level: str | None) -> None:
    """A line of the previous request may come after the next one's start."""
    record = last(start(FIRST), start(SECOND), line(body.format(FIRST)))
    assert record.request_id == FIRST
    assert record.level == level


@pytest.mark.parametrize("member", ["requestId", "AWSRequestId", "function_request_id"])
def test_a_json_record_names_its_request(member: str) -> None:
    assert last(start(FIRST), start(SECOND), line({member: FIRST})).request_id == FIRST


@pytest.mark.parametrize("body", [{"requestId": OTHER}, PYTHON.format(OTHER), NODE.format(OTHER)])
def test_a_users_own_id_under_the_same_name_does_not_win(body: object) -> None:
    """An API's request id, logged by a handler, is no request of Lambda's while those run one at a time."""
    assert last(start(FIRST), line(body)).request_id == FIRST


def test_a_users_own_id_does_not_hide_a_real_one_under_another_name() -> None:
    assert last(start(FIRST), start(SECOND), line({"requestId": "api-7", "AWSRequestId": FIRST})).request_id == FIRST


@pytest.mark.parametrize("odd", ["", 5, None, "x", FIRST.upper() + "0", [FIRST], {"a": FIRST}])
def test_what_is_no_request_id_is_not_taken_for_one(odd: object) -> None:
    assert last(start(FIRST), line({"requestId": odd})).request_id == FIRST
    assert last(line({"requestId": odd})).request_id is None


def test_lines_before_the_first_start_have_the_request_they_name_or_none() -> None:
    """The first batch of a new generation may hold lines of the one before it."""
    records = enrich(line("x"), line(PYTHON.format(OTHER)), line(NODE.format("undefined")))
    assert [record.request_id for record in records] == [None, OTHER, None]
    assert records[2].level == "error"


def ended(request: str, kind: str = "platform.runtimeDone") -> Item:
    return item(kind, {"requestId": request, "status": "error"})


@pytest.mark.parametrize("kind", ["platform.runtimeDone", "platform.report"])
def test_the_last_lines_of_a_dead_invocation_belong_to_the_request_whose_end_follows_them(kind: str) -> None:
    """They are the first that a new generation is sent where the one before it could not take them any more."""
    records = enrich(
        line("a"), line(PYTHON.format(FIRST)), line({"requestId": OTHER}), ended(FIRST, kind), line("b"),
        start(SECOND), line("c"),
    )  # fmt: skip
    assert [record.request_id for record in records] == [FIRST, FIRST, FIRST, FIRST, FIRST, SECOND, SECOND]
    assert [record.cold_start for record in records] == [None, None, None, None, None, True, True]


@pytest.mark.parametrize("before", [start(SECOND), init_start()])
def test_lines_before_a_start_or_an_init_are_not_of_a_request_that_ends_behind_it(before: Item) -> None:
    assert enrich(line("a"), before, ended(FIRST))[0].request_id is None


@pytest.mark.parametrize("body", [None, {}, {"requestId": 7}])
def test_an_end_that_names_no_request_is_passed_over(body: object) -> None:
    assert enrich(line("a"), item("platform.runtimeDone", body), ended(FIRST))[0].request_id == FIRST


def test_an_init_within_an_invocation_whose_start_was_missed_belongs_to_the_request_that_ends_behind_it() -> None:
    """The generation before never subscribed, as its init failed too soon: what is sent begins with this init."""
    records = enrich(
        item("platform.initStart", {"phase": "invoke"}), line("init"),
        item("platform.initReport", {"phase": "invoke", "status": "error"}), ended(FIRST), start(SECOND),
    )  # fmt: skip
    assert [record.request_id for record in records] == [FIRST] * 4 + [SECOND]


def test_what_one_batch_tells_of_a_dead_request_is_forgotten_in_the_next() -> None:
    enricher = WholeBatches(ORIGIN)
    enricher.enrich_all([line("a"), ended(FIRST)], "b")
    assert enricher.enrich_all([line("init")], "c")[0].request_id is None


def taking_over(*batches: Sequence[Item], **left: str) -> list[Record]:
    enricher = WholeBatches(ORIGIN, Handover(**left))
    return [record for number, batch in enumerate(batches) for record in enricher.enrich_all(batch, f"b{number}")]


def test_what_is_inherited_names_the_request_of_lines_that_are_sent_without_their_end() -> None:
    """A batch that was on its way when the generation before was killed is repeated as it was."""
    records = taking_over(
        [line("a"), line({"requestId": OTHER})], [ended(SECOND), start(request_id(3)), line("b")],
        instance_id="i", request_id=SECOND, first=FIRST,
    )  # fmt: skip
    assert [record.request_id for record in records] == [SECOND, SECOND, SECOND, request_id(3), request_id(3)]
    assert [record.cold_start for record in records] == [False, False, False, True, True]
    assert {record.origin.instance_id for record in records} == {"i"}


def test_the_first_request_of_the_generation_before_was_cold() -> None:
    assert [r.cold_start for r in taking_over([ended(FIRST)], request_id=FIRST, first=FIRST)] == [True]


def test_an_end_in_the_batch_is_believed_before_what_is_inherited() -> None:
    assert taking_over([line("a"), ended(SECOND)], request_id=FIRST)[0].request_id == SECOND


def test_what_is_left_is_the_last_request_that_was_started_here_or_before() -> None:
    enricher = WholeBatches(ORIGIN, Handover(instance_id="i", request_id=FIRST, first=FIRST))
    assert enricher.handover == Handover(instance_id="i", request_id=FIRST, first=FIRST)
    enricher.enrich_all([start(SECOND), start(OTHER)], "b")
    assert enricher.handover == Handover(instance_id="i", request_id=OTHER, first=SECOND)
    assert WholeBatches(ORIGIN).handover == Handover()


# --- what is lost ---------------------------------------------------------------------------------------------------

BEGAN = 1_800_000_000_000  # as the items of `builders`
DROPPED = item("platform.logsDropped", {"reason": "consumer slower than producer", "droppedRecords": 9})


def later(one: Item, ms: int) -> Item:
    return replace(one, time_ms=BEGAN + ms)


def invoked(request: str, ms: int, *, asked: int = 0) -> Invocation:
    return Invocation(request, BEGAN + asked, BEGAN + ms)


def told(items: Sequence[Item], *invocations: Invocation, gaps: Sequence[int] = ()) -> list[Record]:
    enricher = WholeBatches(ORIGIN)
    for invocation in invocations:
        enricher.hear(invocation)
    enricher.consult(items, gaps)
    return enricher.enrich_all(items, "b", gaps)


def owners(items: Sequence[Item], *invocations: Invocation, gaps: Sequence[int] = ()) -> list[str | None]:
    return [one.request_id for one in told(items, *invocations, gaps=gaps) if one.type == "function"]


def test_what_follows_a_loss_is_of_no_request_where_nothing_tells_of_which() -> None:
    """3,979 lines of a request went to the one before, whose start was the last that came."""
    end = later(ended(FIRST), 10)
    assert owners([start(FIRST), line("a"), DROPPED, line("b")]) == [FIRST, None]
    assert owners([start(FIRST), line("a"), end, DROPPED, later(line("b"), 20)]) == [FIRST, None]


def test_a_late_line_of_a_request_that_ended_before_the_loss_is_still_its_own() -> None:
    items = [start(FIRST), later(ended(FIRST), 10), DROPPED, later(line("late"), 10), later(line("next"), 11)]
    assert owners(items) == [FIRST, None]


def test_without_a_loss_what_follows_the_end_is_of_the_request_that_ended() -> None:
    assert owners([start(FIRST), later(ended(FIRST), 10), later(line("late"), 12)]) == [FIRST]


def test_the_request_whose_start_was_lost_is_known_from_its_invocation() -> None:
    items = [
        start(FIRST), later(line("a"), 5), DROPPED, later(line("?"), 30), later(line("b"), 51), later(line("b"), 90),
        later(ended(SECOND), 100), later(line("late"), 100), later(line("?"), 101), later(start(OTHER), 200), line("c"),
    ]  # fmt: skip
    records = told(items, invoked(FIRST, 1), invoked(SECOND, 50, asked=20))
    lines = [(one.request_id, one.cold_start) for one in records if one.type == "function"]
    assert lines == [
        (FIRST, True), (None, None), (SECOND, False), (SECOND, False), (SECOND, False), (None, None), (OTHER, False)
    ]  # fmt: skip


def test_the_first_request_is_cold_also_where_its_start_was_lost() -> None:
    records = told(
        [DROPPED, later(line("a"), 5), later(start(SECOND), 50)], invoked(FIRST, 1), invoked(SECOND, 51, asked=20)
    )
    assert [(one.request_id, one.cold_start) for one in records[1:]] == [(FIRST, True), (SECOND, False)]


def test_a_flood_within_a_request_keeps_its_request() -> None:
    """Also where the next one is running when it is read, and in the moment before its own INVOKE was."""
    items = [start(FIRST), later(line("a"), 1), DROPPED, later(line("b"), 2), later(line("c"), 40)]
    assert owners(items, invoked(FIRST, 5)) == [FIRST] * 3
    assert owners(items, invoked(FIRST, 5), invoked(SECOND, 60, asked=50)) == [FIRST] * 3


def test_shortly_before_an_invocation_is_read_it_may_run_already() -> None:
    """An extension that asks for the next event at once knows only when it has read of it."""
    items = [start(FIRST), DROPPED, *(later(line("a"), ms) for ms in (1_000, 9_000, 9_500, 10_000))]
    assert owners(items, invoked(FIRST, 1), invoked(SECOND, 10_000, asked=2)) == [FIRST, None, None, SECOND]
    assert owners(items, invoked(FIRST, 1), invoked(SECOND, 10_000, asked=9_400)) == [FIRST, FIRST, None, SECOND]


@pytest.mark.parametrize("kind", ["platform.start", "platform.runtimeDone", "platform.report"])
@pytest.mark.parametrize("body", [None, "{torn…", {}, {"requestId": 7}])
def test_what_does_not_tell_its_request_may_be_of_any(kind: str, body: object) -> None:
    assert owners([start(FIRST), item(kind, body), line("b")]) == [None]


@pytest.mark.parametrize(("gap", "expected"), [(1, [None, None]), (2, [FIRST, None]), (3, [FIRST, FIRST])])
def test_what_cannot_be_read_is_a_loss_at_its_place(gap: int, expected: list[str | None]) -> None:
    assert owners([start(FIRST), line("a"), line("b")], gaps=(gap,)) == expected
    assert owners([start(FIRST), line("a"), line("b")], invoked(FIRST, 0), gaps=(gap,)) == [FIRST, FIRST]


def test_a_start_that_is_lost_without_a_sign_shows_in_lines_beside_its_invocation() -> None:
    late, early = later(line("late"), 12), later(line("b"), 51)
    invocations = (invoked(FIRST, 1), invoked(SECOND, 50, asked=20))
    assert owners([start(FIRST), later(ended(FIRST), 10), late, early], *invocations) == [FIRST, SECOND]
    assert owners([start(FIRST), late, early], *invocations) == [FIRST, None]
    assert owners([early], invoked(SECOND, 50)) == [SECOND]


def test_a_start_that_is_lost_between_two_batches_is_known_too() -> None:
    enricher = WholeBatches(ORIGIN)
    made = []
    for items, invocation in (
        ([start(FIRST), line("a")], invoked(FIRST, 1)),
        ([later(line("b"), 60)], invoked(SECOND, 50, asked=20)),
        ([later(start(OTHER), 100), later(line("c"), 101)], invoked(OTHER, 102, asked=90)),
    ):
        enricher.hear(invocation)
        enricher.consult(items)
        made += enricher.enrich_all(items, "b")
        enricher.lose()
    assert [one.request_id for one in made if one.type == "function"] == [FIRST, SECOND, OTHER]


def test_a_line_may_name_the_request_whose_start_was_lost() -> None:
    items = [start(FIRST), DROPPED, line(PYTHON.format(SECOND)), line({"requestId": OTHER})]
    assert owners(items) == [SECOND, None]
    assert owners([start(FIRST), DROPPED, later(line({"requestId": SECOND}), 90)], invoked(SECOND, 100)) == [SECOND]


def test_after_a_loss_nothing_is_left_for_the_next_generation_that_is_not_certain() -> None:
    enricher = WholeBatches(ORIGIN)
    enricher.hear(invoked(FIRST, 1))
    enricher.enrich_all([start(FIRST), DROPPED], "b")
    assert enricher.handover.request_id == FIRST
    enricher.hear(invoked(SECOND, 50))
    assert enricher.handover.request_id is None


def test_in_the_next_generation_too_what_follows_a_loss_is_of_no_request() -> None:
    records = taking_over([line("a"), DROPPED, line("b"), ended(SECOND)], request_id=FIRST)
    assert [one.request_id for one in records] == [FIRST, None, None, SECOND]


def test_invocations_teach_nothing_while_nothing_is_lost() -> None:
    """What was known is written down whenever it has changed: not once for each invocation."""
    enricher = WholeBatches(ORIGIN)
    enricher.enrich_all([start(FIRST), line("a")], "b")
    known = enricher.knowledge
    for number in range(20):
        enricher.hear(invoked(request_id(number), 100 * number))
    enricher.consult([later(line("a"), 5), later(start(SECOND), 3000)])
    assert enricher.knowledge is known


def test_on_managed_instances_a_loss_changes_nothing() -> None:
    """Requests interleave there."""
    enricher = WholeBatches(replace(ORIGIN, init_type=MANAGED_INSTANCES))
    known = enricher.knowledge
    enricher.lose()
    assert enricher.knowledge is known
    records = enricher.enrich_all([start(FIRST), DROPPED, line({"requestId": FIRST}), line("a")], "b")
    assert [one.request_id for one in records] == [FIRST, None, FIRST, None]


def test_an_init_within_an_invocation_belongs_to_its_request() -> None:
    """After a reset, and after an init that failed, the next invocation pays for the init."""
    done = {"phase": "invoke", "status": "success"}
    records = enrich(
        start(FIRST), item("platform.initStart", {"phase": "invoke"}), item("platform.telemetrySubscription", {}),
        line("init"), item("platform.initRuntimeDone", done), item("platform.extension", {"name": "x"}),
        item("platform.initReport", done), item("platform.logsDropped", {}),
    )  # fmt: skip
    assert [record.request_id for record in records] == [FIRST] * 7 + [None]


def test_an_init_ahead_of_any_invocation_belongs_to_none() -> None:
    records = enrich(init_start(), line("a"), item("platform.extension", {"name": "x"}), start(FIRST))
    assert [record.request_id for record in records] == [None, None, None, FIRST]


def test_on_managed_instances_a_request_is_never_guessed() -> None:
    """Requests interleave there. Source: AWS Lambda Developer Guide, "Lambda Managed Instances runtimes"."""
    records = enrich(
        start(FIRST), line("a"), line({"requestId": OTHER}), start(SECOND), line({"requestId": FIRST}),
        init_type=MANAGED_INSTANCES,
    )  # fmt: skip
    assert [record.request_id for record in records] == [FIRST, None, None, SECOND, FIRST]
    assert {record.cold_start for record in records} == {None}


def test_managed_instances_are_recognised_by_the_first_event_too() -> None:
    records = enrich(init_start(initializationType=MANAGED_INSTANCES), start(FIRST), line("a"))
    assert records[-1].request_id is None


def test_an_extensions_line_is_not_the_requests() -> None:
    assert last(start(FIRST), item("extension", "flushed\n")).request_id is None
    assert last(start(FIRST), item("extension", {"requestId": FIRST})).request_id == FIRST
    assert last(start(FIRST), item("extension", {"requestId": OTHER})).request_id is None


# --- cold start -----------------------------------------------------------------------------------------------------


def test_the_init_phase_and_the_first_request_are_cold() -> None:
    records = enrich(
        init_start(), line("init"), start(FIRST), line("a"), item("platform.logsDropped", {}), start(SECOND), line("b"),
        item("platform.report", {"requestId": FIRST}), item("platform.logsDropped", {}),
    )  # fmt: skip
    assert [record.cold_start for record in records] == [True, True, True, True, True, False, False, True, False]


@pytest.mark.parametrize("init_type", ["provisioned-concurrency", "snap-start"])
def test_nothing_is_cold_that_was_initialised_before_anyone_waited(init_type: str) -> None:
    assert {record.cold_start for record in enrich(line("i"), start(FIRST), line("a"), init_type=init_type)} == {False}
    records = enrich(init_start(initializationType=init_type), start(FIRST))
    assert [record.cold_start for record in records] == [False, False]


def test_a_dead_generations_report_is_neither_cold_nor_warm() -> None:
    """After a reset the report of the request that died is the new generation's first news, before or after a start."""
    report = item("platform.report", {"requestId": OTHER, "status": "timeout"})
    assert [record.cold_start for record in enrich(report, start(FIRST), report)] == [None, True, None]


# --- levels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "level"),
    [
        ({"level": "INFO"}, "info"),
        ({"level": "Warning"}, "warn"),
        ({"level": " fatal "}, "critical"),
        ({"log_level": "ERROR"}, "error"),  # awslambdaric's own report of an exception
        ({"severity": "NOTICE"}, "info"),
        ({"status": "debug"}, "debug"),
        ({"level": "loud", "severity": "error"}, "error"),
        ({"level": None, "status": 200}, None),
        ({"level": 30}, "info"),
        ({"level": 60}, "critical"),
        ({"level": 35}, None),
        ({"level": True}, None),
        ({"level": 30.0}, None),
        ({"level": ["error"]}, None),
        ({}, None),
        ("[ERROR] KeyError: 'id'\nTraceback (most recent call last):", "error"),
        ("[WARNING]\t2026-03-02T10:15:30.100Z\t\tno request yet", "warn"),
        ("[WARN] careful", "warn"),
        ("[NOTE] no level", None),
        ("ERROR at the start of a line that is free text", None),
        ("[error] in lower case", None),
        ("", None),
        (None, None),
        (["INFO"], None),
        (7, None),
    ],
)
def test_a_level_is_what_the_record_names(body: object, level: str | None) -> None:
    assert last(line(body)).level == level


@pytest.mark.parametrize(
    ("kind", "body", "level"),
    [
        ("platform.report", {"status": "success"}, "info"),
        ("platform.report", {"status": "timeout"}, "error"),
        ("platform.runtimeDone", {"status": "failure"}, "error"),
        ("platform.start", {}, "info"),
        ("platform.extension", {"state": "LaunchError", "errorType": "Extension.LaunchError"}, "error"),
        ("platform.logsDropped", {"reason": "slow"}, "warn"),
        ("platform.odd", "text", "info"),
        ("platform.odd", None, "info"),
    ],
)
def test_a_platform_events_level_is_its_outcome(kind: str, body: object, level: str) -> None:
    assert last(item(kind, body)).level == level


# --- the rest -------------------------------------------------------------------------------------------------------


def test_the_instance_is_learnt_from_the_init_for_all_that_is_sent_with_it() -> None:
    """A new generation is first sent the report of the invocation that ended the one before it, then its own init."""
    enricher = WholeBatches(ORIGIN)
    (unknown,) = enricher.enrich_all([line("w")], "a")
    before, after = enricher.enrich_all([line("x"), init_start(instanceId="2026/03/02/[1]ab")], "b")
    assert unknown.origin.instance_id is None
    assert before.origin.instance_id == after.origin.instance_id == "2026/03/02/[1]ab"
    assert enricher.enrich_all([init_start(instanceId="other")], "c")[0].origin.instance_id == "other"


@pytest.mark.parametrize("odd", [None, "", 5, ["x"]])
def test_an_odd_instance_is_not_learnt(odd: object) -> None:
    assert last(init_start(instanceId=odd)).origin == ORIGIN


def test_the_environments_word_for_the_initialisation_wins() -> None:
    assert last(init_start(initializationType="x"), init_type="on-demand").origin.init_type == "on-demand"


@pytest.mark.parametrize(
    ("body", "kept"),
    [("a\n", "a"), ("a\n\n", "a\n"), ("\n", ""), ("", ""), ("a", "a"), ("a\r\n", "a\r"), (" a ", " a ")],
)
def test_one_trailing_newline_is_removed_and_nothing_else(body: str, kept: str) -> None:
    assert last(line(body)).body == kept


def test_json_text_stays_text_and_gets_fields() -> None:
    text = '{"level":"info","n":1}'
    record = last(line(text + "\n"))
    assert record.body == text
    assert record.fields == {"level": "info", "n": 1}


def test_an_object_is_its_own_fields() -> None:
    body = {"a": 1}
    record = last(line(body))
    assert record.body is body
    assert record.fields is body


@pytest.mark.parametrize("body", ["[1]", "{", '{"a":}', "{}x", "5", '"x"', "{" * 5000 + "}" * 5000, ["a"], None, 1])
def test_what_is_no_object_has_no_fields(body: object) -> None:
    assert last(line(body)).fields is None


def test_ids_repeat_in_a_redelivery_and_differ_within_and_between_batches() -> None:
    items = [line("a"), line("a")]
    first, again, other = (
        [record.id for record in WholeBatches(ORIGIN).enrich_all(items, batch)]
        for batch in (batch_id(b"body"), batch_id(b"body"), batch_id(b"bodY"))
    )
    assert first == again
    assert len({*first, *other}) == 4


@given(st.binary())
def test_a_batch_id_is_24_hexadecimal_digits(body: bytes) -> None:
    assert len(batch_id(body)) == 24
    int(batch_id(body), 16)


def test_batches_differ_by_their_bytes_alone() -> None:
    assert len({batch_id(b"a"), batch_id(b"b"), batch_id(b"a "), batch_id(b"a"), batch_id(b"")}) == 4


def test_ids_stay_distinct_in_a_batch_of_any_length() -> None:
    records = WholeBatches(ORIGIN).enrich_all([line("a")] * 70_000, "b")
    assert len({record.id for record in records}) == 70_000


def test_only_the_last_requests_are_remembered() -> None:
    """Managed environments live for days; what is known of them stays bounded."""
    records = enrich(*(start(request_id(number)) for number in range(1, 400)), line({"requestId": request_id(1)}))
    assert records[-1].request_id == request_id(399)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["function", "extension", "platform.start", "platform.initStart", "platform.report", ""]),
            JSON
            | st.dictionaries(
                st.sampled_from(["requestId", "level", "status", "instanceId", "initializationType"]), JSON
            )
            | st.sampled_from([FIRST, SECOND]).map(lambda id: {"requestId": id}),
        ),
        max_size=6,
    ),
    st.sampled_from([None, MANAGED_INSTANCES, "snap-start"]),
)
def test_nothing_that_is_json_stops_the_enricher(items: list[tuple[str, object]], init_type: str | None) -> None:
    made = enrich(*(item(kind, json.loads(json.dumps(body))) for kind, body in items), init_type=init_type)
    assert [record.type for record in made] == [kind for kind, _ in items]


EVENTS = st.lists(
    st.lists(
        st.sampled_from(
            [
                item("function", "plain"),
                item("function", {"requestId": request_id(1), "level": "info"}),
                item("platform.initStart", {"instanceId": "i-1", "initializationType": "on-demand", "phase": "init"}),
                item("platform.initStart", {"instanceId": "i-2", "phase": "invoke"}),
                item("platform.initReport", {"phase": "invoke"}),
                item("platform.start", {"requestId": request_id(1)}),
                item("platform.start", {"requestId": request_id(2)}),
                item("platform.runtimeDone", {"requestId": request_id(2), "status": "timeout"}),
                item("platform.report", {"requestId": request_id(3), "status": "timeout"}),
                item("platform.logsDropped", {}),
                item("platform.start", "torn"),
                item("function", "later", time_ms=BEGAN + 50),
            ]
        ),
        max_size=4,
    ),
    max_size=8,
)


@given(EVENTS, st.data())
def test_with_its_knowledge_another_enricher_makes_the_same_records(batches: list[list[Any]], data: Any) -> None:
    """So a body can be read back from the spool: from any place on, whether those before it are made or learned from.

    What teaches nothing may be skipped, for which the knowledge is the same object before and after.
    """
    left = Handover(
        request_id=data.draw(st.sampled_from([None, OTHER])), first=data.draw(st.sampled_from([None, OTHER]))
    )
    first = WholeBatches(ORIGIN, left)
    made, known, learned, gaps = [], [], [], []
    for number, batch in enumerate(batches):
        if data.draw(st.booleans()):
            first.hear(invoked(request_id(data.draw(st.integers(1, 3))), data.draw(st.integers(0, 60))))
        if data.draw(st.booleans()):
            first.lose()
        gaps.append(data.draw(st.sampled_from([(), (0,), (len(batch),)])))
        first.consult(batch, gaps[-1])
        known.append(first.knowledge)
        made.append(first.enrich_all(batch, f"{number:024x}", gaps[-1]))
        learned.append(first.knowledge)
    at = data.draw(st.integers(0, len(batches)))
    second = WholeBatches(ORIGIN)
    for number in range(at, len(batches)):
        if number == at or known[number] is not learned[number - 1]:  # a segment begins
            second.knowledge = known[number]
        if data.draw(st.booleans()):
            assert second.enrich_all(batches[number], f"{number:024x}", gaps[number]) == made[number]
        elif known[number] is not learned[number]:
            second.learn(batches[number], gaps[number])


# --- a fold ---------------------------------------------------------------------------------------------------------


def in_small_steps(items: list[Item], known: Knowledge, batch: str, at_once: int) -> tuple[list[Record], Knowledge]:
    records: list[Record] = []
    found: list[Knowledge] = []

    def play() -> Iterator[list[Record]]:
        found.append((yield from fold(ORIGIN, known, items, batch, at_once)))

    for some in play():
        assert len(some) <= at_once
        records += some
    return records, found[0]


@given(batches=st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=6), at_once=st.integers(1, 4))
def test_enriching_is_a_fold_that_leaves_what_was_known_as_it_was(batches: list[list[int]], at_once: int) -> None:
    """The same knowledge and items give the same, however often, at once or in steps, or without making records."""
    kinds = (start(FIRST), start(SECOND), line("a"), item("platform.runtimeDone", {"requestId": FIRST}),
             init_start(instanceId="i"), item("platform.logsDropped", {}))  # fmt: skip
    knowledge = WholeBatches(ORIGIN).knowledge
    for number, batch in enumerate(batches):
        items, before = [kinds[kind] for kind in batch], repr(knowledge)
        records, after = in_small_steps(items, knowledge, f"b{number}", len(items) or 1)
        in_steps, knowledge_then = in_small_steps(items, knowledge, f"b{number}", at_once)
        assert knowledge_then == after
        assert in_steps == records
        assert learn(ORIGIN, knowledge, items) == after
        assert repr(knowledge) == before
        assert [(record.batch, record.index) for record in records] == [(f"b{number}", n) for n in range(len(items))]
        knowledge = after


def test_a_batch_that_is_left_in_the_middle_has_taught_nothing() -> None:
    enricher = WholeBatches(ORIGIN)
    known = enricher.knowledge
    steps = enricher.enrich([start(FIRST), line("a"), line("b")], "b", 1)
    assert next(steps)[0].request_id == FIRST
    assert enricher.knowledge is known
    del steps
    assert [record.request_id for record in enricher.enrich_all([line("c")], "c")] == [None]
