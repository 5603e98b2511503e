"""The composition root: what one destination does wrong costs the others nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from telemetry_forwarder.interfaces import Delivered, Destination, HttpDelivery, HttpRequest
from telemetry_forwarder.records.handover import Handover, HandoverFile, before
from telemetry_forwarder.records.record import Origin, complete
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from telemetry_forwarder.transports.stack import check_health
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.wiring import Opened, open_all
from tests.builders import Hang, Lines, ListSink, ScriptedTransport, run

FINE = ScriptedTransport(then=Delivered())


@asynccontextmanager
async def opens() -> AsyncIterator[ScriptedTransport]:
    yield FINE


@asynccontextmanager
async def raises() -> AsyncIterator[ScriptedTransport]:
    raise RuntimeError("the token is secret")
    yield FINE


@asynccontextmanager
async def hangs() -> AsyncIterator[ScriptedTransport]:
    await asyncio.Event().wait()
    yield FINE


def destination(name: str, delivery: Any) -> Destination[Any, Any]:
    return Destination(sink=ListSink(name=name), delivery=delivery)


@pytest.mark.parametrize("delivery", [raises, hangs])
def test_a_transport_that_cannot_be_opened_leaves_its_sink_out(delivery: Any) -> None:
    """A third party's way to open one may raise anything, or never come to an end."""
    lines = Lines()

    async def main() -> None:
        async with Opened() as opened:
            both = [destination("theirs", delivery), destination("fine", opens)]
            pairs = await open_all(both, Settings.from_values(read_all({})), opened, lines.log)
            assert [(one.sink.name, transport) for one, transport in pairs] == [("fine", FINE)]

    run(main())
    assert lines.said("Sink theirs does not run", "ERROR") == 1
    assert "token is secret" not in str(lines.written)


@in_virtual_time
async def test_in_strict_mode_it_fails_the_start() -> None:
    async with Opened() as opened:
        settings = Settings.from_values(read_all({"TELEMETRY_FORWARDER_STRICT": "true"}))
        with pytest.raises(RuntimeError):
            await open_all([destination("theirs", raises)], settings, opened, Lines().log)


def test_a_bug_in_the_health_check_costs_nothing() -> None:
    lines = Lines()
    health = HttpRequest(url="http://h/", body=b"", headers={}, method="GET")
    asked = destination("theirs", HttpDelivery(url="http://h/", health=health))
    run(check_health(asked, ScriptedTransport(RuntimeError("secret")), lines.log))
    assert lines.said("a bug in the health check", "WARN") == 1
    assert "token is secret" not in str(lines.written)


def test_a_health_check_that_a_freeze_outlasts_is_no_reason_to_warn() -> None:
    """Its timer fires at the thaw, whatever the destination answered."""
    lines = Lines()
    health = HttpRequest(url="http://h/", body=b"", headers={}, method="GET")
    asked = destination("theirs", HttpDelivery(url="http://h/", health=health))
    run(check_health(asked, ScriptedTransport(Hang()), lines.log))
    assert [line["level"] for line in lines.written] == ["DEBUG"]


@pytest.mark.parametrize("registered", [b"", b"null", b"not JSON {", b'{"accountId": null}'])
def test_an_answer_to_register_that_tells_nothing_leaves_what_is_known(registered: bytes) -> None:
    origin = complete(Origin(function_name="orders", region="eu-west-1"), registered)
    assert (origin.function_name, origin.function_arn) == ("orders", None)


@pytest.mark.parametrize(
    ("subscription", "is_next_process"),
    [
        ((200, "2025-01-29", b'"AlreadySubscribed"'), True),
        ((200, "2025-01-29", b'"OK"'), False),
        (None, False),
    ],
)
def test_only_who_subscribes_again_inherits(
    subscription: tuple[int, str, bytes] | None, is_next_process: bool, tmp_path: Path
) -> None:
    """What a first generation finds is another environment's; the second must not find it either."""
    left = Handover(instance_id="i", request_id="r", first="f")
    HandoverFile("127.0.0.1:9001", str(tmp_path)).write(left)
    handover_file = HandoverFile("127.0.0.1:9001", str(tmp_path))
    assert before(subscription, handover_file) == (left if is_next_process else Handover())
    assert handover_file.read() == (left if is_next_process else Handover())


@in_virtual_time
async def test_what_was_opened_is_left_in_reverse_order_whatever_happens() -> None:
    """Each learns of the error that is under way; one that fails keeps none of the others open, and is not lost."""
    told: list[str] = []

    @asynccontextmanager
    async def part(name: str, failure: Exception | None = None) -> AsyncIterator[str]:
        try:
            yield name
        except Exception as error:
            told.append(f"{name}: {error}")
            raise
        finally:
            if failure:
                raise failure

    with pytest.raises(ValueError, match="second") as raised:  # noqa: PT012
        async with Opened() as opened:
            assert await opened.enter(part("one")) == "one"
            await opened.enter(part("two", ValueError("second")))
            await opened.enter(part("three"))
            raise KeyError("first")
    assert told == ["three: 'first'", "two: 'first'", "one: second"]
    assert isinstance(raised.value.__context__, KeyError)
