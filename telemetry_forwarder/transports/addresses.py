"""From a host's name to a connected socket, in two steps, so that it can be said which of them is waited for."""

import asyncio
import socket
from typing import Any, TypeAlias

# An address that does not answer is given this long before the next one of the name is tried beside it.
# Source: RFC 8305, section 5.
NEXT_ADDRESS_S = 0.25

# What `getaddrinfo` says of one address: family, type, protocol, canonical name, where.
Address: TypeAlias = tuple[Any, Any, int, str, Any]


async def addresses_of(host: str, port: int) -> list[Address]:
    """Look up `host`; what is an address already is not asked for. Raises OSError."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def connected_socket(addresses: list[Address]) -> socket.socket:
    """Return a socket that is connected to the first of `addresses` that answers. Raises OSError."""
    if len(addresses) > 1:
        from aiohappyeyeballs import start_connection  # a race costs an import; most tests and proxies have one address

        return await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S)
    family, kind, protocol, _, where = addresses[0]
    connecting = socket.socket(family, kind, protocol)
    try:
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, where)
    except BaseException:
        connecting.close()
        raise
    return connecting
