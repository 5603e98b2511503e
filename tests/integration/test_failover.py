"""What no sink takes at the end: into S3 or SQS within the window, once; or counted and said, and never overrun."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from local_backends import Answer, Hang, Reset
from telemetry_forwarder.records.record import Record

from .aws_service import REGION, moto
from .places import backends_of, kept, keys, make_bucket, make_queue, place_at, replay, sink_of
from .sockets import Answer as Play
from .sockets import hang, says, serving
from .world import NUMBERED, SINKS, World, assert_balanced, world

__all__ = ["moto"]

DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


def failing_over_to(place: str, url: str) -> dict[str, str | None]:
    return {"TELEMETRY_FORWARDER_FAILOVER": place, **place_at(url)}


def numbers_in(found: dict[str, list[Record]], sink: str) -> Counter[int]:
    texts = [str(one.body) for key, some in found.items() if sink_of(key) == sink for one in some]
    return Counter(int(number) for text in texts for number in NUMBERED.findall(text))


def assert_ended_well(w: World[Any], end: Any) -> dict[str, Any]:
    """The process was not killed, left with 0 within the window, and its books balance. Return its accounts."""
    extension = end.extensions["telemetry-forwarder"]
    assert not extension.killed
    assert extension.exit_code == 0
    assert end.seconds < 2.0
    (ledger,) = w.ledgers
    assert_balanced(ledger)
    sinks: dict[str, Any] = ledger["sinks"]
    return sinks


async def invoke(w: World[Any], times: int) -> None:
    for index in range(times):
        assert (await w.env.invoke({"first": index * 10, "lines": 10})).status == "success"


@pytest.mark.parametrize(
    "fault", [Answer(503), Hang(None), Reset(), Answer(403)], ids=["503", "hangs", "resets", "403"]
)
async def test_records_of_a_dead_backend_are_in_s3_and_reach_it_once_when_it_is_back(
    moto: str, fault: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The whole road, there and back: each record once in the end, under the id that it has in the other backends."""
    bucket = await make_bucket(moto, f"kept-{request.node.callspec.id}")
    async with world(timeout_s=6.0, environment=failing_over_to(f"s3://{bucket}/logs/prod", moto)) as w:
        w.splunk.faults.always(fault)
        await invoke(w, 3)
        sinks = assert_ended_well(w, await w.env.shutdown())
        found = await kept(moto, bucket)
        assert sinks["splunk"]["spilled"] == sinks["splunk"]["offered"] == sum(map(len, found.values()))
        assert sinks["splunk"]["dropped"] == {}
        assert {sink_of(key) for key in found} == {"splunk"}
        assert all(key.startswith("logs/prod/local-function/splunk/20") for key in found)
        assert numbers_in(found, "splunk") == Counter(range(30))
        for other in set(SINKS) - {"splunk"}:
            assert w.numbers(other) == Counter(range(30))
            assert sinks[other]["spilled"] == 0
        w.splunk.faults.clear()
        environ = backends_of(w) | place_at(moto)
        first = await replay(f"s3://{bucket}/logs", tmp_path, environ)
        assert (first.code, first.said) == (0, "")
        assert first.ledger["delivered"] == first.ledger["offered"] == sinks["splunk"]["spilled"]
        assert w.numbers("splunk") == Counter(range(30))
        ids = [sorted(one["record_id"] for one in w.arrived(sink)) for sink in ("splunk", "datadog")]
        assert ids[0] == ids[1]
        second = await replay(f"s3://{bucket}/logs", tmp_path, environ)
        assert (second.code, second.ledger["offered"]) == (0, 0), "a second replay sends nothing"
        assert w.numbers("splunk") == Counter(range(30))


async def test_all_sinks_fail_over_side_by_side_and_each_gets_its_own_back(moto: str, tmp_path: Path) -> None:
    bucket = await make_bucket(moto, "all-of-them")
    async with world(timeout_s=6.0, environment=failing_over_to(f"s3://{bucket}", moto)) as w:
        for sink in SINKS:
            w.backend(sink).faults.always(Hang(None))
        await invoke(w, 2)
        sinks = assert_ended_well(w, await w.env.shutdown())
        found = await kept(moto, bucket)
        assert {sink_of(key) for key in found} == set(SINKS)
        for sink in SINKS:
            assert numbers_in(found, sink) == Counter(range(20))
            assert sinks[sink]["spilled"] == sinks[sink]["offered"]
            w.backend(sink).faults.clear()
            w.backend(sink).faults.release()
        arrived_late = {sink: w.numbers(sink) for sink in SINKS}
        assert not any(arrived_late.values())
        for sink in SINKS:
            assert (await replay(f"s3://{bucket}", tmp_path, backends_of(w) | place_at(moto), to=sink)).code == 0
            assert w.numbers(sink) == Counter(range(20)), sink
        ids = [sorted(one["record_id"] for one in w.arrived(sink)) for sink in SINKS]
        assert ids[0] == ids[1] == ids[2]


