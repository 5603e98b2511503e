"""`telemetry-forwarder replay` as a command: interrupted, resumed, filtered, misused, and given what is not its own."""

import asyncio
import gzip
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local_backends import Answer, Hang, SplunkHec
from telemetry_forwarder.cli import main
from telemetry_forwarder.failover.parcels import Parcel, object_key, pack_objects, to_line
from telemetry_forwarder.records.record import Record
from tests.builders import record

from .aws_service import moto
from .places import Ended, client, ended, keys, make_bucket, make_queue, place_at, put, replay, replaying

__all__ = ["moto"]


@dataclass
class World:
    """A bucket, a Splunk, and the way between them."""

    url: str
    bucket: str
    splunk: SplunkHec
    home: Path

    @property
    def environ(self) -> dict[str, str]:
        return {"SPLUNK_HEC_URL": self.splunk.url, "SPLUNK_HEC_TOKEN": "hec-token", **place_at(self.url)}

    @property
    def place(self) -> str:
        return f"s3://{self.bucket}/kept"

    @property
    def arrived(self) -> list[str]:
        return sorted(event.fields["record_id"] for event in self.splunk.events)

    async def keep(self, *some: list[Record], sink: str = "splunk") -> list[str]:
        """Put an object for each of `some`; return their keys."""
        found = {}
        for records in some:
            parcel = parcel_of(records)
            found[object_key("kept", sink, parcel)] = parcel.data
        await put(self.url, self.bucket, found)
        return list(found)

    async def replay(self, *options: str) -> Ended:
        return await replay(self.place, self.home, self.environ, *options)


def parcel_of(records: list[Record]) -> Parcel:
    (packed,) = pack_objects(records)
    assert packed.parcel is not None
    return packed.parcel


def many(first: int, count: int) -> list[Record]:
    return [record(f"line {number}", id=f"r{number:04}") for number in range(first, first + count)]


def ids(first: int, count: int) -> list[str]:
    return [one.id for one in many(first, count)]


