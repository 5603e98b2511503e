"""Fetching from Secrets Manager and SSM Parameter Store.

No error here is chained to an exception that contains an answer, so the secret value, and might be logged. The body of
an answer is taken unchanged, as the service sent it.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, NamedTuple, TypeAlias

from telemetry_forwarder.aws_errors import Meaning, meaning_of
from telemetry_forwarder.clock import Clock, Moment
from telemetry_forwarder.errors import TransportError
from telemetry_forwarder.interfaces import AwsResponse
from telemetry_forwarder.secrets.answers import Answer, Outcome, as_json, object_in, value_in
from telemetry_forwarder.secrets.meanings import (
    Wait,
    in_time,
    no_answer,
    not_in_time,
    refused,
)
from telemetry_forwarder.secrets.names import SECRETS_MANAGER, SSM, Key
from telemetry_forwarder.secrets.settings import LOAD_S
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.transports.aws_environment import EnvironmentCredentials, NoCredentials, NoEndpoint
from telemetry_forwarder.transports.aws_json import BODY, AwsClient
from telemetry_forwarder.transports.steps import VPC

CONNECT_S = 2.0
READ_S = 4.0

_LOOK_S = 0.01

# The number of attempts if the service fails, and the pause between them. If it throttles, attempts go on until the
# timeout. Pauses are drawn from a growing range, so that environments that started together do not retry together.
# Source: AWS Architecture Blog, "Exponential Backoff And Jitter" (full jitter).
ATTEMPTS = 2
PAUSE_S = 0.2
LONGEST_PAUSE_S = 2.0

# Source: Systems Manager API Reference, GetParameters; Secrets Manager API Reference, BatchGetSecretValue; 2026-11-23.
MOST_PARAMETERS = 10
MOST_SECRETS = 20
_MOST_AT_ONCE = {SSM: MOST_PARAMETERS, SECRETS_MANAGER: MOST_SECRETS}
# The most pages of ten parameters that are read of one path.
_MOST_PAGES = 100
# The most clients (one for each service and region): each has connections, and the caller's ARN chooses the region.
MOST_CLIENTS = 16


class _Asked(NamedTuple):
    """A call under way: the host it was sent to, and since when."""

    where: str
    at: Moment


# A call: the operation, and its parameters.
Question: TypeAlias = tuple[str, dict[str, Any]]


class _TooManyRegions(Exception):
    """Clients for as many regions as there may be exist already."""


# The errors if no client can be made for a region or endpoint.
_NO_CLIENT = (NoEndpoint, _TooManyRegions)


class Upstream:
    """The clients of both services, one for each region that was asked for. `aclose` closes the connections."""

    def __init__(
        self,
        network: Network,
        *,
        timeout_s: Mapping[str, float],
        connections: int,
        clock: Clock,
    ) -> None:
        self.calls = 0
        self._network = network
        self._timeout_s = timeout_s
        self._connections = connections
        self._clock = clock
        self._credentials = EnvironmentCredentials()
        self._clients: dict[tuple[str, str | None], AwsClient] = {}
        self._asked: dict[Key, _Asked] = {}  # the calls under way
        self._renewing = asyncio.Lock()
        self._open = AsyncExitStack()
        self._left = AsyncExitStack()  # clients that are not used any more, but may still wait for an answer

    async def fetch(self, key: Key, on_trouble: Callable[[], None] = lambda: None) -> Answer:
        """Fetch `key`, with retries, until there is a final answer or the service's timeout is over. Never raises.

        Calls `on_trouble` when an attempt has failed and another one follows.
        """
        last: Answer | None = None
        await self.prepare()
        waited: list[Wait | None] = []
        time_s = self._timeout_s[key.service]
        # Look just before the timeout; after it, the call is gone and nobody knows what it waited for.
        look = asyncio.get_running_loop().call_later(time_s - _LOOK_S, lambda: waited.append(self.waits_for(key)))
        try:
            async with asyncio.timeout(time_s):
                for attempt in count():
                    credentials = self._credentials
                    last = await self._attempt(key)
                    if last.outcome is Outcome.BAD_CREDENTIALS and attempt + 1 < ATTEMPTS:
                        await self.renew(credentials)
                    if last.outcome is not Outcome.THROTTLED and (last.outcome.is_final or attempt + 1 >= ATTEMPTS):
                        return last
                    on_trouble()
                    await asyncio.sleep(pause(attempt))
        except TimeoutError:
            pass
        finally:
            look.cancel()
        return in_time(key, last, Moment.now(self._clock), waited[-1] if waited else None)

    async def _attempt(self, key: Key) -> Answer:
        """Make one attempt."""
        asked = Moment.now(self._clock)
        region = region_of(key.name) or self._network.region
        try:
            response = await self._call(key.service, region, question(key), key)
        except TransportError as error:
            return no_answer(key, error, asked)
        except _NO_CLIENT as error:
            kind = Outcome.FAILED if region_of(key.name) is None else Outcome.INVALID
            text = f"{key} cannot be asked for: {type(error).__name__}; check name and region."
            return Answer(kind, asked, message=text)
        return found(key, response.body[BODY], asked) if response.error is None else refused(key, response, asked)

    async def _call(self, service: str, region: str | None, asked: Question, key: Key | None = None) -> AwsResponse:
        """Make one call; `key` is set if it is for one key only. Raises TransportError or one of `_NO_CLIENT`."""
        client = self._client(service, region)
        self.calls += 1
        if key is None:
            return await client.call(*asked)
        self._asked[key] = _Asked(client.where, Moment.now(self._clock))
        try:
            return await client.call(*asked)
        finally:
            self._asked.pop(key, None)

    def waits_for(self, key: Key) -> Wait | None:
        """Return how long the call for `key` has been under way and what it waits for; None if there is no call."""
        if (asked := self._asked.get(key)) is None:
            return None
        client = self._clients.get((key.service, region_of(key.name) or self._network.region))
        step = client.waits_for() if client else None
        text = not_in_time(key, step.text if step else f"{asked.where}: no answer in time; {VPC}")
        return Wait(asked.at.age(self._clock), text)

    async def fetch_many(self, keys: Sequence[Key]) -> dict[Key, Answer]:
        """Fetch many keys in few calls. Keys that fail are not in the result; fetch these one by one."""
        places: dict[tuple[str, str | None], list[Key]] = {}
        for key in keys:
            places.setdefault((key.service, region_of(key.name) or self._network.region), []).append(key)
        answers: dict[Key, Answer] = {}
        async with asyncio.TaskGroup() as batches:
            for (service, region), here in places.items():
                for some in batched(here, _MOST_AT_ONCE[service]):
                    batches.create_task(self._batch(service, region, some, answers))
        return answers

    async def _batch(self, service: str, region: str | None, keys: Sequence[Key], answers: dict[Key, Answer]) -> None:
        asked = Moment.now(self._clock)
        names = [key.selected_name for key in keys]
        question: Question = ("BatchGetSecretValue", {"SecretIdList": names})
        if service == SSM:
            question = ("GetParameters", {"Names": names, "WithDecryption": True})
        body, _ = await self._body(service, region, question)  # a failure shows when the keys are fetched one by one
        answers |= matched(keys, body, asked)

    async def fetch_path(self, path: str) -> tuple[dict[Key, Answer], str]:
        """Return all parameters below `path`, decrypted, and the error that cut the list short ("" if none did)."""
        answers: dict[Key, Answer] = {}
        token: dict[str, str] = {}
        for _ in range(_MOST_PAGES):
            asked = Moment.now(self._clock)
            below = {"Path": path, "Recursive": True, "WithDecryption": True, "MaxResults": MOST_PARAMETERS}
            body, failure = await self._body(SSM, self._network.region, ("GetParametersByPath", below | token))
            for member in body.get("Parameters", []):
                answers[Key(SSM, member["Name"])] = _found_parameter(member, asked)
            if not body.get("NextToken"):
                return answers, failure
            token = {"NextToken": body["NextToken"]}
        return answers, f"it has more than {_MOST_PAGES * MOST_PARAMETERS} parameters"

    async def _body(self, service: str, region: str | None, question: Question) -> tuple[dict[str, Any], str]:
        """Make one call, and retry while the service throttles. Return the JSON object, and the error ("" if none)."""
        await self.prepare()
        try:
            async with asyncio.timeout(self._timeout_s[service]):
                for attempt in count():
                    response = await self._call(service, region, question)
                    if response.error is None:
                        return object_in(response.body[BODY]), ""
                    if meaning_of(response.error) is not Meaning.THROTTLED:
                        return {}, response.error
                    await asyncio.sleep(pause(attempt))
        except (TimeoutError, TransportError, *_NO_CLIENT) as error:
            return {}, type(error).__name__
        raise AssertionError("unreachable")

    async def renew(self, old: EnvironmentCredentials | None = None) -> None:
        """Forget connections and credentials; the next call makes new ones. With `old`, only if it is still in use."""
        async with self._renewing:
            if old is not None and old is not self._credentials:
                return
            self._credentials = EnvironmentCredentials()
            self._clients.clear()
            await self._left.aclose()
            self._left, self._open = self._open, AsyncExitStack()

    async def prepare(self) -> None:
        """Read the credentials before the timeout of a call begins: if the SDK has to do it, loading it takes longer.

        The call that follows meets and reports the same error.
        """
        with contextlib.suppress(NoCredentials, TransportError, TimeoutError):
            async with asyncio.timeout(LOAD_S):
                await self._credentials.get()

    def _client(self, service: str, region: str | None) -> AwsClient:
        """Return the client of a service in a region (None: the environment's). Raises one of `_NO_CLIENT`."""
        client = self._clients.get((service, region))
        if client is None:
            if len(self._clients) >= MOST_CLIENTS:
                raise _TooManyRegions
            client = self._clients[service, region] = AwsClient(
                service,
                self._network,
                region=region,
                connect_s=CONNECT_S,
                read_s=READ_S,
                connections=self._connections,
                keeps_body=True,
                credentials=self._credentials,
                clock=self._clock,
            )
            self._open.push_async_callback(client.aclose)
        return client

    async def aclose(self) -> None:
        await self._left.aclose()
        await self._open.aclose()


def batched(keys: Sequence[Key], most: int) -> list[Sequence[Key]]:
    return [keys[start : start + most] for start in range(0, len(keys), most)]


def pause(attempt: int) -> float:
    return random.uniform(0.0, min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(attempt, 10)))  # noqa: S311 - jitter