async def test_lines_of_a_function_that_timed_out_are_kept(moto: str) -> None:
    """The window after a timeout is as long, and the environment may never come back."""
    bucket = await make_bucket(moto, "after-a-timeout")
    async with world(timeout_s=1.5, environment=failing_over_to(f"s3://{bucket}", moto)) as w:
        w.splunk.faults.always(Answer(503))
        await invoke(w, 1)
        result = await w.env.invoke({"first": 10, "lines": 10, "sleep": 60})
        assert result.status == "timeout"
        await w.env.shutdown()
        lines = numbers_in(await kept(moto, bucket), "splunk")
        assert lines == Counter(range(20))


async def test_trouble_that_begins_at_shutdown_still_finds_the_way(moto: str) -> None:
    """Nothing is loaded then. With a processor to itself the window suffices; on a machine that is busy with other
    tests it may not, but then that is what the books say. One of three environments has to have the time.
    """
    for number in range(3):
        bucket = await make_bucket(moto, f"at-the-end-{number}")
        async with world(timeout_s=6.0, environment=failing_over_to(f"s3://{bucket}", moto)) as w:
            await invoke(w, 1)
            w.splunk.faults.always(Hang(None))
            book = assert_ended_well(w, await w.env.shutdown())["splunk"]
            late = [one for some in (await kept(moto, bucket)).values() for one in some]
            assert book["spilled"] == len(late)
            assert book["delivered"] + len(late) + sum(book["dropped"].values()) == book["offered"]
            if late:
                assert not book["dropped"]
                assert late[-1].type == "platform.report"
                return
    pytest.fail("the failover was never loaded in time")


async def test_healthy_backends_leave_the_place_alone(moto: str) -> None:
    bucket = await make_bucket(moto, "untouched")
    async with world(environment=failing_over_to(f"s3://{bucket}", moto)) as w:
        await invoke(w, 2)
        sinks = assert_ended_well(w, await w.env.shutdown())
        assert await keys(moto, bucket) == []
        assert {book["spilled"] for book in sinks.values()} == {0}


@pytest.mark.parametrize(
    ("play", "said"),
    [(says(403, DENIED), "AccessDenied (HTTP 403); allow s3:PutObject"), (hang, "no answer came in time")],
    ids=["denied", "hangs"],
)
async def test_place_that_does_not_take_them_costs_the_window_nothing_and_is_said_once(play: Play, said: str) -> None:
    async with serving(play) as server, world(
        timeout_s=6.0, environment=failing_over_to("s3://kept/logs", server.url())
    ) as w:  # fmt: skip
        w.splunk.faults.always(Answer(503))
        w.datadog.faults.always(Answer(503))
        await invoke(w, 2)
        sinks = assert_ended_well(w, await w.env.shutdown())
        for sink in ("splunk", "datadog"):
            assert sinks[sink]["dropped"] == {"deadline": sinks[sink]["offered"]}
            assert sinks[sink]["spilled"] == 0
        assert w.numbers("cloudwatch") == Counter(range(20))
        errors = [line["message"] for line in w.said if line["level"] == "ERROR"]
        (refusal,) = [error for error in errors if "TELEMETRY_FORWARDER_FAILOVER" in error]
        assert "s3://kept/logs" in refusal
        assert said in refusal


@pytest.mark.parametrize("name", ["kept", "kept.fifo"])
async def test_queue_keeps_records_and_gives_them_back_once(moto: str, name: str, tmp_path: Path) -> None:
    queue = await make_queue(moto, name)
    async with world(timeout_s=6.0, region=REGION, environment=failing_over_to(queue, moto)) as w:
        w.splunk.faults.always(Answer(503))
        w.datadog.faults.always(Answer(503))
        await invoke(w, 2)
        sinks = assert_ended_well(w, await w.env.shutdown())
        assert sinks["splunk"]["spilled"] == sinks["splunk"]["offered"]
        w.splunk.faults.clear()
        w.datadog.faults.clear()
        for sink in ("splunk", "datadog"):
            done = await replay(queue, tmp_path, backends_of(w) | place_at(moto), to=sink)
            assert (done.code, done.report["parcels"]["removed"]) == (0, 1), done
            assert w.numbers(sink) == Counter(range(20))
        again = await replay(queue, tmp_path, backends_of(w) | place_at(moto))
        assert (again.code, again.report["parcels"]["found"]) == (0, 0)
