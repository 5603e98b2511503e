"""The scenarios: run the extension in environments of several kinds, one after the other, and record what happens."""

import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from local_lambda.conformance import machine, surroundings
from local_lambda.conformance.batches import Batch, hypothetical_batches, line_batch, rare_batches
from local_lambda.conformance.function.app import HOLDING
from local_lambda.conformance.model import PORT, ConformanceError, Delivered, Limits, Subject
from local_lambda.conformance.observations import Observations, Post
from local_lambda.conformance.posting import Poster
from local_lambda.conformance.surroundings import Surroundings
from local_lambda.errors import InitFailed, WaitedTooLong
from local_lambda.local_lambda import LocalLambda
from local_lambda.rules import environment
from local_lambda.rules.places import of_lambda
from local_lambda.runtimes import choose
from local_lambda.settings import Function, Platform

FUNCTION = Path(__file__).parent / "function"
_RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
_MARK = "LAMBDA_CONFORMANCE_RUN"  # a variable by which leftover processes are found
_FREEZES_S = (0.0, 0.1, 0.2)  # before each invocation; the longest one follows
_QUIET_S = (1.0, 5.0)  # least and most
_QUARTERS = 4
_ARRIVAL_S = 2.0
_OTHER_PORTS = 3
_GONE_S = 1.0
_POLL_S = 0.02

