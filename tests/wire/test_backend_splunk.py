"""The local HEC refuses what Splunk refuses, in Splunk's words: raw requests over real sockets."""

import base64
import gzip
import io
import uuid
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest

from local_backends import BadEvent, NearCapacity, Rules, SplunkHec, Throttle, TooLarge

TOKEN = "11111111-2222-3333-4444-555555555555"  # a made-up one
AUTHORIZED = {"Authorization": f"Splunk {TOKEN}"}
EVENT = "/services/collector/event"
CHANNEL = str(uuid.UUID(int=7))
GOOD = b'{"event":"first"}'


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def hec() -> AsyncIterator[SplunkHec]:
    async with SplunkHec(token=TOKEN, indexes={"apps"}) as hec:
        yield hec


async def post(
    client: aiohttp.ClientSession,
    hec: SplunkHec,
    body: bytes = GOOD,
    *,
    path: str = EVENT,
    headers: dict[str, str] | None = None,
    extra: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """Return the status and the body: parsed where it is JSON, else its text."""
    async with client.post(
        hec.url + path, data=io.BytesIO(body), headers={**(headers or AUTHORIZED), **(extra or {})}
    ) as answer:
        return answer.status, await (answer.json() if answer.content_type == "application/json" else answer.text())


# --- paths, methods, credentials ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/services/collector", "/services/collector/1.0", EVENT, EVENT + "/1.0"])
async def test_every_event_path_stores(client: aiohttp.ClientSession, hec: SplunkHec, path: str) -> None:
    assert await post(client, hec, path=path) == (200, {"text": "Success", "code": 0})
    assert [event.event for event in hec.events] == ["first"]


async def test_unknown_path_and_wrong_method(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    """404 and 405, both with the body of a 404."""
    not_found = {"text": "The requested URL was not found on this server.", "code": 404}
    assert await post(client, hec, path="/services/else") == (404, not_found)
    async with client.get(hec.url + EVENT, headers=AUTHORIZED) as answer:
        assert (answer.status, await answer.json()) == (405, not_found)


@pytest.mark.parametrize(
    ("path", "allow"), [(EVENT, "POST,OPTIONS"), ("/services/collector/health", "GET,HEAD,OPTIONS")]
)
async def test_options_needs_no_token(client: aiohttp.ClientSession, hec: SplunkHec, path: str, allow: str) -> None:
    async with client.options(hec.url + path) as answer:
        assert (answer.status, answer.headers["Allow"], await answer.read()) == (200, allow, b"")


BASIC_WRONG = "Basic " + base64.b64encode(b"any:wrong").decode()


@pytest.mark.parametrize(
    ("headers", "path", "status", "code"),
    [
        ({"X-Other": "1"}, EVENT, 401, 2),
        ({"Authorization": f"Bearer {TOKEN}"}, EVENT, 401, 3),
        ({"Authorization": "Splunk"}, EVENT, 401, 3),
        ({"Authorization": "Splunk wrong"}, EVENT, 403, 4),
        ({"Authorization": BASIC_WRONG}, EVENT, 403, 4),
        ({"Authorization": "Basic ???"}, EVENT, 401, 3),
        (AUTHORIZED, f"{EVENT}?token={TOKEN}", 400, 16),
        ({"X-Other": "1"}, f"{EVENT}?token={TOKEN}", 400, 16),
    ],
)
async def test_refused_credentials(
    client: aiohttp.ClientSession, hec: SplunkHec, headers: dict[str, str], path: str, status: int, code: int
) -> None:
    """A query token is looked at even beside a good header."""
    got, body = await post(client, hec, path=path, headers=headers)
    assert (got, body["code"]) == (status, code)
    assert hec.events == []


async def test_disabled_and_rotated_token(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    hec.is_disabled = True
    assert await post(client, hec) == (403, {"text": "Token disabled", "code": 1})
    hec.is_disabled, hec.token = False, "new"
    assert (await post(client, hec))[1]["code"] == 4
    assert (await post(client, hec, headers={"Authorization": "Splunk new"}))[0] == 200


async def test_basic_and_query_tokens(client: aiohttp.ClientSession) -> None:
    basic = "Basic " + base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
    async with SplunkHec(token=TOKEN, query_token=True) as hec:
        assert (await post(client, hec, headers={"Authorization": basic}))[0] == 200
        assert (await post(client, hec, path=f"{EVENT}?token={TOKEN}", headers={"X-Other": "1"}))[0] == 200
        assert TOKEN not in repr(hec.requests)
        assert "authorization" not in hec.requests[0].headers


# --- bodies ---------------------------------------------------------------------------------------------------------


async def test_encodings(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    """gzip or nothing; deflate is answered 415 with HTML, a broken stream 400."""
    packed = gzip.compress(GOOD)
    assert (await post(client, hec, packed, extra={"Content-Encoding": "gzip"}))[0] == 200
    status, text = await post(client, hec, zlib.compress(GOOD), extra={"Content-Encoding": "deflate"})
    assert (status, "<html>" in text) == (415, True)
    assert (await post(client, hec, packed[:-4], extra={"Content-Encoding": "gzip"}))[0] == 400
    assert (await post(client, hec, GOOD, extra={"Content-Encoding": "gzip"}))[0] == 400
    assert [event.event for event in hec.events] == ["first"]


@pytest.mark.parametrize("body", [b"", b" \r\n\t "])
async def test_empty_body(client: aiohttp.ClientSession, hec: SplunkHec, body: bytes) -> None:
    assert await post(client, hec, body) == (400, {"text": "No data", "code": 5})


async def test_body_limit_of_enterprise_and_cloud(client: aiohttp.ClientSession) -> None:
    """Enterprise answers 413, Cloud 400 code 6 with number 0; the inflated bytes count, unless told otherwise."""
    body = b'{"event":"%s"}' % (b"x" * 2000)
    packed = gzip.compress(body)
    async with SplunkHec(token=TOKEN, max_content_length=len(body) - 1) as hec:
        assert (await post(client, hec, body))[0] == 413
        assert (await post(client, hec, packed, extra={"Content-Encoding": "gzip"}))[0] == 413
        assert hec.events == []
    async with SplunkHec(token=TOKEN, max_content_length=len(body)) as hec:
        assert (await post(client, hec, body))[0] == 200
    async with SplunkHec(token=TOKEN, mode="cloud", max_content_length=1000) as hec:
        refused = {"text": "Invalid data format", "code": 6, "invalid-event-number": 0}
        assert await post(client, hec, body) == (400, refused)
    async with SplunkHec(token=TOKEN, max_content_length=1000, counts_wire_bytes=True) as hec:
        assert (await post(client, hec, packed, extra={"Content-Encoding": "gzip"}))[0] == 200


async def test_cloud_takes_a_million_bytes_by_default(client: aiohttp.ClientSession) -> None:
    async with SplunkHec(token=TOKEN, mode="cloud") as hec:
        assert (await post(client, hec, b'{"event":"%s"}' % (b"x" * 999_988)))[0] == 200
        assert (await post(client, hec, b'{"event":"%s"}' % (b"x" * 999_989)))[1]["invalid-event-number"] == 0


# --- objects --------------------------------------------------------------------------------------------------------

BAD_SECOND = [
    (b'{"event":', 6),
    (b"nonsense", 6),
    (b"17", 6),
    (b'[{"event":1}]', 6),
    (b'{"event":NaN}', 6),
    (b'{"event":"\xff"}', 6),
    (b'{"event":1,"host":5}', 6),
    (b'{"time":"soon","event":1}', 15),
    (b'{"time":null,"event":1}', 15),
    (b'{"time":true,"event":1}', 15),
    (b'{"time":1.791048401679E9,"event":1}', 15),
    (b'{"time":"1.7E9","event":1}', 15),
    (b'{"event":1,"fields":{"a":{"b":1}}}', 15),
    (b'{"event":1,"fields":{"a":[{"b":1}]}}', 15),
    (b'{"event":1,"fields":{"a":null}}', 15),
    (b'{"event":1,"fields":[]}', 15),
    (b'{"time":1}', 12),
    (b'{"event":""}', 13),
    (b'{"event":" \\t"}', 13),
    (b'{"event":null}', 13),
    (b'{"event":{}}', 13),
    (b'{"event":[]}', 13),
]


@pytest.mark.parametrize(("second", "code"), BAD_SECOND)
async def test_bad_object_keeps_what_was_before(
    client: aiohttp.ClientSession, hec: SplunkHec, second: bytes, code: int
) -> None:
    """HEC has stored the objects before the bad one when it answers 400 with its number; nothing after it."""
    status, body = await post(client, hec, GOOD + b"\n" + second + b'{"event":"third"}')
    assert (status, body["code"], body["invalid-event-number"]) == (400, code, 1)
    assert [event.event for event in hec.events] == ["first"]


async def test_wrong_index_is_reported_one_too_high(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    status, body = await post(client, hec, GOOD + b'{"event":"second","index":"other"}{"event":"third"}')
    assert (status, body) == (400, {"text": "Incorrect index", "code": 7, "invalid-event-number": 2})
    assert [event.event for event in hec.events] == ["first"]


async def test_unknown_key_stops_in_silence(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    """Measured: 200 with only the objects before it stored; alone, 400 code 5."""
    assert await post(client, hec, GOOD + b'{"event":"second","extra":1}{"event":"third"}') == (
        200,
        {"text": "Success", "code": 0},
    )
    assert [event.event for event in hec.events] == ["first"]
    assert await post(client, hec, b'{"event":"second","extra":1}') == (400, {"text": "No data", "code": 5})


async def test_metadata_times_and_defaults(client: aiohttp.ClientSession) -> None:
    """Metadata comes from the object, then the query string, then the token; a missing time is the time of receipt."""
    full = (
        b'{"time":1791048401.679,"host":"h","source":"s","sourcetype":"t","index":"apps",'
        b'"event":{"a":1},"fields":{"k":[1,"b"]}}'
    )
    async with SplunkHec(token=TOKEN, now=lambda: 1_800_000_000.5) as hec:
        await post(client, hec, full + b'{"time":"1791048402","event":2}{"event":3}', path=EVENT + "?host=q&index=x")
    first, second, third = hec.events
    assert (first.time, first.host, first.source, first.sourcetype, first.index) == (
        1791048401.679,
        "h",
        "s",
        "t",
        "apps",
    )
    assert (first.event, first.fields) == ({"a": 1}, {"k": [1, "b"]})
    assert (second.time, second.host, second.source, second.sourcetype) == (
        1791048402.0,
        "q",
        "http:local",
        "httpevent",
    )
    assert (second.index, set(second.keys)) == ("x", {"time", "event"})
    assert third.time == 1_800_000_000.5


async def test_exponent_below_the_top_is_no_time(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    """Only the object's own `time` may not have one; large whole numbers in plain digits are fine."""
    assert (await post(client, hec, b'{"time":1791048401,"event":{"time":1.5E9}}{"event":{"time":1E9}}'))[0] == 200


async def test_choices_where_the_sources_disagree(client: aiohttp.ClientSession) -> None:
    rules = Rules(takes_arrays=True, null_event=12, empty_event=None, max_event_bytes=30)
    async with SplunkHec(token=TOKEN, rules=rules) as hec:
        assert (await post(client, hec, b'[{"event":1},{"event":{}}]'))[0] == 200
        assert (await post(client, hec, b'{"event":null}'))[1]["code"] == 12
        assert (await post(client, hec, b'{"event":"%s"}' % (b"x" * 30)))[1]["code"] == 6
        assert [event.event for event in hec.events] == [1, {}]


async def test_fields_without_event_are_taken_and_not_stored(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    assert (await post(client, hec, b'{"fields":{"a":1}}' + GOOD))[0] == 200
    assert [event.event for event in hec.events] == ["first"]


async def test_metrics_need_an_index_of_metrics(client: aiohttp.ClientSession) -> None:
    metric = b'{"event":"metric","index":"m","fields":{"metric_name:lambda.duration_ms":182.4}}'
    async with SplunkHec(token=TOKEN, metric_indexes={"m"}) as hec:
        assert (await post(client, hec, metric))[0] == 200
        assert (await post(client, hec, metric.replace(b'"m"', b'"logs"')))[1]["code"] == 7
        assert (await post(client, hec, b'{"event":"a line","index":"m"}'))[1]["code"] == 7
        assert [event.is_metric for event in hec.events] == [True]


@pytest.mark.parametrize(
    "field", [b'"metric_name:a b":1', b'"metric_name:":1', b'"metric_name:a":"1"', b'"metric_name:a":true']
)
async def test_a_metric_has_a_name_and_a_number(client: aiohttp.ClientSession, field: bytes) -> None:
    async with SplunkHec(token=TOKEN, metric_indexes={"m"}) as hec:
        metric = b'{"event":"metric","index":"m","fields":{%s}}' % field
        assert (await post(client, hec, metric))[1]["code"] == 15
        assert not hec.events


async def test_deep_nesting_is_bad_format(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert (await post(client, hec, b'{"event":' + deep + b"}"))[1] == {
        "text": "Invalid data format",
        "code": 6,
        "invalid-event-number": 0,
    }


async def test_raw_lines_need_a_channel(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    raw = "/services/collector/raw"
    assert (await post(client, hec, b"one\ntwo\n", path=raw))[1]["code"] == 10
    assert (await post(client, hec, b"one\ntwo\n", path=f"{raw}?channel={CHANNEL}&sourcetype=t"))[0] == 200
    assert [(line.event, line.sourcetype) for line in hec.lines] == [("one", "t"), ("two", "t")]
    assert (await post(client, hec, b"x", path=f"{raw}?channel={CHANNEL}&index=other"))[1]["code"] == 7
    assert (await post(client, hec, b"x", path=f"{raw}?channel={CHANNEL}&time=soon"))[1]["code"] == 15


# --- acknowledgement and health -------------------------------------------------------------------------------------


async def test_acks_are_true_once_and_only_in_their_channel(client: aiohttp.ClientSession) -> None:
    now = [1000.0]
    channel = {"X-Splunk-Request-Channel": CHANNEL}
    async with SplunkHec(token=TOKEN, acks=True, now=lambda: now[0]) as hec:

        async def read(channel: str = CHANNEL) -> Any:
            path = f"/services/collector/ack?channel={channel}"
            return (await post(client, hec, b'{"acks":[0,1,9]}', path=path))[1]

        assert (await post(client, hec))[1]["code"] == 10
        assert (await post(client, hec, extra={"X-Splunk-Request-Channel": "no-guid"}))[1]["code"] == 11
        assert (await post(client, hec, extra=channel))[1] == {"text": "Success", "code": 0, "ackId": 0}
        # A token with acknowledgement gets an id even for a stored prefix.
        assert (await post(client, hec, GOOD + b"17", extra=channel))[1] == {
            "text": "Invalid data format",
            "code": 6,
            "invalid-event-number": 1,
            "ackId": 1,
        }
        assert await read() == {"acks": {"0": False, "1": False, "9": False}}
        now[0] += 1.0
        assert await read(str(uuid.UUID(int=8))) == {"acks": {"0": False, "1": False, "9": False}}
        assert await read() == {"acks": {"0": True, "1": True, "9": False}}
        assert await read() == {"acks": {"0": False, "1": False, "9": False}}
        assert (await post(client, hec, b'{"acks":["a"]}', path=f"/services/collector/ack?channel={CHANNEL}"))[0] == 400


async def test_full_and_idle_channels(client: aiohttp.ClientSession) -> None:
    now = [1000.0]
    async with SplunkHec(token=TOKEN, acks=True, now=lambda: now[0]) as hec:
        assert hec.acks is not None
        hec.acks.max_unacked = 1
        ids = [(await post(client, hec, extra={"X-Splunk-Request-Channel": CHANNEL}))[1].get("ackId") for _ in range(2)]
        assert (ids, len(hec.events), hec.requests[-1].status) == ([0, None], 1, 429)
        now[0] += 601
        assert (await post(client, hec, extra={"X-Splunk-Request-Channel": CHANNEL}))[1]["ackId"] == 0


async def test_ack_of_a_token_without_it(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    path = f"/services/collector/ack?channel={CHANNEL}"
    assert await post(client, hec, b'{"acks":[0]}', path=path) == (400, {"text": "ACK is disabled", "code": 14})


async def test_health(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    """No token is needed, a wrong one is told apart."""

    async def ask(**headers: str) -> tuple[int, int]:
        async with client.get(hec.url + "/services/collector/health/1.0", headers=headers) as answer:
            return answer.status, (await answer.json())["code"]

    assert await ask() == (200, 17)
    assert await ask(Authorization="Splunk wrong") == (400, 21)
    for code in (18, 19, 20):
        hec.health = code
        assert await ask() == (503, code)
    hec.is_disabled = True
    assert await ask(**AUTHORIZED) == (400, 22)
    async with client.post(hec.url + "/services/collector/health") as answer:
        assert answer.status == 405


# --- faults of this service -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "number"), [(6, 1), (12, 1), (7, 2)])
async def test_scripted_bad_event(client: aiohttp.ClientSession, hec: SplunkHec, code: int, number: int) -> None:
    hec.faults.script(BadEvent(at=1, code=code))
    status, body = await post(client, hec, GOOD + b'{"event":"second"}{"event":"third"}')
    assert (status, body["code"], body["invalid-event-number"]) == (400, code, number)
    assert [event.event for event in hec.events] == ["first"]


async def test_scripted_warning_stores(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    hec.faults.script(NearCapacity())
    assert await post(client, hec) == (200, {"text": "Queue approaching capacity", "code": 24})
    assert len(hec.events) == 1


async def test_scripted_throttle_and_size(client: aiohttp.ClientSession, hec: SplunkHec) -> None:
    hec.faults.script(Throttle(), TooLarge())
    assert await post(client, hec) == (429, {"text": "Queue at capacity", "code": 26})
    assert (await post(client, hec))[0] == 413
    assert hec.events == []
