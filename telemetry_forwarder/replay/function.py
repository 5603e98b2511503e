"""The handler of the replay function (replay/template.yaml): sends what the failover has kept, on many workers at once.

It is invoked with messages of SQS, of which it reports those that are not finished (`ReportBatchItemFailures`), or with
batches of objects by a Distributed Map of Step Functions, for which it raises an error if one is not finished. Both may
come again: the journal in S3 knows what was sent, so that only the rest is.
"""

import asyncio
import math
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson
from msgspec import Struct
from msgspec.structs import asdict

from telemetry_forwarder.clock import SystemClock
from telemetry_forwarder.errors import ConfigError, FailoverError, TransportError
from telemetry_forwarder.failover.parcels import word
from telemetry_forwarder.failover.s3_sqs import called, open_client
from telemetry_forwarder.log import Log
from telemetry_forwarder.replay.batch import Batch, Outcome, Result, Surroundings, Timing, WhenDone
from telemetry_forwarder.replay.destinations import settings_for_all
from telemetry_forwarder.replay.events import Message, Stored, batch_of, is_of_sqs, messages_in
from telemetry_forwarder.transports.aws_environment import endpoint_of
from telemetry_forwarder.transports.aws_session import new_session
from telemetry_forwarder.variables.failover_target import FailoverTarget, S3Prefix, SqsQueue
from telemetry_forwarder.variables.reading import BY_NAME
from telemetry_forwarder.variables.signal_types import HeaderList
from telemetry_forwarder.variables.table import Problem
from telemetry_forwarder.variables.types import SecretText
from telemetry_forwarder.wiring import Opened, open_all, open_secrets

_STATE = "TELEMETRY_FORWARDER_REPLAY_STATE"
_WHEN_DONE = "TELEMETRY_FORWARDER_REPLAY_WHEN_DONE"
_VARIABLES = "TELEMETRY_FORWARDER_REPLAY_VARIABLES"
_OWN = (_STATE, _WHEN_DONE, _VARIABLES)
_CONSEQUENCE = "The replay function does not run without it."
# The SDK may retry here, unlike in the extension; the invocation's time bounds it all the same.
_ATTEMPTS = 4
# After how many seconds a message comes again: twice as long each time, since an outage may last for hours. What is
# hopeless goes to the dead-letter queue soon.
_FIRST_DELAY_S, _LONGEST_DELAY_S, _HOPELESS_DELAY_S = 5.0, 3600.0, 1.0


class ReplayUnfinished(Exception):
    """Some objects of a batch of Step Functions are not finished, and may be when they are tried again."""


class ReplayImpossible(Exception):
    """Some objects of a batch of Step Functions cannot be sent, however often they are tried; the others are done."""


class Context(Protocol):
    """What is used of Lambda's context object."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int: ...


def handler(event: Any, context: Context) -> dict[str, Any]:
    """Handle an invocation. Raises NotUnderstood, ReplayUnfinished or ReplayImpossible."""
    global _function
    if _function is None:
        os.environ.update(sink_variables(os.environ.get(_VARIABLES, "")))  # the AWS SDK has some of them from there
        _function = ReplayFunction(os.environ)
    return _function.handle(event, context)


class _Open(Struct):
    """What is open from the first invocation on."""

    surroundings: Surroundings
    sqs: Any


class ReplayFunction:
    """The function: what it has opened stays open over invocations, in one task, since a context is left where entered.

    The event loop stands still between invocations, as the environment does.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._clock = SystemClock()
        self._runner = asyncio.Runner()
        self._open: _Open | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._log = Log("warning")

    def handle(self, event: Any, context: Context) -> dict[str, Any]:
        timing = Timing.of(context.get_remaining_time_in_millis() / 1000, self._clock)
        work = self._of_sqs if is_of_sqs(event) else self._of_step_functions
        return self._runner.run(work(event, timing, context.aws_request_id))

    async def _of_sqs(self, event: Mapping[str, Any], timing: Timing, by: str) -> dict[str, Any]:
        messages = messages_in(event)
        for message in messages:
            if message.fault:
                self._log.error(f"Message {message.id} is not understood: {message.fault}.")
        stored = [one for message in messages for one in message.stored]
        results = await self._replay(stored, timing, by)
        failed = {
            message: worst for message in messages if (worst := _worst(message, results)).outcome is not Outcome.DONE
        }
        await self._put_off(failed, timing)
        return {"batchItemFailures": [{"itemIdentifier": message.id} for message in failed]}

    async def _of_step_functions(self, event: Any, timing: Timing, by: str) -> dict[str, Any]:
        stored = batch_of(event)
        results = await self._replay(stored, timing, by)
        outcomes = Counter(result.outcome for result in results.values())
        for outcome, kind in ((Outcome.LATER, ReplayUnfinished), (Outcome.HOPELESS, ReplayImpossible)):
            if outcomes[outcome]:
                first = next(one for one, result in results.items() if result.outcome is outcome)
                raise kind(f"{outcomes[outcome]} of {len(results)} objects; the first is {first}. The log says why.")
        return {"Objects": len(results), "Done": outcomes[Outcome.DONE]}

    async def _replay(self, stored: Sequence[Stored], timing: Timing, by: str) -> dict[Stored, Result]:
        """Send what is stored; return what came of each."""
        if not stored:
            return {}
        async with asyncio.timeout_at(timing.end_at):
            opened = await self._opened()
        # A request that Lambda repeats has the same id, and may not take the claim of the one before for its own.
        batch = Batch(opened.surroundings, stored, timing, f"{by}-{random.getrandbits(32):08x}")
        await batch.run()
        outcomes = Counter(result.outcome for result in batch.results.values())
        self._log.note("Replay", parcels={**outcomes}, records=asdict(batch.totals))
        return batch.results

    async def _put_off(self, failed: Mapping[Message, Result], timing: Timing) -> None:
        """Let each failed message come again after its own time, and not after that of the queue."""
        if not failed:
            return
        try:
            async with asyncio.timeout_at(timing.end_at):
                opened = await self._opened()
                async with asyncio.TaskGroup() as group:
                    for message, result in failed.items():
                        group.create_task(self._put_off_one(opened, message, delay_s(result, message.receives)))
        except TimeoutError:
            self._log.warning("Not all messages could be put off in time; they come again after the queue's own time.")

    async def _put_off_one(self, opened: _Open, message: Message, seconds: float) -> None:
        *_, region, account, name = message.queue_arn.split(":")  # arn:aws:sqs:REGION:ACCOUNT:NAME
        url = f"{endpoint_of('sqs', region)}{account}/{name}"
        parameters = {"QueueUrl": url, "ReceiptHandle": message.receipt, "VisibilityTimeout": math.ceil(seconds)}
        try:
            await called(opened.sqs, "change_message_visibility", parameters)
        except (FailoverError, TransportError) as error:
            self._log.warning(f"Message {message.id} comes again after the queue's own time, not put off: {error}.")

    # --- what stays open ---

    async def _opened(self) -> _Open:
        """Open all, the first time. Raises ConfigError."""
        if self._open is None:
            loop = asyncio.get_running_loop()
            ready: asyncio.Future[_Open] = loop.create_future()
            self._keeper = loop.create_task(self._keep_open(ready))
            self._open = await ready
        return self._open

    async def _keep_open(self, ready: asyncio.Future[_Open]) -> None:
        try:
            async with Opened() as opened:
                ready.set_result(await self._open_all(opened))
                await asyncio.get_running_loop().create_future()  # until the environment ends
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            self._open = None

    async def _open_all(self, opened: Opened) -> _Open:
        state, when_done = _own_settings(self._environ)
        settings = settings_for_all({name: value for name, value in self._environ.items() if name not in _OWN})
        self._log = log = Log(settings.log_level)
        for problem in settings.problems:
            log.error(str(problem))
        secrets = await open_secrets(settings, (), opened, self._clock, log)
        pairs = await open_all(settings.destinations, settings, opened, log, secrets)
        session = new_session()
        s3 = await opened.enter(open_client(state, settings.network, lambda: session, attempts=_ATTEMPTS))
        queue = SqsQueue("", settings.origin.region)
        sqs = await opened.enter(open_client(queue, settings.network, lambda: session, attempts=_ATTEMPTS))
        sinks = {word(destination.sink.name): (destination, transport) for destination, transport in pairs}
        surroundings = Surroundings(sinks=sinks, s3=s3, state=state, when_done=when_done, clock=self._clock, log=log)
        return _Open(surroundings, sqs)


