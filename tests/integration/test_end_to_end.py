"""The whole road: a function on a local Lambda, the real executable, its records in three strict backends."""

import asyncio
from collections import Counter

import pytest

from local_backends import Answer, Fault, Hang, Reset, SplunkHec, Throttle, TooLarge
from tests.integration.world import SINKS, World, assert_balanced, world


async def numbered_lines(w: World, invocations: int, each: int, pause_s: float = 0.0) -> list[str]:
    """Invoke so that consecutive numbered lines are written; return the request ids."""
    ids = []
    for index in range(invocations):
        result = await w.env.invoke({"first": index * each, "lines": each})
        assert result.json() == {"ok": True}
        assert result.status == "success"
        ids.append(result.request_id)
        await asyncio.sleep(pause_s)  # frozen meanwhile
    return ids


async def test_thousand_lines_and_every_report_arrive_exactly_once_everywhere() -> None:
    async with world() as w:
        ids = await numbered_lines(w, 10, 100, pause_s=0.1)
        end = await w.env.shutdown()
        assert end.extensions["telemetry-forwarder"].exit_code == 0
        for sink in SINKS:
            assert w.numbers(sink) == Counter(range(1000)), sink
            assert w.reports(sink) == Counter(ids), sink
            assert max(Counter(one["record_id"] for one in w.arrived(sink)).values()) == 1
        (ledger,) = w.ledgers
        assert_balanced(ledger)
        assert ledger["level"] == "INFO"
        assert {book["delivered"] for book in ledger["sinks"].values()} == {ledger["door"]["received"]}
        w.env.transcript.assert_next_once_per_invocation()


async def test_each_line_carries_the_request_that_wrote_it_and_the_same_id_in_every_sink() -> None:
    async with world() as w:
        ids = await numbered_lines(w, 3, 5)
        await w.env.shutdown()
        found = []
        for sink in SINKS:
            lines = [one for one in w.arrived(sink) if one["text"].startswith("line")]
            assert [one["request_id"] for one in lines] == [i for i in ids for _ in range(5)]
            found.append([one["record_id"] for one in lines])
        assert found[0] == found[1] == found[2]


async def test_json_text_and_platform_records_arrive_in_their_forms() -> None:
    async with world(environment={"TELEMETRY_FORWARDER_TAGS": "team:shop", "DD_ENV": "test"}) as w:
        result = await w.env.invoke({"lines": 1, "json": 1})
        await w.env.shutdown()
        splunk = {one["type"]: one for one in w.arrived("splunk")}
        assert any(one["raw"] == "line 000000" for one in w.arrived("splunk"))
        assert any(
            one["raw"] == {"level": "ERROR", "message": "json 000000", "number": 0} for one in w.arrived("splunk")
        )
        assert splunk["platform.report"]["raw"]["record"]["requestId"] == result.request_id
        assert splunk["platform.report"]["team"] == "shop"
        assert splunk["platform.report"]["env"] == "test"
        assert splunk["platform.start"]["cold_start"] == "true"
        texts = [one["text"] for one in w.arrived("datadog")]
        assert f"START RequestId: {result.request_id} Version: $LATEST" in texts
        assert f"END RequestId: {result.request_id}" in texts
        assert any(text.startswith(f"REPORT RequestId: {result.request_id}\tDuration: ") for text in texts)
        (error,) = [one["raw"] for one in w.arrived("datadog") if one["raw"].status == "error"]
        assert error.message.startswith('{"level": "ERROR"')
        messages = [one["raw"] for one in w.arrived("cloudwatch")]
        assert any(message.get("number") == 0 and message["level"] == "ERROR" for message in messages)
        assert {event.stream for event in w.cloudwatch.events("/telemetry-forwarder/test")} == {w.env.instance_id}


async def test_what_people_log_arrives_as_they_meant_it_in_every_backend() -> None:
    """JSON behind a runtime's prefix is JSON, with its own level; where no level is known, Datadog is not told one."""
    async with world() as w:
        result = await w.env.invoke(
            {
                "text": "\n".join(
                    (
                        "2026-03-02T10:15:30.100Z\tundefined\tINFO\t"
                        '{"level":"error","orderId":7,"amount":1234567890.123456789012,"rate":NaN}',
                        '{"message":"boom","level":400,"level_name":"ERROR"}',
                        "2026-03-02T10:15:30.100Z\tundefined\tfail\tboom",
                        "a line without any level",
                    )
                )
            }
        )
        await w.env.shutdown()
        inner = {"level": "error", "orderId": 7, "amount": 1234567890.123456789012, "rate": None}
        events = [event for event in w.splunk.events if event.fields["type"] == "function"]
        assert [event.fields.get("level") for event in events] == ["error", "error", "error", None]
        assert events[0].event == inner
        assert {event.fields["request_id"] for event in events} == {result.request_id}
        assert {type(value) for event in events for value in event.fields.values()} == {str}
        logs = {log.message: log for log in w.datadog.logs}
        assert "status" not in logs["a line without any level"].sent
        assert [log for log in logs if "orderId" in log] == [
            '{"level":"error","orderId":7,"amount":1234567890.123456789012,"rate":null}'
        ]
        (stored,) = [
            event.message for event in w.cloudwatch.events("/telemetry-forwarder/test") if "orderId" in event.message
        ]
        assert '"amount":1234567890.123456789012,"rate":null' in stored


