"""Open what a run needs, from Settings: transports, secrets, failover, spool. Log and leave out what fails."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from socket import socket
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.delivery.worker import Worker
from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.intake.intake import Intake
from telemetry_forwarder.intake.router import Router
from telemetry_forwarder.interfaces import LOGS, Destination, HttpDelivery, Transport, taken_by, warm
from telemetry_forwarder.ledger import IntakeCounts
from telemetry_forwarder.log import Log, where
from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.handover import Handover
from telemetry_forwarder.records.record import Origin, Signal
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.spool.backlog import Backlog
from telemetry_forwarder.spool.files import SegmentFiles
from telemetry_forwarder.spool.segments import DERIVER, Owner
from telemetry_forwarder.spool.spool import Spool
from telemetry_forwarder.transports.stack import open_transport
from telemetry_forwarder.turns import Turns
from telemetry_forwarder.variables.table import SNAP_START

if TYPE_CHECKING:
    from telemetry_forwarder.failover.keeper import Failover
    from telemetry_forwarder.intake.datagrams import Datagrams
    from telemetry_forwarder.intake.deriving import Deriving
    from telemetry_forwarder.lifecycle.reporting import Reporting
    from telemetry_forwarder.secrets.service import SecretsService
    from telemetry_forwarder.signals.signals import Signals

# The longest time to open a third party's transport; all of INIT may take 10 s. Our own transports wait for nothing.
_OPEN_S = 2.0
# How often the sinks that take metrics get those of the ledger, unless the user sets a period.
_LEDGER_PERIOD_S = 60.0
_Entered = TypeVar("_Entered")


class Opened:
    """Contexts that were entered, and are left in reverse order, each with the error that is under way.

    It is `contextlib.AsyncExitStack` but for contexts that swallow errors. That one loads `inspect` on CPython 3.15, to
    look two methods up: 4 ms while an invocation waits.
    """

    def __init__(self) -> None:
        self._exits: list[Callable[..., Awaitable[object]]] = []

    async def enter(self, context: AbstractAsyncContextManager[_Entered]) -> _Entered:
        entered = await context.__aenter__()
        self._exits.append(context.__aexit__)
        return entered

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        failure = error
        while self._exits:
            try:
                await self._exits.pop()(type(failure) if failure else None, failure, traceback)
            except BaseException as later:  # noqa: BLE001 - the others have to be left too; then it is raised
                failure = later
        if failure is not error and failure is not None:
            raise failure


async def open_all(
    destinations: Iterable[Destination[Any, Any]],
    settings: Settings,
    opened: Opened,
    log: Log,
    secrets_service: "SecretsService | None" = None,
    turns: Turns | None = None,
) -> list[tuple[Destination[Any, Any], Transport[Any, Any]]]:
    """Open a transport for each destination; return the pairs. If one fails, log and leave it out.

    In strict mode the error is raised instead.
    """
    pairs = []
    for destination in destinations:
        try:
            async with asyncio.timeout(_OPEN_S if callable(destination.delivery) else None):
                pace = turns.pace if turns else None
                opening = open_transport(destination.delivery, settings.network, log.warning, secrets_service, pace)
                pairs.append((destination, await opened.enter(opening)))
        except ConfigError as error:
            if settings.is_strict:
                raise
            for problem in error.problems:
                log.error(str(problem))
        except Exception as error:  # a third party's code may raise anything
            if settings.is_strict:
                raise
            name = destination.sink.name
            log.error(f"Sink {name} does not run: a bug kept its transport from being opened.", **where(error))
    return pairs


async def open_secrets(
    settings: Settings, secret_listeners: Sequence[socket], opened: Opened, clock: Clock, log: Log
) -> "SecretsService | None":
    """Open the secrets service on `secret_listeners`; return None, and import nothing, if it is not needed."""
    if settings.secrets is None:
        for listener in secret_listeners:
            listener.close()
        return None
    from telemetry_forwarder.secrets.service import open_secrets_service  # imported only when needed

    opening = open_secrets_service(settings.secrets, secret_listeners, settings.network, clock=clock, log=log)
    return await opened.enter(opening)


def failover_of(settings: Settings, clock: Clock, log: Log) -> "Failover | None":
    """Return the failover if it is configured, else None. The AWS SDK is not loaded yet."""
    if settings.failover is None:
        return None
    from telemetry_forwarder.failover.keeper import Failover  # imported only if configured

    return Failover(settings.failover, settings.network, clock=clock, log=log)


def open_spool(
    settings: Settings, origin: Origin, destinations: Sequence[Destination[Any, Any]], clock: Clock, log: Log
) -> Spool | None:
    """Open the spool and read what an earlier process left; return None if it is off or cannot be used."""
    takes: dict[str, frozenset[Signal] | None] = {one.sink.name: taken_by(one.sink) for one in destinations}
    if settings.spooling is None or not takes:
        return None
    if not _all_signals(destinations) <= LOGS:
        takes[DERIVER] = None
    try:
        files = SegmentFiles(settings.spooling.path)
    except OSError as error:
        log.warning(
            f"The spool {settings.spooling.path} cannot be used: {error.strerror or error}. Records are held in memory "
            "alone; at its bound the oldest are dropped. TELEMETRY_FORWARDER_SPOOL_DIR has to name a directory, not a "
            "link to one, where this process may write: in Lambda one under /tmp, which is made if it is missing."
        )
        return None
    owner = Owner(function=origin.function_name, version=origin.function_version)
    spool = Spool(
        files, owner=owner, sinks=[*takes], max_bytes=settings.spooling.max_bytes, clock=clock, log=log, takes=takes
    )
    spool.recover()
    return spool


def _all_signals(destinations: Iterable[Destination[Any, Any]]) -> frozenset[Signal]:
    """Return the signals that any of the sinks takes."""
    return frozenset[Signal]().union(*[taken_by(one.sink) for one in destinations])


def _is_xray(destination: Destination[Any, Any]) -> bool:
    """Return whether a destination is X-Ray itself, where the spans are that Lambda makes."""
    signing = destination.delivery.signing if isinstance(destination.delivery, HttpDelivery) else None
    return signing is not None and signing.service == "xray"


def signals_of(
    settings: Settings, destinations: Sequence[Destination[Any, Any]], inherited: Handover
) -> "Signals | None":
    """Return what derives metrics and spans; None, and import nothing, if no sink takes any.

    `inherited` is what another process of ours left that ran in this environment before.
    """
    takes = _all_signals(destinations)
    if takes <= LOGS:
        return None
    from telemetry_forwarder.signals.measuring import Prices  # imported only when needed
    from telemetry_forwarder.signals.signals import Signals

    prices = Prices(os.uname().machine, settings.price_request, settings.price_gb_second)
    is_xray = all(_is_xray(one) for one in destinations if Signal.SPAN in taken_by(one.sink))
    converts_lines = settings.converts_lines
    return Signals(
        takes, prices, traces=settings.traces, is_xray=is_xray, before=inherited, converts_lines=converts_lines
    )


@asynccontextmanager
async def datagrams_of(
    sockets: Sequence[socket], signals: "Signals | None", counts: IntakeCounts, log: Log
) -> "AsyncIterator[Datagrams | None]":
    """Read DogStatsD datagrams in this context; None, and import nothing, without sockets or a sink for metrics."""
    if not sockets or signals is None or not signals.has_metrics:
        for one in sockets:
            one.close()
        if sockets:
            log.warning("DD_USE_DOGSTATSD is true, but no sink gets metrics: set TELEMETRY_FORWARDER_METRICS.")
        yield None
        return
    from telemetry_forwarder.intake.datagrams import Datagrams  # imported only when needed

    datagrams = Datagrams(sockets, counts, log)
    with datagrams.read():
        yield datagrams


@asynccontextmanager
async def receiving_otlp(
    listeners: Sequence[socket],
    intake: Intake,
    router: Router,
    signals: "Signals | None",
    clock: Clock,
    log: Log,
) -> AsyncIterator[None]:
    """Receive OTLP from the function in this context; do nothing, and import nothing, without sockets."""
    if not listeners:
        yield
        return
    from telemetry_forwarder.intake.otlp_server import Receiver, serving  # imported only when needed

    def take(signal: Signal, derived: Sequence[Derived]) -> None:
        if signal is Signal.SPAN and signals is not None:
            signals.note_received(derived)
        intake.take_unsent(signal, derived, is_received=True)

    async with serving(listeners, Receiver(take, router.takes, clock, log)):
        yield


def deriving_of(
    signals: "Signals | None",
    intake: Intake,
    origin: Origin,
    *,
    spool: Spool | None,
    clock: Clock,
    log: Log,
    is_frequent: Callable[[], bool],
    inherited: Handover,
) -> "Deriving | None":
    """Return what derives metrics and spans of bodies, also of those that the process before left."""
    if signals is None:
        return None
    from telemetry_forwarder.intake.deriving import Deriving  # imported only when needed

    later = asyncio.get_running_loop().call_later
    deriving = Deriving(
        signals, intake,
        spool=spool, clock=clock, log=log, later=later, is_frequent=is_frequent, before=inherited,
    )  # fmt: skip
    if spool is not None:
        backlog = Backlog(spool, DERIVER, origin)
        backlog.on_gone = lambda records, reason: log.warning(
            f"No metrics or spans are made of {records} records that the process before left in the spool ({reason})."
        )
        deriving.recover(backlog)
    return deriving


def reporting_of(
    settings: Settings,
    intake: Intake,
    origin: Origin,
    deriving: "Deriving | None",
    datagrams: "Datagrams | None",
    *,
    counts: IntakeCounts,
    workers: Sequence[Worker],
    spool: Spool | None,
    clock: Clock,
    log: Log,
) -> "Reporting | None":
    """Return what reports while the environment lives; None, and import nothing, if nobody wants to know."""
    has_metrics = deriving is not None and deriving.has_metrics
    is_record_wanted = settings.ledger_period_s is not None
    if deriving is None and not is_record_wanted:
        return None
    from telemetry_forwarder.delivery.ledger_event import LedgerReporter  # imported only when needed
    from telemetry_forwarder.lifecycle.reporting import Reporting

    ledger = None
    if has_metrics or is_record_wanted:
        period_s = settings.ledger_period_s or _LEDGER_PERIOD_S
        ledger = LedgerReporter(period_s, is_record_wanted=is_record_wanted)
    return Reporting(
        intake, origin, deriving, datagrams, ledger, counts=counts, workers=workers, spool=spool, clock=clock, log=log
    )


async def warm_all(open_sinks: Sequence[tuple[Destination[Any, Any], Transport[Any, Any]]], settings: Settings) -> None:
    """Read the sinks' secrets before the first request needs them, so that no invocation waits for them.

    This is not done before a snapshot: a secret read then is as old as the snapshot, and all copies have the same one.
    """
    if settings.origin.init_type == SNAP_START:
        return
    async with asyncio.TaskGroup() as group:
        for _, transport in open_sinks:
            group.create_task(warm(transport))