@pytest.fixture
async def world(moto: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[-60:].strip("-")
    async with SplunkHec(token="hec-token") as splunk:
        yield World(moto, await make_bucket(moto, name), splunk, tmp_path)


async def test_a_second_ctrl_c_waits_for_nothing(world: World) -> None:
    """The answer never comes, and nothing was stored."""
    await world.keep(many(0, 30), many(30, 30), many(60, 30))
    async with replaying(world.place, world.home, world.environ, "--to", "splunk", "--json") as process:
        world.splunk.faults.script(Hang(None))
        await world.splunk.wait_until(lambda: len(world.splunk.requests) == 1, within=30)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        async with asyncio.timeout(5):
            assert b"Ctrl-C again" in await process.stderr.readline()
        process.send_signal(signal.SIGINT)
        first = await ended(process)
    assert first.code == 1
    world.splunk.faults.clear()
    second = await world.replay()
    assert (second.code, second.said) == (0, "")
    assert world.arrived == ids(0, 90), "each once"


async def test_one_ctrl_c_waits_for_the_answer_and_prints_the_ledger(world: World) -> None:
    await world.keep(many(0, 30), many(30, 30), many(60, 30))
    async with replaying(world.place, world.home, world.environ, "--to", "splunk", "--json") as process:
        world.splunk.faults.script(Hang(1.0))
        await world.splunk.wait_until(lambda: len(world.splunk.requests) == 1, within=30)
        process.send_signal(signal.SIGINT)
        first = await ended(process)
    assert first.code == 1
    assert first.ledger["delivered"] == 30
    assert first.report["ended_early"] is True
    second = await world.replay()
    assert (second.code, second.ledger["offered"]) == (0, 60)
    assert world.arrived == ids(0, 90)


async def test_kill_in_the_middle_of_an_object_costs_no_record_and_repeats_none(world: World) -> None:
    """Of one object two requests: the first was answered, the second hung when the process was killed."""
    large = [record(f"{number:04} " + "x" * 200_000, id=f"r{number:04}") for number in range(8)]
    await put(world.url, world.bucket, {object_key("kept", "splunk", parcel_of(large[:1])): packed(large)})
    async with replaying(world.place, world.home, world.environ, "--to", "splunk") as process:
        world.splunk.faults.script(Hang(0.3), Hang(None))
        await world.splunk.wait_until(lambda: len(world.splunk.requests) == 2, within=30)
        process.kill()
        await process.wait()
    before = len(world.arrived)
    assert 0 < before < 8
    world.splunk.faults.clear()
    second = await world.replay()
    assert (second.code, second.report["records"]["sent_before"]) == (0, before)
    assert world.arrived == ids(0, 8)


def packed(records: list[Record]) -> bytes:
    return gzip.compress(b"".join(map(to_line, records)))


async def test_bad_objects_are_named_counted_and_left_where_they_are(world: World) -> None:
    good, torn, alien = many(0, 10), many(10, 10), many(20, 10)
    await world.keep(good)
    torn_key = object_key("kept", "splunk", parcel_of(torn))
    alien_key = object_key("kept", "splunk", parcel_of(alien))
    whole = parcel_of(torn).data
    mixed = gzip.compress(b'{"message":"not ours"}\n' + b"".join(map(to_line, alien)) + b"half a li")
    others = {"kept/readme.txt": b"hello", "kept/f/splunk/2026/11/23/x.json": b"{}"}
    await put(world.url, world.bucket, {torn_key: whole[:-20], alien_key: mixed, **others})
    done = await world.replay("--delete")
    assert done.code == 1
    assert f"s3://{world.bucket}/{torn_key} is left out: gzip that is torn off." in done.said
    assert (
        f"s3://{world.bucket}/{alien_key}: 2 of 12 lines are left out; the first is line 1: not a record" in done.said
    )
    assert done.report["parcels"] == {"found": 3, "done": 1, "removed": 1, "unreadable": 1, "others": 2}
    assert world.arrived == ids(0, 10) + ids(20, 10)
    assert set(await keys(world.url, world.bucket)) == {torn_key, alien_key, *others}
    again = await world.replay("--delete")
    assert (again.code, again.ledger["offered"]) == (1, 0)


async def test_objects_are_deleted_on_request_even_if_they_were_sent_before(world: World) -> None:
    found = await world.keep(many(0, 10), many(10, 10))
    assert (await world.replay()).code == 0
    assert sorted(await keys(world.url, world.bucket)) == sorted(found)
    done = await world.replay("--delete")
    assert (done.code, done.ledger["offered"], done.report["parcels"]["removed"]) == (0, 0, 2)
    assert await keys(world.url, world.bucket) == []


async def test_dry_run_counts_and_sends_nothing(world: World) -> None:
    await world.keep(many(0, 10), many(10, 5))
    await world.keep(many(50, 5), sink="datadog")
    done = await world.replay("--dry-run")
    assert (done.code, done.report["records"]["read"], done.report["parcels"]["found"]) == (0, 15, 2)
    assert done.report["parcels"]["others"] == 1
    assert world.splunk.requests == []
    assert (await world.replay()).ledger["delivered"] == 15


async def test_records_of_another_sink_are_sent_where_that_is_wanted(world: World) -> None:
    await world.keep(many(0, 10))
    await world.keep(many(10, 10), sink="datadog")
    assert (await world.replay("--from", "datadog")).code == 0
    assert world.arrived == ids(10, 10)


async def test_one_object_can_be_named(world: World) -> None:
    first, _ = await world.keep(many(0, 10), many(10, 10))
    done = await replay(f"s3://{world.bucket}/{first}", world.home, world.environ)
    assert (done.code, world.arrived) == (0, ids(0, 10))


async def test_backend_that_stays_down_ends_it_with_a_reason(world: World) -> None:
    await world.keep(many(0, 10))
    world.splunk.faults.always(Answer(503))
    done = await world.replay("--patience", "2")
    assert done.code == 1
    assert "the destination has taken nothing for 2 s. What is left stays where it is." in done.said
    assert done.ledger["held"] == 10


async def test_wrong_token_ends_it_at_once(world: World) -> None:
    await world.keep(many(0, 10))
    wrong = {**world.environ, "SPLUNK_HEC_TOKEN": "wrong"}
    done = await replay(world.place, world.home, wrong)
    assert done.code == 1
    assert "the destination refuses" in done.said
    assert "wrong" not in done.said
    assert (await world.replay()).code == 0
    assert world.arrived == ids(0, 10)


async def test_credential_may_be_a_reference(world: World) -> None:
    await world.keep(many(0, 10))
    async with client("secretsmanager", world.url) as secrets:
        arn = (await secrets.create_secret(Name="hec", SecretString="hec-token"))["ARN"]
    given = {name: value for name, value in world.environ.items() if name != "SPLUNK_HEC_TOKEN"}
    referred = {"SPLUNK_HEC_TOKEN_SECRET_ARN": arn, "AWS_ENDPOINT_URL_SECRETS_MANAGER": world.url}
    done = await replay(world.place, world.home, given | referred)
    assert (done.code, done.said, world.arrived) == (0, "", ids(0, 10))


async def test_people_see_the_ledger_as_a_table(world: World) -> None:
    await world.keep(many(0, 10))
    async with replaying(world.place, world.home, world.environ, "--to", "splunk") as process:
        done = await ended(process)
    assert done.code == 0
    assert re.search(r"sink.*offered.*delivered.*dropped.*held", done.report)
    assert re.search(r"splunk\W+10\W+10\W+0\W+0", done.report)
    assert "Nothing is left. What was sent is remembered in " in done.report


@pytest.mark.parametrize(
    ("place", "to", "changes", "said"),
    [
        ("s4://kept", "splunk", {}, "'s4://kept' is no place that can be read; allowed: `s3://BUCKET[/PREFIX]`"),
        ("s3://kept", "slunk", {}, "--to slunk: no such sink can be made of the environment"),
        ("s3://kept", "splunk", {"SPLUNK_HEC_TOKEN": ""}, "SPLUNK_HEC_TOKEN is not set"),
        ("s3://kept", "splunk", {"AWS_ENDPOINT_URL_S3": "nowhere"}, "not what the AWS SDK can use"),
    ],
)
async def test_wrong_use_is_one_sentence_and_exit_code_two(
    world: World, place: str, to: str, changes: dict[str, str], said: str
) -> None:
    done = await replay(place, world.home, world.environ | changes, to=to)
    assert done.code == 2
    assert said in done.said
    assert "Traceback" not in done.said
    assert len(done.said.strip().splitlines()) == 1


async def test_places_that_cannot_be_read_are_named(world: World) -> None:
    missing = await replay("s3://no-such-bucket-anywhere", world.home, world.environ)
    assert missing.code == 1
    assert "s3://no-such-bucket-anywhere cannot be read: NoSuchBucket (HTTP 404)" in missing.said
    queue = await replay(f"{world.url}/123456789012/nowhere", world.home, world.environ)
    assert queue.code == 1
    assert "cannot be read" in queue.said
    for done in (missing, queue):
        assert "Traceback" not in done.said


async def test_queue_is_counted_without_being_touched(world: World) -> None:
    queue = await make_queue(world.url, "untouched")
    done = await replay(queue, world.home, world.environ, "--dry-run")
    assert (done.code, done.report["parcels"]["found"]) == (0, 0)


def test_help_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replay", "--help"])
    assert ended.value.code == 0
    assert "--dry-run" in capsys.readouterr().out


@pytest.mark.parametrize("patience", ["-1", "nan", "soon"])
def test_patience_that_is_no_time_is_refused(patience: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replay", "s3://kept", "--to", "splunk", "--patience", patience])
    assert ended.value.code == 2
    assert f"'{patience}' is not a number of seconds from 0" in capsys.readouterr().err
