"""Open the transport of a destination: the only place that defines the order of the wrappers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from telemetry_forwarder.errors import TransportError
from telemetry_forwarder.interfaces import (
    Delivery,
    Destination,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    LogsDelivery,
    Transport,
)
from telemetry_forwarder.log import Log, where
from telemetry_forwarder.transports.addresses import Network, choose_proxy
from telemetry_forwarder.transports.auth import AuthTransport, SecretSource
from telemetry_forwarder.transports.gzip import GzipTransport

if TYPE_CHECKING:
    from telemetry_forwarder.transports.cloudwatch_logs import Pace

# The timeout for a connection; afterwards it is tried again.
CONNECT_S = 3.0


@asynccontextmanager
async def open_transport(
    delivery: Delivery,
    network: Network,
    warn: Callable[[str], None],
    secrets: SecretSource | None = None,
    pace: "Pace | None" = None,
) -> AsyncIterator[Transport[Any, Any]]:
    """Open the transport of a destination: gzip around auth around HTTP, or PutLogEvents, or a third party's own.

    Between auth and HTTP requests to AWS are signed.

    `secrets` reads a credential that is given by reference; `pace` says when the AWS SDK may take a step. Raises
    ConfigError if the AWS SDK cannot use its variables.
    """
    if isinstance(delivery, HttpDelivery):
        transport = _http(delivery, network, secrets)
        try:
            yield transport
        finally:
            await transport.aclose()
    elif isinstance(delivery, LogsDelivery):
        from telemetry_forwarder.transports.cloudwatch_logs import open_logs  # load botocore only if it is needed

        async with open_logs(
            network, retention_days=delivery.retention_days, connect_s=CONNECT_S, warn=warn, pace=pace
        ) as logs:
            yield logs
    else:
        async with delivery() as theirs:
            yield theirs


def _http(
    delivery: HttpDelivery, network: Network, secrets: SecretSource | None
) -> Transport[HttpRequest, HttpResponse]:
    from telemetry_forwarder.transports.http import HttpTransport  # load aiohttp's client only if it is needed

    proxy = choose_proxy(delivery.url, network.proxies)
    transport: Transport[HttpRequest, HttpResponse]
    if delivery.signing is not None:
        from telemetry_forwarder.transports.aws_environment import ca_file_of
        from telemetry_forwarder.transports.signing import SigningTransport

        inner = HttpTransport(proxy=proxy, ca_file=ca_file_of(network), connect_s=CONNECT_S, tls=delivery.tls)
        transport = SigningTransport(inner, delivery.signing)
    else:
        transport = HttpTransport(proxy=proxy, ca_file=network.ca_file, connect_s=CONNECT_S, tls=delivery.tls)
    for listed in delivery.headers:
        transport = AuthTransport(transport, listed, secrets)
    if delivery.credential is not None:
        transport = AuthTransport(transport, delivery.credential, secrets)
    return GzipTransport(transport, delivery.encoding, is_file=delivery.is_file) if delivery.gzip else transport


_HEALTH_S = 5.0


async def check_health(destination: Destination[Any, Any], transport: Transport[Any, Any], log: Log) -> None:
    """Send the destination one health check, and log a failure; nothing else depends on it."""
    if not isinstance(destination.delivery, HttpDelivery) or destination.delivery.health is None:
        return
    name = destination.sink.name
    try:
        async with asyncio.timeout(_HEALTH_S):
            answer = await transport.send(destination.delivery.health)
    except TimeoutError:  # or the environment was frozen; real requests will show
        log.debug(f"Sink {name}: no answer to the health check within {_HEALTH_S:g} s.")
    except TransportError as error:
        log.warning(f"Sink {name}: no answer to the health check. {error}")
    except Exception as error:  # noqa: BLE001 - nothing depends on it, least of all other sinks
        log.warning(f"Sink {name}: a bug in the health check.", **where(error))
    else:
        say = log.debug if answer.status == 200 else log.warning
        say(f"Sink {name}: the health check was answered {answer.status}.")