Found = TypeVar("Found")
_Act = Callable[["_Place"], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """The environment and the data that a scenario works with."""

    env: LocalLambda
    observed: Observations
    limits: Limits
    folder: Path
    call: Mapping[str, Any]  # added to every event
    mute: asyncio.Event  # while set, the platform sends no telemetry

    async def invoke(self, **event: Any) -> bool:
        """Invoke the function; return whether the invocation succeeded and the environment goes on."""
        result = await self.env.invoke({**self.call, **event})
        self.observed.invocations.append(result)
        return result.status == "success"

    def marker(self) -> str:
        """Return a unique text, for a log line that should arrive."""
        text = f"conformance marker {uuid.uuid4().hex}"
        self.observed.markers.append(text)
        return text


class Scenarios:
    """The observations of each scenario, made once, on first use."""

    def __init__(self, subject: Subject, limits: Limits, delivered: Delivered | None) -> None:
        self._subject = subject
        self._limits = limits
        self._delivered = delivered
        self._made: dict[str, Observations] = {}

    async def get(self, kind: str) -> Observations:
        """Return the observations of this scenario. Raises ConformanceError if the suite's own function fails."""
        if kind not in self._made:
            self._made[kind] = await self._make(kind)
            # A port that was free when it was chosen may have been taken since, if only by a connection.
            for _ in range(_OTHER_PORTS if self._chooses_port else 0):
                if self._made[kind].excuse != surroundings.PORT_TAKEN:
                    break
                self._made[kind] = await self._make(kind)
        return self._made[kind]

    @property
    def _chooses_port(self) -> bool:
        return any(PORT in value for value in self._subject.environment.values())

    async def _make(self, kind: str) -> Observations:
        match kind:
            case "warm":
                return await self._play(_invoke_and_freeze)
            case "flooded":
                return await self._feed(_post_rare)
            case "hypothetical":
                return await self._feed(_post_hypothetical)
            case "reset":
                return await self._play(_time_out)
            case "started_again":
                return await self._play(_nothing)
            case "uninvoked":
                return await self._play(_nothing, init_type="provisioned-concurrency")
            case "no_telemetry":
                return await self._play(_invoke_once, platform={"telemetry_supported": False})
            case "managed":
                return await self._play(_invoke_once, init_type="lambda-managed-instances")
            case "disclosed":
                return await self._disclosed()
            case "hidden_again":
                return await self._play(_invoke_and_freeze)
        raise KeyError(kind)

    async def _disclosed(self) -> Observations:
        """Show the extension the variables that Lambda withholds from extensions."""
        function = self._function({})
        given = environment.for_runtime(
            function, choose(function, None), of_lambda(""), api="", log_stream="local/[$LATEST]0", log_fd=None
        )
        hidden = {name: value for name, value in given.items() if name not in environment.strip(given)}
        hidden |= {name: "hidden" for name in environment.NOT_FOR_EXTENSIONS if name not in hidden}
        return await self._play(_invoke_and_freeze, platform={"extension_variables": hidden})

    async def _feed(self, post: _Act) -> Observations:
        async def act(place: _Place) -> None:
            await _while_running(place, post)

        return await self._play(act, timeout_s=self._limits.function_timeout_s + 10.0)

    def _function(self, variables: Mapping[str, str], **settings: Any) -> Function:
        # The runtime is named, because a layer may bring one of its own, which is not for this function.
        given: dict[str, Any] = {
            "timeout_s": self._limits.function_timeout_s,
            "name": "conformance",
            "runtime": _RUNTIME,
            **settings,
        }
        return Function(code=FUNCTION, environment={**self._variables(), **variables}, **given)

    def _variables(self) -> dict[str, str]:
        port = str(machine.free_port()) if self._chooses_port else ""
        return {name: value.replace(PORT, port) for name, value in self._subject.environment.items()}

    async def _play(self, act: _Act, *, platform: Mapping[str, Any] | None = None, **function: Any) -> Observations:
        limits, mark, mute = self._limits, uuid.uuid4().hex, asyncio.Event()
        own = self._subject.function
        with tempfile.TemporaryDirectory() as folder:
            settings = Platform(
                init_limit_s=limits.init_s,
                long_init_limit_s=limits.init_s,
                # A control group would also kill what has left the process group, and so hide it.
                memory_limit="off",
                freeze_with="signal",
                shared_paths=[*self._subject.shared, *([own.code.resolve()] if own else []), Path(folder)],
                spoil=lambda batch: [] if mute.is_set() else batch,
                **(platform or {}),
            )
            described = self._function({_MARK: mark}, **function)
            # The extension inherits the mark, so that processes which outlive the environment can be found by it.
            env = LocalLambda(described, self._executables(), platform=settings, opt=self._subject.opt)
            observed = Observations(name=self._subject.extension.name, surroundings=self._surroundings(env))
            env.transcript = observed.transcript
            place = _Place(env=env, observed=observed, limits=limits, folder=Path(folder), call=self._call(), mute=mute)
            try:
                with suppress(InitFailed):
                    async with env:
                        observed.listeners, observed.subscriptions = machine.listeners(), env.subscriptions
                        await act(place)
                        observed.end = await env.shutdown()
            finally:
                observed.left_behind = await _end_leftovers(f"{_MARK}={mark}")
            _note(env, observed)
            _check_function(observed)
            observed.missing = await self._missing(observed, env.held_telemetry)
            return observed

    def _executables(self) -> list[Path]:
        """Return the extension, unless it lies where the environment finds it by itself."""
        subject = self._subject
        lies_there = subject.opt is not None and subject.extension.parent == subject.opt / "extensions"
        return [] if lies_there else [subject.extension]

    def _surroundings(self, env: LocalLambda) -> Surroundings:
        host = env.telemetry_host
        taken = {listener.port for listener in machine.listeners() or () if listener.is_reached_at(host)}
        return Surroundings(
            why_not_own=f"environments share its files ({env.why_shared})." if env.why_shared else "",
            host=host,
            machines_host=surroundings.machines_host(),
            opt=self._subject.opt,
            taken=frozenset(taken),
            named=surroundings.named_paths(self._subject.extension),
        )

    def _call(self) -> Mapping[str, Any]:
        own = self._subject.function
        if own is None:
            return {}
        return {"call": {"code": str(own.code.resolve()), "handler": own.handler, "event": own.event}}

    async def _missing(self, observed: Observations, held: Collection[bytes]) -> list[str] | None:
        """Wait until all markers have reached the destination; return those that did not arrive.

        Records that the platform still holds or has dropped were not acknowledged, so they cannot be missing.
        """
        if self._delivered is None or observed.end is None or observed.events("platform.logsDropped"):
            return None
        delivered, unsent = self._delivered, b"\n".join(held).decode("utf-8", "replace")
        observed.markers = [marker for marker in observed.markers if marker not in unsent]
        return await _last_look(lambda: _not_in(observed.markers, delivered()), within_s=_ARRIVAL_S)


def _note(env: LocalLambda, observed: Observations) -> None:
    observed.init, observed.telemetry = env.init_outcome, env.telemetry
    observed.output, observed.resets = env.extension_output(observed.name), env.resets
    observed.subscriptions = env.subscriptions
    observed.started = observed.init is None or observed.init.error_type != "Extension.LaunchError"


def _check_function(observed: Observations) -> None:
    """Raise ConformanceError if the function itself does not work."""
    outcome = observed.init
    error_type = (outcome.error_type if outcome else None) or ""
    # Runtime.Unknown only means that the time was up.
    if outcome and error_type.startswith("Runtime.") and error_type != "Runtime.Unknown":
        raise ConformanceError(f"The suite's function did not start ({error_type}): {outcome.message}")
    for result in observed.invocations:
        if result.status == "success" and result.function_error:
            said = result.payload.decode("utf-8", "replace")
            raise ConformanceError(f"The function failed, so nothing can be said about the extension: {said}")


def _not_in(markers: Collection[str], texts: Collection[str]) -> list[str]:
    everything = "\n".join(texts)
    return [marker for marker in markers if marker not in everything]


async def _last_look(look: Callable[[], Found], *, within_s: float) -> Found:
    """Poll until `look` finds nothing, for things that send no notice; return what was found last."""
    give_up_at = time.monotonic() + within_s
    found = look()
    while found and time.monotonic() < give_up_at:
        await asyncio.sleep(_POLL_S)
        found = look()
    return found


async def _end_leftovers(variable: str) -> dict[int, str] | None:
    """Return the processes that still run shortly after the end of their environment, and kill them."""
    left = await _last_look(lambda: machine.processes_with(variable), within_s=_GONE_S)
    if not left:  # a process that begins another program has no environment for a moment, so look again
        await asyncio.sleep(_POLL_S)
        left = await _last_look(lambda: machine.processes_with(variable), within_s=_GONE_S)
    for pid in left or ():
        machine.kill(pid)
    if left:
        await _last_look(lambda: machine.processes_with(variable), within_s=_GONE_S)
    return left


# The scenarios


async def _nothing(place: _Place) -> None:
    return


async def _invoke_once(place: _Place) -> None:
    await place.invoke(lines=["one line"])


async def _invoke_and_freeze(place: _Place) -> None:
    for pause in (*_FREEZES_S, place.limits.freeze_s):
        await asyncio.sleep(pause)  # frozen
        marker = place.marker()
        if not await place.invoke(lines=[marker]):
            return


async def _time_out(place: _Place) -> None:
    if await place.invoke() and not await place.invoke(sleep=60):
        await place.invoke()


async def _while_running(place: _Place, act: _Act) -> None:
    """Keep the function, and with it the extension, running during `act`."""
    if not place.observed.subscriptions:
        return
    gate = place.folder / "gate"
    async with asyncio.TaskGroup() as tasks:
        invocation = tasks.create_task(place.invoke(hold=str(gate)))
        try:
            await place.env.event(_is_holding, timeout_s=place.limits.function_timeout_s)
            place.observed.was_fed = True
            await act(place)
        except WaitedTooLong:
            pass  # `was_fed` says so
        finally:
            gate.touch()
    await invocation


def _is_holding(event: Mapping[str, Any]) -> bool:
    return event["type"] == "function" and str(event["record"]).startswith(HOLDING)


async def _post_rare(place: _Place) -> None:
    """Send the rare batches, then one batch several times, then nothing."""
    observed = place.observed
    subscription = observed.subscriptions[0]
    async with _poster(place) as poster:
        if not await _post_all(place, poster, rare_batches(subscription, time.time())):
            return
        body = line_batch(subscription, time.time(), place.marker)
        observed.repeated = await poster.post_twice("a batch that was sent before", body)
    await _listen(place)


async def _post_hypothetical(place: _Place) -> None:
    async with _poster(place) as poster:
        await _post_all(place, poster, hypothetical_batches(place.observed.subscriptions[0], time.time()))


@asynccontextmanager
async def _poster(place: _Place) -> AsyncIterator[Poster]:
    """Return a sender to the first subscription's listener."""
    async with aiohttp.ClientSession() as session:
        yield Poster(place.observed.subscriptions[0], place.observed.surroundings.host, session)


async def _post_all(place: _Place, poster: Poster, batches: Iterable[Batch]) -> bool:
    """Send batches until one is not accepted; return whether all were."""
    for what, body in batches:
        post = await poster.post(what, body)
        if await _has_ended(place):
            post = Post(what, None, "its process ended", has_ended=True)
        place.observed.posts.append(post)
        if not post.is_accepted:
            return False
    return True


async def _has_ended(place: _Place) -> bool:
    """Whether the process has ended. A process that dies of a batch may do so just after its answer."""
    with suppress(WaitedTooLong):
        await place.env.until(lambda: place.observed.name not in place.env.pids, timeout_s=_POLL_S)
    return place.observed.name not in place.env.pids


async def _listen(place: _Place) -> None:
    """Count the lines that the extension writes while nothing happens; if it does, also while it hears nothing."""
    observed = place.observed
    if "extension" not in observed.subscribed_types or observed.name not in place.env.pids:
        return
    rounds = _QUARTERS * max(one.timeout_ms for one in observed.subscriptions) / 1000
    observed.quiet_s = min(max(rounds, _QUIET_S[0]), _QUIET_S[1])
    observed.own_lines = await _count_lines(place)
    if all(observed.own_lines):
        place.mute.set()
        await asyncio.sleep(observed.quiet_s / _QUARTERS)  # what is under way
        observed.unprompted_lines = await _count_lines(place)
        place.mute.clear()


async def _count_lines(place: _Place) -> list[int]:
    counts = []
    for _ in range(_QUARTERS):
        before = len(place.env.extension_output(place.observed.name))
        await asyncio.sleep(place.observed.quiet_s / _QUARTERS)
        counts.append(len(place.env.extension_output(place.observed.name)) - before)
    return counts