def sink_variables(text: str) -> dict[str, str]:
    """Return the sinks' variables in a JSON object, which is one parameter of the template. Raises ConfigError.

    A secret by value is refused: whoever may look at the stack or the function could read it.
    """
    try:
        found = orjson.loads(text or "{}")
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise ValueError
    except ValueError:
        allowed = """a JSON object of texts, such as `{"SPLUNK_HEC_URL": "https://host:8088"}`"""
        raise ConfigError([Problem(_VARIABLES, "not readable", allowed, _CONSEQUENCE)]) from None
    open_secrets_in = [name for name in found if name in BY_NAME and isinstance(BY_NAME[name].kind, _SECRET_KINDS)]
    if open_secrets_in:
        names = ", ".join(open_secrets_in)
        allowed = f"references to secrets alone, such as `{open_secrets_in[0]}_SECRET_ARN`"
        raise ConfigError([Problem(_VARIABLES, f"with the value of a secret in it ({names})", allowed, _CONSEQUENCE)])
    return found


_SECRET_KINDS = (SecretText, HeaderList)


def _own_settings(environ: Mapping[str, str]) -> tuple[S3Prefix, WhenDone]:
    """Return where the journal is, and what becomes of finished objects. Raises ConfigError."""
    given = environ.get(_STATE, "")
    try:
        state = FailoverTarget().read(given)
    except ValueError:
        state = None
    if not isinstance(state, S3Prefix):
        what = f"{given!r}" if given else "not set"
        raise ConfigError([Problem(_STATE, what, "`s3://BUCKET[/PREFIX]`, not below the failover's", _CONSEQUENCE)])
    word_given = environ.get(_WHEN_DONE, "") or WhenDone.TAG
    try:
        return state, WhenDone(word_given)
    except ValueError:
        allowed = ", ".join(f"`{one}`" for one in WhenDone)
        raise ConfigError([Problem(_WHEN_DONE, f"{word_given!r}", allowed, _CONSEQUENCE)]) from None


def _worst(message: Message, results: Mapping[Stored, Result]) -> Result:
    """Return the result of a message: that of the parcel which keeps it longest from being done."""
    if message.fault:
        return Result(Outcome.HOPELESS)
    found = [results[one] for one in message.stored]
    for outcome in (Outcome.LATER, Outcome.HOPELESS):  # while one may be sent later, the others come again with it
        if same := [one for one in found if one.outcome is outcome]:
            return max(same, key=lambda one: one.free_in_s or math.inf)
    return Result(Outcome.DONE)


def delay_s(result: Result, receives: int) -> float:
    """Return after how many seconds a message comes again that was received `receives` times."""
    if result.outcome is Outcome.HOPELESS:
        return _HOPELESS_DELAY_S
    backoff = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(receives - 1, 16))
    delay = backoff * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, protects nothing
    return delay if result.free_in_s is None else min(delay, result.free_in_s + 1.0)


_function: ReplayFunction | None = None
