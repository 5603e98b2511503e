"""The composition root: makes all parts from Settings, connects them, and runs them in one TaskGroup."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from telemetry_forwarder.clock import Clock, SystemClock
from telemetry_forwarder.delivery.loss_event import loss_record
from telemetry_forwarder.delivery.worker import Worker
from telemetry_forwarder.errors import ConfigError, ExtensionsApiError
from telemetry_forwarder.intake.http_server import serve
from telemetry_forwarder.intake.inbox import Inbox
from telemetry_forwarder.intake.intake import Intake
from telemetry_forwarder.intake.router import Router
from telemetry_forwarder.lambda_api.client import ExtensionsClient, is_subscribed
from telemetry_forwarder.lambda_api.registration import Registration, idle
from telemetry_forwarder.ledger import IntakeCounts
from telemetry_forwarder.lifecycle import budget
from telemetry_forwarder.lifecycle.loop import Lifecycle
from telemetry_forwarder.lifecycle.machine import Machine
from telemetry_forwarder.log import LibraryLines, Log, where
from telemetry_forwarder.records.enrich import Enricher
from telemetry_forwarder.records.handover import DIRECTORY, HandoverFile, before
from telemetry_forwarder.records.record import Event, Origin, Record, complete
from telemetry_forwarder.records.running import Invocation
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.spool.backlog import Backlog
from telemetry_forwarder.spool.spool import Spool
from telemetry_forwarder.transports.stack import check_health
from telemetry_forwarder.turns import Turns
from telemetry_forwarder.variables.reading import NEEDS, Values
from telemetry_forwarder.variables.table import MANAGED_INSTANCES
from telemetry_forwarder.wiring import (
    Opened,
    datagrams_of,
    deriving_of,
    failover_of,
    open_all,
    open_secrets,
    open_spool,
    receiving_otlp,
    reporting_of,
    signals_of,
    warm_all,
)

if TYPE_CHECKING:
    from telemetry_forwarder.lifecycle.reporting import Reporting

_NO_SOCKETS: Mapping[str, Sequence[Any]] = {}
# The longest that INIT waits for the sinks' own secrets once the AWS SDK is loaded, if it still waits for us at all.
_OWN_SECRETS_S = 1.0


def run(
    registration: Registration,
    listener: Any,
    values: Values,
    local: Mapping[str, Sequence[Any]] = _NO_SOCKETS,
) -> int:
    """Run the extension to its end; return the exit code. After a bug the process does not end, but idles.

    `listener` is the socket for telemetry (None: its port was not available). `local` has those that the function
    itself may use: `secrets`, `datagrams` for DogStatsD, `otlp`.
    """
    everywhere = [one for some in local.values() for one in some]
    try:
        settings = Settings.from_values(values)
    except Exception as error:  # noqa: BLE001 - an extension that exits makes the user's function fail
        Log().error("A bug kept the settings from being read. Please report it.", **where(error))
        close(listener, *everywhere)
        return idle(registration, is_strict=values["TELEMETRY_FORWARDER_STRICT"])
    log = Log(settings.log_level)
    logging.basicConfig(handlers=[LibraryLines(log)], level=logging.WARNING, force=True)
    for problem in settings.problems:
        getattr(log, problem.level)(str(problem))
    is_served = settings.secrets is not None and settings.secrets.is_served
    is_wrong = any(problem.is_wrong for problem in settings.problems)
    if settings.is_strict and (is_wrong or listener is None or (is_served and not local.get("secrets"))):
        return refuse(registration, log)
    taken = socket.socket(fileno=listener.detach()) if listener is not None else None
    sockets = {name: [socket.socket(fileno=one.detach()) for one in some] for name, some in local.items()}
    try:
        asyncio.run(_serve(registration, taken, settings, log, sockets))
    except ConfigError as error:  # only in strict mode
        for problem in error.problems:
            log.error(str(problem))
        return refuse(registration, log)
    except Exception as error:  # noqa: BLE001 - as above
        log.error("A bug ended the forwarding of telemetry. Please report it.", **where(error))
        close(taken, *(one for some in sockets.values() for one in some))
        return idle(registration, is_strict=settings.is_strict)


def refuse(registration: Registration, log: Log) -> int:
    """Fail the start of the function, as strict mode demands; return the exit code."""
    log.error("TELEMETRY_FORWARDER_STRICT is true, so the start of the function fails.")
    return idle(registration, is_strict=True)


def close(*listeners: Any) -> None:
    """Close sockets that nobody serves, so that Lambda or the function does not wait there for an answer."""
    for listener in listeners:
        if listener is not None:
            listener.close()


async def _serve(
    registration: Registration,
    listener: socket.socket | None,
    settings: Settings,
    log: Log,
    local: Mapping[str, Sequence[socket.socket]],
) -> NoReturn:
    clock = SystemClock()
    counts = IntakeCounts()
    turns = Turns(clock)
    secret_listeners = local.get("secrets", ())
    async with Opened() as opened:
        secrets_service = await open_secrets(settings, secret_listeners, opened, clock, log)
        client = await opened.enter(
            ExtensionsClient(registration.runtime_api, registration.identifier, registration.early, say=log.warning)
        )
        destinations = settings.destinations if listener is not None else ()
        open_sinks = await open_all(destinations, settings, opened, log, secrets_service, turns)
        failover = failover_of(settings, clock, log)
        origin = complete(settings.origin, registration.body)
        spool = open_spool(settings, origin, [destination for destination, _ in open_sinks], clock, log)
        client.on_asked = turns.go_on
        workers = [
            Worker(
                destination.sink,
                transport,
                capacity=settings.capacity_for(destination),
                clock=clock,
                log=log,
                fallback=failover,
                backlog=Backlog(spool, destination.sink.name, origin) if spool else None,
                turns=turns,
            )
            for destination, transport in open_sinks
        ]
        handover_file = HandoverFile(
            registration.runtime_api,
            settings.spooling.path if settings.spooling else DIRECTORY,
            # If the spool's directory cannot be used, a warning about that was logged already.
            log.info if settings.spooling is not None and spool is None else log.warning,
        )
        inherited = before(registration.subscription, handover_file)
        enricher = Enricher(origin, before=inherited, is_traced=settings.traces != "off")
        machine = Machine(
            clock=clock,
            strategy=settings.strategy,
            holding=settings.holding,
            buffering_s=settings.buffering_s,
            sees_ends="INVOKE" in registration.events,
            has_fallback=failover is not None,
        )
        lifecycle = Lifecycle(
            client=client,
            machine=machine,
            workers=workers,
            counts=counts,
            clock=clock,
            log=log,
            turns=turns,
            last_word=lambda: _loss_notice(enricher.origin, counts, workers, clock),
        )

        reporting: Reporting | None = None

        def on_invoke(invocation: Invocation) -> None:
            if reporting is not None:
                reporting.on_invoke()
            if secrets_service is not None:
                secrets_service.on_restore()
            enricher.hear(invocation)

        def on_events(events: Sequence[Event]) -> None:
            if secrets_service is not None:
                secrets_service.on_events(events)
            lifecycle.on_events(events)  # first, as the end of an invocation waits for nothing
            if reporting is not None:
                reporting.on_events(events)

        lifecycle.on_invoke = on_invoke
        intake = None
        if listener is not None and workers:
            is_strict = settings.spooling is not None and settings.spooling.is_strict
            router = Router(settings.types, workers, counts)
            signals = signals_of(settings, [one for one, _ in open_sinks], inherited)
            intake = Intake(
                enricher=enricher,
                router=router,
                counts=counts,
                on_events=on_events,
                on_loss=lifecycle.on_loss,
                on_interruption=lifecycle.on_interruption,
                clock=clock,
                log=log,
                handover_file=handover_file,
                spool=spool,
                soon=None if is_strict else asyncio.get_running_loop().call_soon,
                known=inherited.batches(),
            )
            intake.deriving = deriving_of(
                signals, intake, origin,
                spool=spool, clock=clock, log=log, is_frequent=lambda: machine.is_frequent, inherited=inherited,
            )  # fmt: skip
            datagrams = await opened.enter(datagrams_of(local.get("datagrams", ()), signals, counts, log))
            reporting = reporting_of(
                settings, intake, origin, intake.deriving, datagrams,
                counts=counts, workers=workers, spool=spool, clock=clock, log=log,
            )  # fmt: skip
            if reporting is not None:
                lifecycle.before_drain = reporting.finish
            await opened.enter(receiving_otlp(local.get("otlp", ()), intake, router, signals, clock, log))
            lifecycle.inbox = Inbox(
                intake, workers, turns, log, max_bytes=settings.capacity.max_bytes, is_strict=is_strict
            )
            await opened.enter(serve(listener, lifecycle.inbox, settings.buffering_bytes, on_data=turns.give_way))
            if registration.subscribe_later is not None:
                registration.subscription = await client.subscribe(registration.subscribe_later)
            if not _is_subscribed(registration.subscription, log):
                machine.lives_without_telemetry()
        else:
            say = log.info if secret_listeners and not settings.destinations else log.warning
            if listener is None:
                say("No telemetry is forwarded, as its port could not be had.")
            else:
                from telemetry_forwarder.variables.advice import what_to_set  # imported only when needed

                say(f"No sink can run, so no telemetry is forwarded. {what_to_set(NEEDS)}")
            close(listener, *local.get("datagrams", ()), *local.get("otlp", ()))
            machine.lives_without_telemetry()
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.run())
            if lifecycle.inbox is not None:
                group.create_task(lifecycle.inbox.run())
            for pair in open_sinks:
                group.create_task(turns.pace(check_health(*pair, log)))
            if failover is not None:
                group.create_task(failover.run())
            if settings.origin.init_type == MANAGED_INSTANCES:
                lifecycle.go_on()
            if secrets_service is not None:
                warming = group.create_task(warm_all(open_sinks, settings))
                await secrets_service.wait_until_warm()
                if not client.is_asking:  # INIT still waits, which is better than that an invocation waits
                    await asyncio.wait([warming], timeout=_OWN_SECRETS_S)
            if (missed := client.take_over()) is not None:
                await lifecycle.catch_up(missed)
            code = await _live(lifecycle, client, clock, log, has_fallback=failover is not None)
            if intake is not None:
                intake.save_handover()
            if spool is not None:
                spool.close()
            if reporting is not None:
                reporting.close()
            _write_ledger(counts, workers, spool, log)
            _exit_now(code)


def _exit_now(code: int) -> NoReturn:
    """End the process at once, because everything is settled.

    A normal exit of an interpreter that has loaded botocore takes a tenth of the shutdown window. It would also wait
    for a name look-up that hangs in a thread and cannot be cancelled; and with it the environment's end would wait, and
    the caller of a function that timed out.
    """
    sys.stdout.flush()
    os._exit(code)


async def _live(lifecycle: Lifecycle, client: ExtensionsClient, clock: Clock, log: Log, *, has_fallback: bool) -> int:
    """Handle events to the end; return the exit code. If Lambda refuses to go on, deliver held records first."""
    try:
        await lifecycle.run()
    except ExtensionsApiError as error:
        log.error(f"Lambda ends the extension without SHUTDOWN: {error}")
        lifecycle.expect_next_process()
        await lifecycle.drain(budget.for_emergency(clock, has_fallback=has_fallback))
        with contextlib.suppress(ExtensionsApiError):  # the refusal was logged above; nothing else can be done
            await client.exit_error("Extension.EventsRefused", str(error))
        return 1
    return 0


def _is_subscribed(subscription: tuple[int, str, bytes] | None, log: Log) -> bool:
    """Return whether telemetry will come, and log why not. Without it the function and the extension still run."""
    status, schema, answer = subscription or (0, "", b"it was not asked for")
    try:
        if is_subscribed(status, answer):
            log.debug(f"Subscribed to telemetry with schema {schema}.")
            return True
        log.warning("No telemetry is forwarded: this stand-in for Lambda does not support the Telemetry API.")
    except ExtensionsApiError as error:
        log.error(f"No telemetry is forwarded: {error}")
    return False


def _loss_notice(origin: Origin, counts: IntakeCounts, workers: list[Worker], clock: Clock) -> Record | None:
    return loss_record(
        origin,
        {worker.name: worker.statement().dropped for worker in workers},
        time_ms=round(clock.time() * 1000),
        lost_before_us=counts.lost_before_us,
        lost_before_us_bytes=counts.lost_before_us_bytes,
    )


def _write_ledger(counts: IntakeCounts, workers: list[Worker], spool: Spool | None, log: Log) -> None:
    """Log the ledger as one line: at INFO, or as a warning if something was lost or the books do not balance."""
    statements = {worker.name: worker.statement() for worker in workers}
    is_balanced = counts.is_balanced() and all(statement.is_balanced() for statement in statements.values())
    lost = counts.lost_before_us + sum(statement.lost for statement in statements.values())
    say = log.info if is_balanced and not lost else log.warning
    say(
        "ledger" if is_balanced else "ledger, which does not balance: please report this",
        door=counts.snapshot(),
        sinks={name: statement.snapshot() for name, statement in statements.items()},
        spool=spool.snapshot() if spool is not None else None,
    )
