"""Sinks for receivers of one's own and for search engines, on the whole road: the real executable, strict receivers."""

from collections import Counter
from contextlib import AsyncExitStack

import pytest

from local_backends import (
    Answer,
    Backend,
    Blocked,
    Bulk,
    FailDocuments,
    Fault,
    JsonReceiver,
    Loki,
    Page,
    RejectEntries,
    Reset,
    StreamLimit,
    Throttle,
    TooLarge,
)
from tests.integration.search_sinks import CASES, SECRET, Case, shows_secret
from tests.integration.world import EXTENSION, assert_balanced, world

each_case = pytest.mark.parametrize("case", CASES, ids=str)


def refusals(receiver: Backend) -> list[tuple[str, int | None]]:
    """Return what the receiver refused although no fault was scripted."""
    return [
        (one.operation, one.status)
        for one in receiver.requests
        if one.fault is None and one.status is not None and one.status >= 400
    ]


@each_case
async def test_every_line_and_event_arrives_once_and_no_secret_is_told(case: Case) -> None:
    async with case.receiver() as receiver, world(environment=case.variables(receiver)) as w:
        for number in range(3):
            assert (await w.env.invoke({"first": number * 20, "lines": 20, "json": 2})).status == "success"
        await w.env.shutdown()
        assert case.numbers(receiver) == Counter(range(60))
        (ledger,) = w.ledgers
        assert_balanced(ledger)
        assert ledger["sinks"][case.sink]["delivered"] == ledger["door"]["received"] == len(receiver.kept)
        assert refusals(receiver) == []
        texts = "\n".join(w.env.extension_output(EXTENSION.name))
        assert not shows_secret(texts, "me")
        assert not any(line["level"] in ("WARNING", "ERROR") for line in w.said)


@each_case
@pytest.mark.parametrize(
    "faults",
    [
        [Answer(503, retry_after=0.1)], [Answer(502), Answer(504)], [Throttle(retry_after=0)], [Reset()], [TooLarge()],
        [Page(503, size=100)], [Page(200)],
    ],
    ids=str,
)  # fmt: skip
async def test_nothing_is_lost_or_repeated_when_the_receiver_is_unwell(case: Case, faults: list[Fault]) -> None:
    """A page with status 200, as of a captive portal, is no success either."""
    async with case.receiver() as receiver, world(environment=case.variables(receiver)) as w:
        receiver.faults.script(*faults)
        assert (await w.env.invoke({"lines": 50})).status == "success"
        await w.env.shutdown()
        assert case.numbers(receiver) == Counter(range(50))
        assert refusals(receiver) == []
        (ledger,) = w.ledgers
        assert ledger["sinks"][case.sink]["dropped"] == {}


@each_case
async def test_what_was_stored_before_the_connection_broke_is_not_stored_again(case: Case) -> None:
    """The same bytes come again with the same id, so the receiver can tell."""
    async with case.receiver() as receiver, world(environment=case.variables(receiver)) as w:
        receiver.faults.script(Reset(stored=True, times=2))
        assert (await w.env.invoke({"lines": 50})).status == "success"
        await w.env.shutdown()
        assert case.numbers(receiver) == Counter(range(50))
        assert refusals(receiver) == []
        (ledger,) = w.ledgers
        assert ledger["sinks"][case.sink]["dropped"] == {}


@each_case
async def test_a_wrong_credential_is_told_once_with_its_variable(case: Case) -> None:
    async with case.receiver() as receiver:
        wrong = {**case.variables(receiver), case.secret_in: f"{SECRET}-and-wrong"}
        async with world(environment=wrong) as w:
            assert (await w.env.invoke({"lines": 3})).status == "success"
            await w.env.shutdown()
            told = [one["message"] for one in w.said if one["level"] == "WARN" and case.secret_in in one["message"]]
            assert len(told) == 1, told
            assert not shows_secret("\n".join(w.env.extension_output(EXTENSION.name)), "me")
            (ledger,) = w.ledgers
            assert set(ledger["sinks"][case.sink]["dropped"]) == {"unauthorized"}


@each_case
async def test_without_its_name_in_the_list_of_sinks_it_does_not_run(case: Case) -> None:
    async with case.receiver() as receiver:
        unnamed = {**case.variables(receiver), "TELEMETRY_FORWARDER_SINKS": None}
        async with world(environment=unnamed) as w:
            await w.env.invoke({"lines": 1})
            await w.env.shutdown()
            assert receiver.requests == []


async def test_two_receivers_get_each_in_its_own_form() -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(JsonReceiver(path="/a", token="t-1"))
        second = await stack.enter_async_context(
            JsonReceiver(path="/b", method="PUT", form="json_array", member="logs", login=("me", "p"), answer=201)
        )
        prefix = "TELEMETRY_FORWARDER_HTTP_"
        environment = {
            "TELEMETRY_FORWARDER_SINKS": "http,http:b",
            f"{prefix}URL": f"{first.url}/a",
            f"{prefix}TOKEN": "t-1",
            f"{prefix}URL__B": f"{second.url}/b",
            f"{prefix}METHOD__B": "PUT",
            f"{prefix}FORMAT__B": "json_array:logs",
            f"{prefix}USERNAME__B": "me",
            f"{prefix}PASSWORD__B": "p",
        }
        w = await stack.enter_async_context(world(environment=environment))
        await w.env.invoke({"lines": 10})
        await w.env.shutdown()
        for receiver in (first, second):
            assert CASES[0].numbers(receiver) == Counter(range(10))
            assert refusals(receiver) == []
        assert not any(
            "authorization" in headers and "t-1" in headers["authorization"] for headers in second.seen_headers
        )


