"""The secrets service: one cache for the function, which asks over the port, and for the forwarder's own settings.

The port is served at once. botocore is loaded in a thread meanwhile (a third of a second), and requests wait for it.
"""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from telemetry_forwarder.clock import Clock, Moment
from telemetry_forwarder.errors import SecretDenied, SecretError, SecretNotFound, SecretUnavailable
from telemetry_forwarder.interfaces import Cause, DropReason, cause
from telemetry_forwarder.log import Log, where
from telemetry_forwarder.records.record import Event
from telemetry_forwarder.secrets.answers import Answer, Outcome
from telemetry_forwarder.secrets.cache import Cache
from telemetry_forwarder.secrets.names import Key, is_allowed, key_of_reference
from telemetry_forwarder.secrets.server import Endpoint, Guard, serving
from telemetry_forwarder.secrets.settings import LOAD_S, SecretsSettings
from telemetry_forwarder.secrets.tokens import token_of
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.variables.types import Secret, SecretReference

if TYPE_CHECKING:
    from telemetry_forwarder.secrets.fetch import Upstream


# The longest that INIT waits for the service to get ready; all of INIT may take 10 s.
_WARM_S = 3.0
SILENCE_S = 60.0


class SecretsService:
    """The cache, and the clients of AWS behind it."""

    def __init__(
        self,
        settings: SecretsSettings,
        network: Network,
        *,
        tasks: asyncio.TaskGroup,
        clock: Clock,
        log: Log,
    ) -> None:
        self._settings = settings
        self._network = network
        self._tasks = tasks
        self._clock = clock
        self._log = log
        self._upstream: Upstream | None = None
        self._loading = asyncio.Lock()
        self._is_restored = not settings.is_snap_start
        self._said: Moment | None = None
        self._warming: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._own: set[Key] = set()  # for the forwarder's own settings; whoever reads one reports its failure
        self._began = Moment.now(clock)
        self.cache = Cache(
            self._fetch, policy=settings.policy, clock=clock, spawn=self.spawn, keeps=not settings.is_snap_start
        )

    async def fetch(self, reference: SecretReference, *, fresh: bool = False) -> Secret:
        """Return the token that one of the forwarder's own settings refers to; with `fresh`, not from the cache.

        Raises SecretNotFound, SecretDenied or SecretUnavailable; the text names the reference and says what to do.
        """
        key = key_of_reference(reference)
        self._own.add(key)
        answer = await self.cache.get(key, fresh=fresh, takes_stale=not fresh)
        if not answer.is_found:
            raise _error_of(answer)
        return token_of(reference, answer)

    def waits_for(self, reference: SecretReference) -> Cause | None:
        """Return what the reading of one of the forwarder's own secrets waits for; None if it is not being read.

        The destination is not to blame for this delay. It is normal at the start, and reported only if it is long.
        """
        key = key_of_reference(reference)
        if self._upstream is None:
            return Cause(
                "sdk",
                f"{key} has not been read yet: the AWS SDK is still being loaded; with more memory that is faster",
                DropReason.SECRET_UNREADABLE,
                is_normal=self._began.age(self._clock) < LOAD_S,
            )
        wait = self._upstream.waits_for(key)
        if wait is None:
            return None
        return replace(cause(wait.text, DropReason.SECRET_UNREADABLE), is_normal=wait.is_normal)

    def warm(self) -> None:
        """Load the SDK and prefetch the configured keys, in the background."""
        self._warming = self.spawn(self._warm())

    async def wait_until_warm(self) -> None:
        """Wait for `warm` to finish, at most `_WARM_S`, so that the first invocation need not wait for it."""
        if self._warming is not None:
            await asyncio.wait([self._warming], timeout=_WARM_S)

    def on_events(self, events: Sequence[Event]) -> None:
        """Look for the event of a restore from a snapshot."""
        if any(event.type == "platform.restoreStart" for event in events):
            self.on_restore()

    def on_restore(self) -> None:
        """Forget all that was fetched before the snapshot: it is as old as the snapshot, and every copy has the same.

        In a SnapStart environment nothing is kept until this is called: by the telemetry of the restore, which may come
        late, or by the first INVOKE, which always comes. The first call counts.
        """
        if not self._is_restored:
            self._is_restored = True
            self.cache.drop_all()
            self.spawn(self._renew())

    def statistics(self) -> dict[str, Any]:
        return {**self.cache.statistics(), "calls": self._upstream.calls if self._upstream else 0}

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in the background. An exception in it is a bug; it is logged and ends nothing else."""
        task = self._tasks.create_task(self._guarded(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: work.close())  # for a task that was cancelled before `work` began
        return task

    def stop(self) -> None:
        for task in self._running:
            task.cancel()

    async def aclose(self) -> None:
        if self._upstream is not None:
            await self._upstream.aclose()

    # --- private ---

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the TaskGroup would cancel everything else
            self._log.error("A bug in the secrets cache. Please report it.", **where(error))

    async def _fetch(self, key: Key, on_trouble: Callable[[], None]) -> Answer:
        began = Moment.now(self._clock)
        try:
            async with asyncio.timeout(LOAD_S):
                upstream = await self._ready()
        except TimeoutError:
            text = f"{key} was not read in time: the AWS SDK is still being loaded."
            return Answer(Outcome.TIMED_OUT, began, message=text)
        answer = await upstream.fetch(key, on_trouble)
        if not answer.outcome.is_final and key not in self._own:
            self._say(answer.message)
        return answer

    def _say(self, message: str) -> None:
        """Log a failed fetch: once a minute as a warning, because the next most likely fails for the same reason."""
        is_first = self._said is None or self._said.age(self._clock) >= SILENCE_S
        if is_first:
            self._said = Moment.now(self._clock)
        (self._log.warning if is_first else self._log.debug)(message)

    async def _ready(self) -> "Upstream":
        """Return the clients of AWS; load the SDK at the first call."""
        async with self._loading:
            if self._upstream is None:
                kind = await asyncio.to_thread(load)
                self._upstream = kind(
                    self._network,
                    timeout_s=self._settings.timeout_s,
                    connections=self._settings.connections,
                    clock=self._clock,
                )
            return self._upstream

    async def _warm(self) -> None:
        if self._is_restored and self._settings.is_served:
            await self._prefetch()
        await self._ready()

    async def _renew(self) -> None:
        """Make new connections and credentials, because the old ones are part of the snapshot; prefetch again."""
        await (await self._ready()).renew()
        await self._prefetch()

    async def _prefetch(self) -> None:
        paths = [self.spawn(self._prefetch_path(path)) for path in self._settings.prefetch.paths]
        allowed = [key for key in self._settings.prefetch.keys if self._is_allowed(key)]
        # From here on, a caller that asks for one of them waits for these calls, even while the SDK is being loaded.
        for answer in (await self.cache.prefetch(allowed, self._fetch_many)).values():
            if not answer.is_found:
                self._log.warning(answer.message)
        if paths:
            await asyncio.wait(paths)

    async def _fetch_many(self, keys: Sequence[Key]) -> dict[Key, Answer]:
        return await (await self._ready()).fetch_many(keys)

    async def _prefetch_path(self, path: str) -> None:
        answers, failure = await (await self._ready()).fetch_path(path)
        for key, answer in answers.items():
            if is_allowed(key, self._settings.allow):
                self.cache.put(key, answer)
        if failure or not answers:
            self._log.warning(f"Not all of {path}/* was fetched beforehand: {failure or 'there is nothing'}.")

    def _is_allowed(self, key: Key) -> bool:
        if is_allowed(key, self._settings.allow):
            return True
        self._log.warning(f"{key} is not fetched beforehand: TELEMETRY_FORWARDER_SECRETS_ALLOW does not name it.")
        return False


def load() -> "type[Upstream]":
    """Import the clients of AWS; call this in a thread, because importing botocore takes long."""
    from telemetry_forwarder.secrets.fetch import Upstream, warm_models

    warm_models()
    return Upstream


def _error_of(answer: Answer) -> SecretError:
    """Return the error for an answer without a value to one of the forwarder's own settings."""
    match answer.outcome:
        case Outcome.NOT_FOUND | Outcome.INVALID | Outcome.FAILED:
            return SecretNotFound(answer.message)
        case Outcome.DENIED | Outcome.BAD_CREDENTIALS:
            return SecretDenied(answer.message)
        case _:
            return SecretUnavailable(answer.message)


