"""A transport: how a request gets there. One attempt per call, without a time limit: it is cancelled in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from telemetry_forwarder.plugin import ConnectFailed, ConnectionLost, OpenTransport


class TcpTransport:
    """Open a connection for each request. A kept one would not survive the environment's freeze for long."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port

    async def send(self, request: bytes) -> bytes:
        """Return the line that `request` is answered with. Raises ConnectFailed or ConnectionLost."""
        try:
            reader, writer = await asyncio.open_connection(*self._address)
        except OSError as error:
            raise ConnectFailed(f"no connection: {error}") from error
        try:
            writer.write(request)
            await writer.drain()
            return await reader.readuntil(b"\n")
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionLost(f"no answer: {error}") from error
        finally:
            writer.close()

    async def aclose(self) -> None:
        """Close what is kept open: nothing."""


def connecting_to(host: str, port: int) -> OpenTransport:
    """Return what opens the transport, once, for the life of the process."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[TcpTransport]:
        transport = TcpTransport(host, port)
        try:
            yield transport
        finally:
            await transport.aclose()

    return opened
