"""The secrets service: one cache for the function, which asks over the port, and for the forwarder's own settings.

The port is served at once, and the clients of AWS are made when the first secret is asked for.
"""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace

from telemetry_forwarder.clock import Clock, Moment
from telemetry_forwarder.errors import SecretDenied, SecretError, SecretNotFound, SecretUnavailable
from telemetry_forwarder.interfaces import Cause, DropReason, cause
from telemetry_forwarder.log import Log, where
from telemetry_forwarder.records.record import Event
from telemetry_forwarder.secrets.answers import Answer, Outcome
from telemetry_forwarder.secrets.cache import Cache
from telemetry_forwarder.secrets.fetch import Upstream
from telemetry_forwarder.secrets.names import Key, is_allowed, key_of_reference
from telemetry_forwarder.secrets.server import Endpoint, Guard, serving
from telemetry_forwarder.secrets.settings import SecretsSettings
from telemetry_forwarder.secrets.tokens import token_of
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.variables.types import Secret, SecretReference

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
        self._upstream = Upstream(network, timeout_s=settings.timeout_s, connections=settings.connections, clock=clock)
        self._tasks = tasks
        self._clock = clock
        self._log = log
        self._is_restored = not settings.is_snap_start
        self._said: Moment | None = None
        self._warming: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._own: set[Key] = set()  # for the forwarder's own settings; whoever reads one reports its failure
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
        wait = self._upstream.waits_for(key_of_reference(reference))
        if wait is None:
            return None
        return replace(cause(wait.text, DropReason.SECRET_UNREADABLE), is_normal=wait.is_normal)

    def warm(self) -> None:
        """Read the credentials and prefetch the configured keys, in the background."""
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
        return {**self.cache.statistics(), "calls": self._upstream.calls}

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
        await self._upstream.aclose()

    # --- private ---

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the TaskGroup would cancel everything else
            self._log.error("A bug in the secrets cache. Please report it.", **where(error))

    async def _fetch(self, key: Key, on_trouble: Callable[[], None]) -> Answer:
        answer = await self._upstream.fetch(key, on_trouble)
        if not answer.outcome.is_final and key not in self._own:
            self._say(answer.message)
        return answer

    def _say(self, message: str) -> None:
        """Log a failed fetch: once a minute as a warning, because the next most likely fails for the same reason."""
        is_first = self._said is None or self._said.age(self._clock) >= SILENCE_S
        if is_first:
            self._said = Moment.now(self._clock)
        (self._log.warning if is_first else self._log.debug)(message)

    async def _warm(self) -> None:
        if self._is_restored and self._settings.is_served:
            await self._prefetch()
        await self._upstream.prepare()

    async def _renew(self) -> None:
        """Make new connections and credentials, because the old ones are part of the snapshot; prefetch again."""
        await self._upstream.renew()
        await self._prefetch()

    async def _prefetch(self) -> None:
        paths = [self.spawn(self._prefetch_path(path)) for path in self._settings.prefetch.paths]
        allowed = [key for key in self._settings.prefetch.keys if self._is_allowed(key)]
        # From here on, a caller that asks for one of them waits for these calls.
        for answer in (await self.cache.prefetch(allowed, self._upstream.fetch_many)).values():
            if not answer.is_found:
                self._log.warning(answer.message)
        if paths:
            await asyncio.wait(paths)

    async def _prefetch_path(self, path: str) -> None:
        answers, failure = await self._upstream.fetch_path(path)
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
