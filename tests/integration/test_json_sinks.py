"""The sinks of vendors that take JSON by HTTP on the whole road: a function, the real executable, a strict backend."""

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from local_backends import (
    Answer,
    Axiom,
    FailEvents,
    Fault,
    HalfAnswer,
    Hang,
    Honeycomb,
    NewRelic,
    Page,
    RefuseEvents,
    Reset,
    SecretsManager,
    Ssm,
    SumoLogic,
    Throttle,
    TooLarge,
    Withhold,
)
from local_backends.intake import Intake
from tests.integration.world import NUMBERED, World, assert_arrived, assert_balanced, world


@dataclass(frozen=True)
class Case:
    """A sink: its backend, the variables that lead there, and how to read what was stored.

    `secret` is the credential, which `wrong` replaces; `variable` holds it. `half` makes the backend say inside a
    success that it did not store one record; None: it never says so. `value` makes the variable's value of the secret.
    """

    backend: Callable[[], Intake]
    environ: Callable[[Any], Mapping[str, str]]
    secret: str
    wrong: str
    variable: str
    members: Callable[[Any], Mapping[str, Any]]
    known: Callable[[Any], Mapping[str, Any]]
    half: Fault | None = None
    value: Callable[[Any, str], str] = lambda backend, secret: secret


CASES = {
    "axiom": Case(
        backend=lambda: Axiom(token="xaat-right-1234", dataset="lambda"),
        environ=lambda backend: {"AXIOM_URL": backend.url, "AXIOM_DATASET": "lambda"},
        secret="xaat-right-1234",
        wrong="xaat-wrong-9876",
        variable="AXIOM_TOKEN",
        members=lambda event: event.members,
        known=lambda event: event.members["lambda"],
        half=FailEvents(1, times=1),
    ),
    "honeycomb": Case(
        backend=lambda: Honeycomb(key="hcaik-right-1234", dataset="lambda"),
        environ=lambda backend: {"HONEYCOMB_API_ENDPOINT": backend.url, "HONEYCOMB_DATASET": "lambda"},
        secret="hcaik-right-1234",
        wrong="hcaik-wrong-9876",
        variable="HONEYCOMB_API_KEY",
        members=lambda event: event.data,
        known=lambda event: {key.removeprefix("lambda."): value for key, value in event.data.items()},
        half=RefuseEvents(400),
    ),
    "sumologic": Case(
        backend=lambda: SumoLogic(token="ZaVnC4dhaV-right-1234=="),
        environ=lambda backend: {},
        secret="ZaVnC4dhaV-right-1234==",
        wrong="ZaVnC4dhaV-wrong-9876==",
        variable="SUMO_HTTP_ENDPOINT",
        members=lambda message: message.members,
        known=lambda message: message.members["lambda"],
        value=lambda backend, token: f"{backend.url}/receiver/v1/http/{token}",
    ),
    "newrelic": Case(
        backend=lambda: NewRelic(key="eu01xx-right-1234"),
        environ=lambda backend: {"NEW_RELIC_LOG_ENDPOINT": f"{backend.url}/log/v1"},
        secret="eu01xx-right-1234",
        wrong="eu01xx-wrong-9876",
        variable="NEW_RELIC_LICENSE_KEY",
        members=lambda log: {"message": log.message},
        known=lambda log: {
            **log.attributes,
            "type": log.attributes["telemetry.type"],
            "request_id": log.attributes.get("aws.lambda_request_id"),
        },
    ),
}
each_sink = pytest.mark.parametrize("sink", CASES)


def environment(sink: str, backend: Intake, **more: str) -> dict[str, str | None]:
    case = CASES[sink]
    given = {case.variable: case.value(backend, case.secret), **case.environ(backend), **more}
    return {"TELEMETRY_FORWARDER_SINKS": sink, "TELEMETRY_FORWARDER_FLUSH": "end", **given}


def numbers(sink: str, backend: Intake) -> Counter[int]:
    """Count how often each numbered line was stored."""
    texts = (str(CASES[sink].members(one).get("message", "")) for one in backend.kept)
    return Counter(int(number) for text in texts for number in NUMBERED.findall(text))


def assert_secret_is_kept(w: World[Any], *secrets: str) -> None:
    """Nothing that the extension or the function wrote holds a secret, in any form in which it may be sent."""
    said = str(w.said) + "".join(w.env.extension_output("telemetry-forwarder"))
    for secret in secrets:
        for form in (secret, quote(secret, safe=""), b64encode(secret.encode()).decode().rstrip("=")):
            assert form not in said


