"""The credential: added, read once, read again after a refusal, never shown."""

import asyncio

import pytest

from telemetry_forwarder.errors import CredentialUnavailable, SecretDenied, SecretUnavailable
from telemetry_forwarder.interfaces import Credential, HeaderList, HttpRequest, HttpResponse
from telemetry_forwarder.transports.auth import AuthTransport, authorized
from telemetry_forwarder.variables.types import Secret, SecretReference
from tests.builders import Hang, ScriptedTransport

REFERENCE = SecretReference("ssm", "/hec/token")
OK = HttpResponse(status=200)


class HandClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 5000.0

    def monotonic(self) -> float:
        return 1.0  # stands still, as in a frozen environment

    def time(self) -> float:
        return self.now


class SecretsService:
    """Gives the values it was told, one a reading; an exception is raised."""

    def __init__(self, *values: str | Exception) -> None:
        self.values = list(values)
        self.readings = 0
        self.freshness: list[bool] = []

    async def fetch(self, reference: SecretReference, *, fresh: bool = False) -> Secret:
        assert reference == REFERENCE
        self.freshness.append(fresh)
        self.readings += 1
        await asyncio.sleep(0)
        value = self.values.pop(0)
        if isinstance(value, Exception):
            raise value
        return Secret(value)

    def waits_for(self, reference: SecretReference) -> None:
        """Nothing is known about it."""


class StuckService(SecretsService):
    """A service whose reading number `stuck_at` never ends."""

    def __init__(self, *values: str | Exception, stuck_at: int) -> None:
        super().__init__(*values)
        self.stuck_at = stuck_at
        self.is_stuck = asyncio.Event()

    async def fetch(self, reference: SecretReference, *, fresh: bool = False) -> Secret:
        if self.readings + 1 == self.stuck_at:
            self.readings += 1
            self.is_stuck.set()
            await asyncio.get_running_loop().create_future()
        return await super().fetch(reference, fresh=fresh)


def request(**headers: str) -> HttpRequest:
    return HttpRequest(url="https://hec.example/x", body=b"{}", headers=headers)


def accepting(token: str) -> ScriptedTransport:
    """A destination that takes `token` and answers 403 to all others."""
    return ScriptedTransport(
        then=lambda sent: HttpResponse(status=200 if sent.headers["Authorization"] == f"Splunk {token}" else 403)
    )


def auth(inner: ScriptedTransport, service: SecretsService, clock: HandClock | None = None) -> AuthTransport:
    credential = Credential(header="Authorization", prefix="Splunk ", secret=REFERENCE)
    return AuthTransport(inner, credential, service, clock=clock or HandClock())


async def test_a_given_secret_is_added_with_its_prefix_and_replaces_a_header_of_that_name():
    inner = ScriptedTransport(then=OK)
    transport = AuthTransport(inner, Credential(header="Authorization", prefix="Splunk ", secret=Secret("s3cr3t")))
    given = request(authorization="other", Accept="x")
    await transport.send(given)
    assert dict(inner.requests[0].headers) == {"Accept": "x", "Authorization": "Splunk s3cr3t"}
    assert dict(given.headers) == {"authorization": "other", "Accept": "x"}


async def test_the_secret_is_shown_by_no_repr():
    inner = ScriptedTransport(then=OK)
    transport = AuthTransport(inner, Credential(header="DD-API-KEY", secret=Secret("s3cr3t")))
    await transport.send(request())
    assert inner.requests[0].headers["DD-API-KEY"] == "s3cr3t"
    assert "s3cr3t" not in f"{inner.requests[0]!r} {inner.requests[0].headers} {transport!r} {vars(transport)!r}"


async def test_a_given_secret_that_is_refused_is_not_sent_again():
    inner = ScriptedTransport(then=HttpResponse(status=401))
    transport = AuthTransport(inner, Credential(header="DD-API-KEY", secret=Secret("s3cr3t")))
    assert (await transport.send(request())).status == 401
    assert len(inner.requests) == 1


def test_a_reference_without_a_way_to_read_it_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="reference"):
        AuthTransport(ScriptedTransport(), Credential(header="A", secret=REFERENCE))


async def test_a_reference_is_read_once_however_many_wait_for_it_and_kept():
    service = SecretsService("one")
    transport = auth(accepting("one"), service)
    answers = await asyncio.gather(*(transport.send(request()) for _ in range(5)))
    answers.append(await transport.send(request()))
    assert [answer.status for answer in answers] == [200] * 6
    assert service.readings == 1