@asynccontextmanager
async def open_secrets_service(
    settings: SecretsSettings,
    listeners: Sequence[socket.socket],
    network: Network,
    *,
    clock: Clock,
    log: Log,
) -> AsyncIterator[SecretsService]:
    """Open the cache and serve it on `listeners`, which already listen; leaving the context ends both.

    From then on no core file is written, because it would contain the values.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    failure = None
    async with asyncio.TaskGroup() as tasks:
        service = SecretsService(settings, network, tasks=tasks, clock=clock, log=log)
        try:
            async with serving(listeners, _endpoint_of(service, settings, log)):
                service.warm()
                yield service
        except BaseException as error:  # noqa: BLE001 - raised below, because the TaskGroup would wrap it in a group
            failure = error
        finally:
            service.stop()
            await service.aclose()
    if failure is not None:
        raise failure


def _endpoint_of(service: SecretsService, settings: SecretsSettings, log: Log) -> Endpoint:
    is_open = settings.mode == "open"
    if not is_open and settings.is_served and not settings.tokens:
        log.error("TELEMETRY_FORWARDER_SECRETS is token, but there is no AWS_SESSION_TOKEN: every request is refused.")
    guard = Guard(tokens=None if is_open else settings.tokens, allow=settings.allow)
    endpoint = Endpoint(service.cache, guard, spawn=service.spawn, stats=lambda: statistics())

    def statistics() -> dict[str, Any]:
        shared = {"refused": endpoint.refused, "waiting": endpoint.waiting, "connections": len(endpoint.connections)}
        return {**service.statistics(), **shared}

    return endpoint