@each_sink
async def test_all_arrives_once_with_what_is_known(sink: str) -> None:
    case = CASES[sink]
    async with case.backend() as backend, world(environment=environment(sink, backend)) as w:
        ids = [(await w.env.invoke({"first": 3 * number, "lines": 3, "json": 1})).request_id for number in range(2)]
        await w.env.shutdown()
        (ledger,) = w.ledgers
        assert_balanced(ledger)
        assert_arrived(numbers(sink, backend), range(6), ledger["sinks"][sink])
        assert ledger["sinks"][sink]["dropped"] == {}
        assert [one.status for one in backend.requests if one.status not in (200, 202)] == []
        known = [case.known(one) for one in backend.kept]
        assert max(Counter(one["record_id"] for one in known).values()) == 1
        assert {one.get("request_id") for one in known} >= set(ids)
        assert {one["type"] for one in known} >= {"function", "platform.report"}
        assert_secret_is_kept(w, case.secret)


@each_sink
async def test_a_wrong_credential_is_told_with_its_variable(sink: str) -> None:
    case = CASES[sink]
    async with case.backend() as backend:
        given = environment(sink, backend, **{case.variable: case.value(backend, case.wrong)})
        async with world(environment=given) as w:
            for _ in range(3):
                assert (await w.env.invoke({"lines": 2})).status == "success"
            await w.env.shutdown()
            assert not backend.kept
            told = [line["level"] for line in w.said if case.variable in line["message"]]
            assert (told.count("WARN"), told.count("ERROR")) == (1, 1)  # when it happens, and at the end
            (ledger,) = w.ledgers
            assert set(ledger["sinks"][sink]["dropped"]) == {"unauthorized"}
            assert_secret_is_kept(w, case.secret, case.wrong)


@each_sink
@pytest.mark.parametrize(
    "faults",
    [
        [Throttle(retry_after=0), Answer(503, retry_after=0.1), Answer(500)],
        [Reset(), HalfAnswer()], [TooLarge()], [Page(503, size=100)],
    ],
    ids=str,
)  # fmt: skip
async def test_nothing_is_lost_when_the_backend_is_unwell(sink: str, faults: list[Fault]) -> None:
    async with CASES[sink].backend() as backend:
        backend.faults.script(*faults)
        async with world(environment=environment(sink, backend)) as w:
            assert (await w.env.invoke({"lines": 50})).status == "success"
            await w.env.shutdown()
            assert set(numbers(sink, backend)) == set(range(50))
            (ledger,) = w.ledgers
            assert ledger["sinks"][sink]["dropped"] == {}


@each_sink
async def test_what_was_stored_before_a_reset_comes_again_with_the_same_id(sink: str) -> None:
    case = CASES[sink]
    async with case.backend() as backend:
        backend.faults.script(Reset(stored=True))
        async with world(environment=environment(sink, backend)) as w:
            await w.env.invoke({"lines": 5})
            await w.env.shutdown()
        found = Counter(case.known(one)["record_id"] for one in backend.kept)
        assert set(numbers(sink, backend)) == set(range(5))
        assert max(found.values()) == 2  # the copies show by their ids


@each_sink
async def test_a_page_with_a_200_is_no_success(sink: str) -> None:
    async with CASES[sink].backend() as backend:
        backend.faults.always(Page(200))
        async with world(environment=environment(sink, backend)) as w:
            await w.env.invoke({"lines": 5})
            await w.env.shutdown()
            (ledger,) = w.ledgers
            assert set(ledger["sinks"][sink]["dropped"]) == {"wrong_address"}
            assert any("something else answered" in line["message"] for line in w.said)


@each_sink
async def test_a_success_that_hides_a_loss_is_counted_and_told(sink: str) -> None:
    half = CASES[sink].half
    if half is None:
        pytest.skip("it says nothing of it")
    async with CASES[sink].backend() as backend:
        backend.faults.script(half)
        async with world(environment=environment(sink, backend)) as w:
            await w.env.invoke({"lines": 5})
            await w.env.shutdown()
            (ledger,) = w.ledgers
            book = ledger["sinks"][sink]
            assert book["dropped"] == {"rejected": 1}
            assert book["delivered"] == len(backend.kept)
            assert book["delivered"] + 1 == book["offered"]