async def test_a_failed_reading_fails_all_who_waited_for_it_and_the_next_caller_reads_again():
    inner, service = accepting("one"), SecretsService(SecretUnavailable("away"), "one")
    transport = auth(inner, service)
    failures = await asyncio.gather(*(transport.send(request()) for _ in range(3)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [CredentialUnavailable] * 3
    assert all(isinstance(failure.__cause__, SecretUnavailable) for failure in failures)
    assert (service.readings, inner.requests) == (1, [])
    assert (await transport.send(request())).status == 200


async def test_a_missing_permission_is_asked_again_only_after_a_minute_of_wall_time():
    """Frozen environments: the monotonic clock may stand still, so that it cannot be the measure."""
    clock, service = HandClock(), SecretsService(SecretDenied("no"), "one")
    transport = auth(accepting("one"), service, clock)
    for _ in range(3):
        with pytest.raises(CredentialUnavailable, match="no"):
            await transport.send(request())
    assert service.readings == 1
    clock.now += 61
    assert (await transport.send(request())).status == 200


async def test_who_waits_for_a_reading_that_is_cancelled_reads_himself():
    service = StuckService("one", stuck_at=1)
    transport = auth(accepting("one"), service)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(transport.send(request()))
        second = tasks.create_task(transport.send(request()))
        await service.is_stuck.wait()
        first.cancel()
    assert second.result().status == 200
    assert service.readings == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_rotated_secret_is_read_again_after_a_refusal_and_the_request_sent_once_more(status):
    inner = ScriptedTransport(OK, HttpResponse(status=status), then=OK)
    service = SecretsService("old", "new")
    transport = auth(inner, service)
    await transport.send(request())
    assert (await transport.send(request())).status == 200
    assert [sent.headers["Authorization"] for sent in inner.requests] == ["Splunk old", "Splunk old", "Splunk new"]
    assert (await transport.send(request())).status == 200
    assert service.freshness == [False, True], "the second one is not from a cache"


async def test_an_unchanged_secret_leaves_the_refusal_as_it_is_and_is_read_at_most_once_a_minute():
    clock, service = HandClock(), SecretsService("old", "old", "new")
    inner = accepting("new")
    transport = auth(inner, service, clock)
    for _ in range(4):
        assert (await transport.send(request())).status == 403
    assert (service.readings, len(inner.requests)) == (2, 4)
    clock.now += 61
    assert (await transport.send(request())).status == 200
    assert service.readings == 3


async def test_a_secret_that_is_refused_after_the_rotation_too_is_sent_no_third_time():
    inner = accepting("other")
    assert (await auth(inner, SecretsService("old", "new")).send(request())).status == 403
    assert len(inner.requests) == 2


async def test_callers_who_meet_the_rotation_together_share_one_reading():
    inner, service = accepting("new"), SecretsService("old", "new")
    transport = auth(inner, service)
    answers = await asyncio.gather(*(transport.send(request()) for _ in range(4)))
    assert [answer.status for answer in answers] == [200] * 4
    assert service.readings == 2


async def test_a_second_reading_that_fails_says_why_and_names_the_refusal():
    transport = auth(accepting("new"), SecretsService("old", SecretDenied("SSM parameter /hec/token may not be read")))
    with pytest.raises(CredentialUnavailable, match=r"403.*/hec/token may not be read") as caught:
        await transport.send(request())
    assert isinstance(caught.value.__cause__, SecretDenied)


async def test_a_second_reading_that_is_cancelled_may_be_tried_at_once():
    service = StuckService("old", "new", stuck_at=2)
    transport = auth(accepting("new"), service)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(transport.send(request()))
        await service.is_stuck.wait()
        first.cancel()
    assert (await transport.send(request())).status == 200


async def test_closing_closes_the_inner_transport():
    inner = ScriptedTransport(Hang())
    await auth(inner, SecretsService("one")).aclose()
    assert inner.is_closed


# --- a list of headers, as OpenTelemetry has it ---


async def test_each_header_of_a_list_is_added_and_none_is_shown() -> None:
    transport = ScriptedTransport(OK)
    listed = HeaderList(Secret("Authorization=Bearer%20hunter2, x-team = a=b ,,X-Dataset=100%"))
    await AuthTransport(transport, listed).send(request(authorization="old", other="kept"))
    (sent,) = transport.requests
    assert dict(sent.headers) == {
        "other": "kept", "Authorization": "Bearer hunter2", "x-team": "a=b", "X-Dataset": "100%"
    }  # fmt: skip
    assert "hunter2" not in repr(sent) + repr(listed)


async def test_a_secret_that_is_no_list_of_headers_is_named_and_not_shown() -> None:
    for value in ("hunter2", "a b=hunter2", "a=", "a=x\nhunter2", ",", "a=%ff%fe"):
        transport = AuthTransport(ScriptedTransport(OK), HeaderList(REFERENCE), SecretsService(value))
        with pytest.raises(CredentialUnavailable, match="ssm /hec/token") as error:
            await transport.send(request())
        assert "hunter2" not in str(error.value)


def test_a_user_name_and_its_password_are_one_value_in_base64():
    """Source: RFC 7617, section 2.1: in UTF-8, the one of its example."""
    credential = Credential(header="authorization", prefix="Basic ", user="test", secret=Secret("123£"))
    request = HttpRequest(url="http://h", body=b"", headers={"Authorization": "none"})
    sent = authorized(request, credential, Secret("123£"))
    assert dict(sent.headers) == {"authorization": "Basic dGVzdDoxMjPCow=="}
    assert "123" not in repr(sent)
    assert "123" not in repr(credential)
