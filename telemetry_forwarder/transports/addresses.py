"""The network settings, addresses as they may be logged, and the proxy for an address. Opens no connection."""

from base64 import b64encode
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote_to_bytes, urlsplit

from msgspec import Struct, field

from telemetry_forwarder.variables.proxies import PORTS, proxy_for


class Network(Struct, frozen=True, kw_only=True):
    """The network settings of every transport: `proxies` by scheme (and "no"), CA certificates, the region.

    `aws_ca_file` is for AWS alone: None if AWS_CA_BUNDLE names one, which the SDK reads by itself.
    """

    proxies: Mapping[str, str] = field(default_factory=dict)
    ca_file: str | None = None
    region: str | None = None
    aws_ca_file: str | None = None

    def __repr__(self) -> str:  # without proxies: an address may hold a password
        return f"Network(ca_file={self.ca_file!r}, region={self.region!r}, aws_ca_file={self.aws_ca_file!r})"


def address(url: str, proxy: str | None) -> str:
    """Return `host:port` of `url`, and of the proxy if there is one; never a user name, path or query."""
    text = host_port(url)
    return f"{text} (through the proxy {host_port(proxy)})" if proxy else text


@lru_cache(16)  # there are few destinations
def host_port(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 80)
    except ValueError:
        return "an address that is not a URL"
    host = parts.hostname or "?"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def choose_proxy(url: str, proxies: Mapping[str, str]) -> str | None:
    """Return the proxy's URL for `url`, or None for a direct connection (see `proxy_for`)."""
    parts = urlsplit(url)
    return proxy_for(parts.scheme, parts.hostname or "", parts.port, proxies)


def proxy_login(proxy: str) -> dict[str, str]:
    """Return the header with the user name and password of the proxy's URL, or nothing if it has none.

    They are encoded as bytes here, because aiohttp's own login supports only the characters of Latin-1.
    """
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    login = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
    return {"Proxy-Authorization": "Basic " + b64encode(login).decode()}
