"""What a run needs opened, from Settings: sinks, secrets, failover, spool. What cannot be had is left out and said."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from socket import socket
from typing import TYPE_CHECKING, Any

import orjson

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.disk import SegmentFiles
from telemetry_forwarder.errors import ConfigError, TransportError
from telemetry_forwarder.heritage import Heritage, HeritageFile
from telemetry_forwarder.interfaces import Destination, HttpDelivery, Transport
from telemetry_forwarder.log import Log, where
from telemetry_forwarder.pipeline.segments import Owner
from telemetry_forwarder.pipeline.spool import Spool
from telemetry_forwarder.pipeline.trouble import warm
from telemetry_forwarder.receiver import Keeping
from telemetry_forwarder.records import Origin
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.transports.stack import open_transport
from telemetry_forwarder.values import replace
from telemetry_forwarder.variables import SNAP_START

if TYPE_CHECKING:
    from telemetry_forwarder.secrets.vault import Vault
    from telemetry_forwarder.transports.failover import Failover

HEALTH_S = 5.0
# The value of AWS_LAMBDA_INITIALIZATION_TYPE where a snapshot is taken after INIT.

# What a third party's way to open its transport may take of the 10 s that the whole of INIT has; ours wait for nothing.
OPEN_S = 2.0


def complete(origin: Origin, registered: bytes) -> Origin:
    """Add what the answer to `/register` tells: the account, and with it the function's ARN."""
    try:
        told = orjson.loads(registered[registered.find(b"{") : registered.rfind(b"}") + 1])
    except orjson.JSONDecodeError:
        told = {}
    account, region = told.get("accountId"), origin.region
    name = origin.function_name or str(told.get("functionName", ""))
    arn = None
    if account and region and name:
        arn = f"arn:{partition(region)}:lambda:{region}:{account}:function:{name}"
    version = origin.function_version or told.get("functionVersion")
    return replace(origin, function_name=name, function_version=version, account_id=account, function_arn=arn)


def partition(region: str) -> str:
    """Return the ARN partition of a region. Source: AWS General Reference, ARN format."""
    for prefix, name in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(prefix):
            return name
    return "aws"


async def open_all(
    destinations: Iterable[Destination[Any, Any]],
    settings: Settings,
    stack: AsyncExitStack,
    log: Log,
    vault: "Vault | None" = None,
) -> list[tuple[Destination[Any, Any], Transport[Any, Any]]]:
    """Open a transport for each destination; one that cannot be opened is left out, or fails a strict start."""
    opened = []
    for destination in destinations:
        try:
            async with asyncio.timeout(OPEN_S if callable(destination.delivery) else None):
                fetch, tell = (None, None) if vault is None else (vault.fetch, vault.waits_for)
                opening = open_transport(destination.delivery, settings.network, log.warning, fetch, tell)
                opened.append((destination, await stack.enter_async_context(opening)))
        except ConfigError as error:
            if settings.is_strict:
                raise
            for problem in error.problems:
                log.error(str(problem))
        except Exception as error:  # a third party's way to open one may raise anything
            if settings.is_strict:
                raise
            name = destination.sink.name
            log.error(f"Sink {name} does not run: a bug kept its transport from being opened.", **where(error))
    return opened


async def open_vault_of(
    settings: Settings, doors: Sequence[socket], stack: AsyncExitStack, clock: Clock, log: Log
) -> "Vault | None":
    """Open the secrets cache, and serve it on `doors`; None, and nothing imported, where nobody asks for secrets."""
    if settings.secrets is None:
        for door in doors:
            door.close()
        return None
    from telemetry_forwarder.secrets.vault import open_vault  # only where it is needed

    network = settings.network
    opening = open_vault(
        settings.secrets,
        doors,
        region=network.region,
        ca_file=network.aws_ca_file,
        proxies=network.proxies,
        clock=clock,
        log=log,
    )
    return await stack.enter_async_context(opening)


def failover_of(settings: Settings, clock: Clock, log: Log) -> "Failover | None":
    """Make what keeps records that no sink takes, if it is configured; nothing is loaded yet."""
    if settings.failover is None:
        return None
    from telemetry_forwarder.transports.failover import Failover  # only where it is configured

    network = settings.network
    return Failover(
        settings.failover,
        clock=clock,
        log=log,
        region=network.region,
        ca_file=network.aws_ca_file,
        proxies=network.proxies,
    )


def open_spool(settings: Settings, origin: Origin, sinks: list[str], clock: Clock, log: Log) -> Spool | None:
    """Open the spool and read what an earlier generation left; None where there is none, or none can be had."""
    if settings.spooling is None or not sinks:
        return None
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
    spool = Spool(files, owner=owner, sinks=sinks, max_bytes=settings.spooling.max_bytes, clock=clock, log=log)
    spool.recover()
    return spool


def keeping(spool: Spool | None, settings: Settings) -> Keeping | None:
    """Say when bodies are written to the spool: before the answer, or as soon as that is sent."""
    if spool is None or settings.spooling is None:
        return None
    return Keeping(spool, None if settings.spooling.is_strict else asyncio.get_running_loop().call_soon)


def before(subscription: tuple[int, str, bytes] | None, heir: HeritageFile) -> Heritage:
    """Return what the generation before left; nothing, and what may lie there is of another environment, for the first.

    Source: captures of Lambda: whoever subscribes again after a reset is answered `AlreadySubscribed`.
    """
    if subscription is not None and b"AlreadySubscribed" in subscription[2]:
        return heir.read()
    heir.write(Heritage())
    return Heritage()


async def warm_all(open_sinks: Sequence[tuple[Destination[Any, Any], Transport[Any, Any]]], settings: Settings) -> None:
    """Read the sinks' secrets before the first request needs them, so that no invocation waits for them.

    Not before a snapshot: what is read then is as old as that, and every copy has the same.
    """
    if settings.origin.init_type == SNAP_START:
        return
    async with asyncio.TaskGroup() as group:
        for _, transport in open_sinks:
            group.create_task(warm(transport))


async def check_health(destination: Destination[Any, Any], transport: Transport[Any, Any], log: Log) -> None:
    """Ask the destination once how it is, and say so where it is not well; nothing else depends on it."""
    if not isinstance(destination.delivery, HttpDelivery) or destination.delivery.health is None:
        return
    name = destination.sink.name
    try:
        async with asyncio.timeout(HEALTH_S):
            answer = await transport.send(destination.delivery.health)
    except TimeoutError:  # or the environment was frozen meanwhile: what is sent will show
        log.debug(f"Sink {name}: no answer to the health check within {HEALTH_S:g} s.")
    except TransportError as error:
        log.warning(f"Sink {name}: no answer to the health check. {error}")
    except Exception as error:  # noqa: BLE001 - nothing depends on it, least of all the other sinks
        log.warning(f"Sink {name}: a bug in the health check.", **where(error))
    else:
        say = log.debug if answer.status == 200 else log.warning
        say(f"Sink {name}: the health check was answered {answer.status}.")