async def test_metrics_go_to_new_relic_beside_the_logs() -> None:
    async with NewRelic(key="right") as backend:
        given = {
            "NEW_RELIC_LICENSE_KEY": "right", "NEW_RELIC_LOG_ENDPOINT": backend.url,
            "NEW_RELIC_METRIC_ENDPOINT": backend.url, "TELEMETRY_FORWARDER_SINKS": "newrelic",
            "TELEMETRY_FORWARDER_METRICS": "newrelic",
        }  # fmt: skip
        async with world(environment=given) as w:
            await w.env.invoke({"lines": 1})
            await w.env.invoke({"exit": True})
            await w.env.shutdown()
            (ledger,) = w.ledgers[-1:]
            assert ledger["sinks"]["newrelic-metrics"]["dropped"] == {}
        counts = Counter[str]()
        for one in backend.metrics:
            if one.kind == "count":
                counts[one.name] += one.value
        assert (counts["lambda.invocations"], counts["lambda.errors"]) == (2, 1)
        assert {one.attributes["faas.name"] for one in backend.metrics} == {backend.logs[0].attributes["faas.name"]}
        assert backend.issues == []


@each_sink
async def test_an_environment_that_is_reset_loses_nothing(sink: str) -> None:
    """The function runs into its time-out while the backend is unwell; what was held is sent by the next process."""
    case = CASES[sink]
    async with case.backend() as backend:
        backend.faults.script(Answer(503, times=2))
        async with world(environment=environment(sink, backend), timeout_s=3) as w:
            await w.env.invoke({"lines": 5})
            assert (await w.env.invoke({"first": 5, "lines": 5, "sleep": 30})).status == "timeout"
            assert (await w.env.invoke({"first": 10, "lines": 5})).status == "success"
            await w.env.shutdown()
            assert set(numbers(sink, backend)) == set(range(15))
            assert len(w.ledgers) == 2


@each_sink
async def test_an_answer_that_comes_while_the_environment_is_frozen_is_read(sink: str) -> None:
    """It waits in the socket until the thaw, so nothing is sent twice."""
    case = CASES[sink]
    async with case.backend() as backend:
        backend.faults.script(Withhold())
        async with world(environment=environment(sink, backend), timeout_s=10.0) as w:
            await w.env.invoke({"lines": 5})
            backend.faults.release()
            await w.env.invoke({"first": 5, "lines": 5})
            await w.env.shutdown()
            (ledger,) = w.ledgers
            assert_arrived(numbers(sink, backend), range(10), ledger["sinks"][sink])


@each_sink
async def test_a_backend_that_hangs_holds_neither_the_function_nor_the_end(sink: str) -> None:
    case = CASES[sink]
    async with case.backend() as backend:
        backend.faults.always(Hang(None))
        async with world(environment=environment(sink, backend), timeout_s=1.0) as w:
            result = await w.env.invoke({"lines": 5})
            assert (result.status, result.duration_ms < 1000) == ("success", True)
            end = await w.env.shutdown()
            assert not end.extensions["telemetry-forwarder"].killed
            (ledger,) = w.ledgers
            assert set(ledger["sinks"][sink]["dropped"]) == {"deadline"}
            assert_balanced(ledger)


async def test_credentials_by_reference_in_the_vendors_own_forms() -> None:
    """The address of Sumo Logic in SSM, and New Relic's key in a secret as its own extension reads it; both rotated."""
    async with (
        CASES["sumologic"].backend() as sumo,
        CASES["newrelic"].backend() as newrelic,
        SecretsManager(secrets={"NEW_RELIC_LICENSE_KEY": '{"LicenseKey": "eu01xx-right-1234"}'}) as manager,
        Ssm(parameters={"/sumo": f"{sumo.url}/receiver/v1/http/ZaVnC4dhaV-right-1234=="}) as ssm,
    ):
        given: dict[str, str | None] = {
            "TELEMETRY_FORWARDER_SINKS": "sumologic,newrelic",
            "SUMO_HTTP_ENDPOINT_SSM_PARAMETER": "/sumo",
            "NEW_RELIC_LICENSE_KEY_SECRET": "NEW_RELIC_LICENSE_KEY",
            "NEW_RELIC_LOG_ENDPOINT": newrelic.url,
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": manager.url,
            "AWS_ENDPOINT_URL_SSM": ssm.url,
            "TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS": "8000",
        }
        async with world(environment=given, timeout_s=10.0) as w:
            await w.env.invoke({"lines": 5})
            manager.put("NEW_RELIC_LICENSE_KEY", '{"LicenseKey": "rotated-1"}')
            newrelic.key = "rotated-1"  # type: ignore[attr-defined]
            ssm.put("/sumo", f"{sumo.url}/receiver/v1/http/rotated-2")
            sumo.token = "rotated-2"  # type: ignore[attr-defined]
            await w.env.invoke({"first": 5, "lines": 5})
            await w.env.shutdown()
            assert set(numbers("sumologic", sumo)) == set(numbers("newrelic", newrelic)) == set(range(10))
            assert_secret_is_kept(w, "right-1234", "rotated-1", "rotated-2")
            assert_balanced(w.ledgers[0])