async def test_loki_stores_equal_lines_and_nothing_twice() -> None:
    """A thousand equal lines in a few milliseconds, the answer lost twice: each is there once."""
    case = case_of("loki")
    async with Loki(login=("me", SECRET), tenants=["shop"]) as loki, world(environment=case.variables(loki)) as w:
        loki.faults.script(Reset(stored=True, times=2))
        await w.env.invoke({"text": "\n".join(["the same"] * 1000)})
        await w.env.shutdown()
        assert sum(entry.line == "the same" for entry in loki.entries) == 1000
        assert loki.repeats >= 1000
        (ledger,) = w.ledgers
        assert ledger["sinks"]["loki"]["delivered"] == len(loki.entries)


@pytest.mark.parametrize(
    ("fault", "dropped", "told"),
    [
        (RejectEntries(2), {"too_old": 2}, "has timestamp too old"),
        (Blocked(260), {}, "ingestion blocked for user"),
        (Blocked(200), {}, "ingestion blocked for user"),
        (StreamLimit(2), {}, "maximum active stream limit"),
    ],
    ids=str,
)
async def test_what_loki_says_of_a_part_or_of_nothing(fault: Fault, dropped: dict[str, int], told: str) -> None:
    case = case_of("loki")
    loki = Loki(login=("me", SECRET), tenants=["shop"])
    async with loki, world(environment=case.variables(loki)) as w:
        loki.faults.script(fault)
        await w.env.invoke({"lines": 20})
        await w.env.shutdown()
        (ledger,) = w.ledgers
        book = ledger["sinks"]["loki"]
        assert book["dropped"] == dropped
        assert len(loki.entries) == book["delivered"] == book["offered"] - sum(dropped.values())
        assert any(told in line["message"] for line in w.said)
        assert refusals(loki) == []


def case_of(sink: str) -> Case:
    return next(one for one in CASES if one.sink == sink)


@pytest.mark.parametrize(
    ("fault", "dropped", "told"),
    [
        (FailDocuments(), {}, "es_rejected_execution_exception"),
        (FailDocuments(503, "unavailable_shards_exception", every=1), {}, "unavailable_shards_exception"),
        (
            FailDocuments(400, "document_parsing_exception", every=100, reason="[1:9] failed to parse field [json.n]"),
            {"rejected": 1},
            "failed to parse field",
        ),
        (FailDocuments(403, "security_exception", every=1, reason="action is unauthorized"), {}, "API_KEY"),
    ],
    ids=lambda fault: getattr(fault, "error", ""),
)
async def test_documents_are_answered_one_by_one(fault: Fault, dropped: dict[str, int], told: str) -> None:
    """What is refused for the moment comes again alone; what is refused for good is dropped alone."""
    case = case_of("elasticsearch")
    async with case.receiver() as server, world(environment=case.variables(server)) as w:
        server.faults.script(fault)
        await w.env.invoke({"lines": 20})
        await w.env.shutdown()
        (ledger,) = w.ledgers
        book = ledger["sinks"]["elasticsearch"]
        assert book["dropped"] == dropped
        assert len(server.kept) == book["delivered"] == book["offered"] - sum(dropped.values())
        assert any(told in line["message"] for line in w.said)
        assert isinstance(server, Bulk)
        assert server.conflicts == 0, "nothing that was stored was sent again"


async def test_an_index_that_is_not_there_costs_no_record() -> None:
    case = case_of("elasticsearch")
    async with case.receiver() as server:
        wrong = {**case.variables(server), "ELASTICSEARCH_DATA_STREAM": "logs-lambda-other"}
        async with world(environment=wrong) as w:
            await w.env.invoke({"lines": 3})
            await w.env.shutdown()
            (ledger,) = w.ledgers
            assert set(ledger["sinks"]["elasticsearch"]["dropped"]) == {"wrong_address"}
            assert any("ELASTICSEARCH_DATA_STREAM" in line["message"] for line in w.said)


async def test_elasticsearch_before_8_18_is_told_what_it_does_not_know() -> None:
    case = case_of("elasticsearch")
    server = Bulk(is_old=True)
    async with server, world(environment=case.variables(server)) as w:
        await w.env.invoke({"lines": 3})
        await w.env.shutdown()
        told = [line["message"] for line in w.said if "ELASTICSEARCH_SOURCE_ON_ERROR" in line["message"]]
        assert told
        assert server.documents == []


@pytest.mark.parametrize(("service", "collection"), [("es", ""), ("aoss", "timeseries"), ("aoss", "search")])
async def test_opensearch_of_aws_takes_what_is_signed(service: str, collection: str) -> None:
    """A collection for time series has ids of its own, so there alone a repeated request is there twice."""
    async with Bulk(service=service, collection=collection) as server:
        environment = {
            "TELEMETRY_FORWARDER_SINKS": "opensearch",
            "OPENSEARCH_URL": server.url,
            "OPENSEARCH_AWS_SERVICE": service,
            **({"OPENSEARCH_COLLECTION_TYPE": collection} if collection else {}),
        }
        async with world(environment=environment) as w:
            server.faults.script(Reset(stored=True))
            await w.env.invoke({"lines": 20})
            await w.env.shutdown()
            numbers = case_of("opensearch").numbers(server)
            assert set(numbers) == set(range(20))
            assert refusals(server) == []
            if collection == "timeseries":
                assert all(document.id.startswith("server-") for document in server.documents)
            else:
                assert numbers == Counter(range(20))
