"""Servers on loopback that behave well or badly, for the tests of the transports."""

import asyncio
import datetime
import ipaddress
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# How it ends when the client is gone.
GONE = (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)


@dataclass
class Seen:
    """One request as it came off the wire; header names in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Seen, asyncio.StreamWriter], Awaitable[bool]]


@dataclass
class Server:
    """What a server saw: its requests, how many connections, and whether a client hung up on it."""

    port: int = 0
    requests: list[Seen] = field(default_factory=list)
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/", scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"


async def read_head(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    pairs = (line.partition(":") for line in head[1:] if line)
    return Seen(head[0], {name.lower(): value.strip() for name, _, value in pairs}, b"")


async def read_request(reader: asyncio.StreamReader) -> Seen:
    seen = await read_head(reader)
    seen.body = await reader.readexactly(int(seen.headers.get("content-length", "0")))
    return seen


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve on a free port. `answer` writes, and returns whether the connection goes on."""
    server = Server()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            while True:
                server.requests.append(await read_request(reader))
                server.asked.set()
                if not await answer(server.requests[-1], writer):
                    break
        except GONE:
            pass
        finally:
            server.hung_up.set()
            await ended(writer)

    async with listening(handle, tls) as server.port:
        yield server


@asynccontextmanager
async def listening(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve connections with `handle` until the block ends; then end those that are open."""
    tasks: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        tasks.add(asyncio.ensure_future(handle(reader, writer)))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for writer in writers:
            writer.transport.abort()
        async with asyncio.timeout(5):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None and not isinstance(outcome, GONE):
                raise outcome


async def ended(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close the connection with a TCP reset."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def says(status: int, body: bytes = b"", *headers: str) -> Answer:
    """Answer every request in the same way and keep the connection."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, ""))

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(head.encode() + body)
        await writer.drain()
        return True

    return answer


def raw(data: bytes, *, by_reset: bool = False) -> Answer:
    """Write `data` and end the connection."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(data)
        await writer.drain()
        if by_reset:
            reset(writer)
        return False

    return answer


async def hang(seen: Seen, writer: asyncio.StreamWriter) -> bool:
    """Answer nothing; go on when the client has hung up."""
    return True


@asynccontextmanager
async def proxying(
    answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Serve as a proxy that tunnels CONNECT and answers any other request with 200; `tls`: it is spoken to in TLS."""
    server = Server()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            seen = await read_head(reader)
            server.requests.append(seen)
            if not seen.line.startswith("CONNECT"):
                seen.body = await reader.readexactly(int(seen.headers.get("content-length", "0")))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nproxy")
            else:
                writer.write(answer)
                if b" 200 " in answer:
                    await tunnel(seen.line.split()[1], reader, writer)
        except GONE:
            pass
        finally:
            await ended(writer)

    async with listening(handle, tls) as server.port:
        yield server


async def tunnel(target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    far_reader, far_writer = await asyncio.open_connection(*target.rsplit(":", 1))
    try:
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
    finally:
        await ended(far_writer)


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    finally:
        sink.close()


def make_certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Make a self-signed certificate for 127.0.0.1; return a server's context and the PEM file to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "SplunkServerDefaultCert")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    trusted, private = folder / "ca.pem", folder / "key.pem"
    trusted.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(trusted, private)
    return context, trusted