async def test_a_token_with_indexer_acknowledgement_takes_what_is_sent() -> None:
    """It refuses what comes without a channel; a 200 counts, and its acknowledgement is not asked for."""
    async with (
        SplunkHec(token="ack-token", acks=True) as hec,
        world(environment={"SPLUNK_HEC_URL": hec.url, "SPLUNK_HEC_TOKEN": "ack-token"}) as w,
    ):
        await numbered_lines(w, 2, 10)
        await w.env.shutdown()
        assert Counter(event.event for event in hec.events if "line" in str(event.event)) == Counter(
            f"line {number:06d}" for number in range(20)
        )
        assert not any(book["dropped"] for book in w.ledgers[0]["sinks"].values())


# What goes wrong, for a while, and whether a record may be stored twice by it.
WRONGS: dict[str, tuple[tuple[Fault, ...], bool]] = {
    "503 for a while": ((Answer(503, times=6),), False),
    "429 with Retry-After": ((Throttle(retry_after=1, times=2),), False),
    "413": ((TooLarge(times=3),), False),
    "hangs for three seconds": ((Hang(3.0),), False),
    "resets the connection": ((Reset(times=3),), False),
    "resets after storing": ((Reset(stored=True),), True),
}


@pytest.mark.parametrize("wrong", WRONGS)
@pytest.mark.parametrize("sink", SINKS)
async def test_unwell_backend_loses_nothing_and_costs_the_others_nothing(sink: str, wrong: str) -> None:
    """Records are held over invocations and freezes until the backend is well, at SHUTDOWN at the latest."""
    faults, may_repeat = WRONGS[wrong]
    async with world(timeout_s=10.0) as w:
        w.backend(sink).faults.script(*faults)
        ids = await numbered_lines(w, 4, 25, pause_s=0.5)
        for other in SINKS:
            if other != sink:  # all but the last report, which nobody can have yet
                assert w.numbers(other) == Counter(range(100)), f"{other} suffered from {sink}"
        end = await w.env.shutdown()
        assert not end.extensions["telemetry-forwarder"].killed
        assert end.extensions["telemetry-forwarder"].exit_code == 0
        assert end.seconds < 2.0
        for each in SINKS:
            numbers = w.numbers(each)
            assert set(numbers) == set(range(100)), each
            assert set(w.reports(each)) == set(ids), each
            if not (may_repeat and each == sink):
                assert max(numbers.values()) == 1, each
        assert_balanced(w.ledgers[0])
        assert not any(book["dropped"] for book in w.ledgers[0]["sinks"].values())


@pytest.mark.parametrize("sink", SINKS)
async def test_backend_that_hangs_for_ever_is_bounded_in_invocations_and_at_shutdown(sink: str) -> None:
    """What cannot be delivered is counted, said aloud, and never overruns a deadline."""
    async with world(timeout_s=6.0) as w:
        w.backend(sink).faults.always(Hang(None))
        held = []
        for index in range(3):
            result = await w.env.invoke({"first": index * 10, "lines": 10})
            assert result.status == "success"
            held.append(result.extension_overhead_ms or 0.0)
        assert max(held) < 2500
        assert held[1] < 500, "what hangs is waited for once, not at every invocation"
        end = await w.env.shutdown()
        assert not end.extensions["telemetry-forwarder"].killed
        assert end.extensions["telemetry-forwarder"].exit_code == 0
        (ledger,) = w.ledgers
        assert_balanced(ledger)
        assert ledger["level"] == "WARN"
        assert ledger["sinks"][sink]["dropped"] == {"deadline": ledger["sinks"][sink]["offered"]}
        for other in set(SINKS) - {sink}:
            assert w.numbers(other) == Counter(range(30))


async def test_short_function_is_never_timed_out_by_a_hanging_backend() -> None:
    async with world(timeout_s=1.0) as w:
        for sink in SINKS:
            w.backend(sink).faults.always(Hang(None))
        for _ in range(3):
            result = await w.env.invoke({"lines": 1})
            assert result.status == "success"
            assert result.duration_ms < 1000


async def test_records_are_not_waited_for_where_a_backend_is_known_to_be_down() -> None:
    """The second invocation does not pay again for what the first one found out."""
    async with world(timeout_s=10.0) as w:
        w.splunk.faults.always(Answer(503))
        held = [(await w.env.invoke({"lines": 1})).extension_overhead_ms or 0.0 for _ in range(4)]
        assert held[0] < 700
        assert min(held[1:]) < 100