def question(key: Key) -> Question:
    if key.service == SSM:
        return "GetParameter", {"Name": key.selected_name, "WithDecryption": key.decrypt}
    given = {"VersionId": key.version, "VersionStage": key.stage}
    return "GetSecretValue", {"SecretId": key.name, **{name: text for name, text in given.items() if text}}


def found(key: Key, body: bytes, asked: Moment) -> Answer:
    """Return the answer for the `body` of a successful call. Without a value (a proxy's page) it is UNAVAILABLE."""
    try:
        value_in(body)
    except ValueError:
        return Answer(Outcome.UNAVAILABLE, asked, message=f"{key} cannot be read now: the answer holds no value.")
    return Answer(Outcome.FOUND, asked, 200, body)


def _found_parameter(member: Mapping[str, Any], asked: Moment) -> Answer:
    """Return the answer that GetParameter would have given, for one parameter of a list."""
    return Answer(Outcome.FOUND, asked, 200, as_json({"Parameter": member}))


def matched(keys: Sequence[Key], body: Mapping[str, Any], asked: Moment) -> dict[Key, Answer]:
    """Return the answers that a list contains, by key. Parameters and secrets come in any order, with name and ARN."""
    answers = {}
    for key in keys:
        for member in body.get("Parameters", []):
            selector = member.get("Selector") or ""
            if key.selected_name in (f"{member.get('Name')}{selector}", f"{member.get('ARN')}{selector}"):
                answers[key] = _found_parameter(member, asked)
        for member in body.get("SecretValues", []):
            if key.name in (member.get("Name"), member.get("ARN")):
                answers[key] = found(key, as_json(member), asked)
    return answers


def region_of(name: str) -> str | None:
    """Return the region of an ARN (`arn:PARTITION:SERVICE:REGION:…`); None if `name` is not an ARN with a region."""
    parts = name.split(":")
    return parts[3] if len(parts) > 5 and parts[0] == "arn" and parts[3] else None
