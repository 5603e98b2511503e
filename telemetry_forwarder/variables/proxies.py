"""Which way a connection takes: the address of a proxy, and what NO_PROXY keeps from it. Pure.

There is no standard. What is taken here is what curl, Go, Python and Ruby agree on, and what each takes beyond that, as
far as nothing contradicts. Sources: GitLab, "We need to talk: can we standardize NO_PROXY?" (2021, a comparison of
six); curl(1), NO_PROXY; Go, golang.org/x/net/http/httpproxy; read 2026-11-27.
"""

import _socket

TYPE_CHECKING = False  # read before registration: nothing is imported that takes time
if TYPE_CHECKING:
    from collections.abc import Mapping

# What may stand before `://`; `socks5` and its like are another protocol, which is not spoken here.
SCHEMES = ("http", "https")
# Source: RFC 3986, section 2.3.
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
HEX = frozenset(b"0123456789abcdefABCDEF")
PORTS = {"http": 80, "https": 443}
SOCKS = "a SOCKS proxy cannot be used, only one that speaks HTTP"


def proxy_url(text: str) -> str:
    """Return the proxy's address as a URL in which user name and password are percent-encoded.

    Everything before the last `@` is the login, up to its first `:` the user name: so a password may hold any
    character as it is. What looks percent-encoded (`%23`) is, as for curl. Without a scheme it is `http`.

    Raises ValueError with the reason, which holds nothing of the login.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or not scheme.isalnum():  # it may be a part of the password
        scheme, rest = "http", text.removeprefix("//")
    if scheme.lower() not in SCHEMES:
        raise ValueError(SOCKS if scheme.lower().startswith("socks") else "its scheme is none of http and https")
    login, at, address = rest.rpartition("@")
    host, port = host_and_port(address.rstrip("/").lower())
    if not is_name(host):
        raise ValueError("there is no host name in it, or one that cannot be")
    if any(c < " " or c == "\x7f" for c in login):
        raise ValueError("the user name or the password holds a line break or another control character")
    user, colon, password = login.partition(":")
    encoded = "".join((encode(user), colon, encode(password), at)) if login else ""
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme.lower()}://{encoded}{shown}" + (f":{port}" if port else "")


def encode(text: str) -> str:
    """Return `text` percent-encoded; what is so already (`%23`) is left so."""
    first, *rest = text.encode("utf-8", "surrogateescape").split(b"%")
    plain = first + b"".join(_octet(piece) for piece in rest)
    return "".join(chr(byte) if byte in UNRESERVED else f"%{byte:02X}" for byte in plain)


def _octet(piece: bytes) -> bytes:
    """Return what a `%` and `piece` stand for: with two hexadecimal digits one byte, else themselves."""
    digits = piece[:2]
    return bytes.fromhex(digits.decode()) + piece[2:] if len(digits) == 2 and HEX.issuperset(digits) else b"%" + piece


def proxy_for(scheme: str, host: str, port: int | None, proxies: "Mapping[str, str]") -> str | None:
    """Return the proxy's URL for connections to `host` and `port`, or None for the direct way.

    `proxies` holds the proxy of each scheme, and under `no` the entries of NO_PROXY, parted by commas. What is returned
    may hold a password.
    """
    proxy = proxies.get(scheme, "")
    if not proxy:
        return None
    host = host.lower().rstrip(".").strip("[]")
    port = port or PORTS.get(scheme, 0)
    if any(is_match(entry.strip(), host, port) for entry in proxies.get("no", "").split(",")):
        return None
    return proxy


def is_match(entry: str, host: str, port: int) -> bool:
    """Say whether an entry of NO_PROXY stands for `host` (lower case, an IPv6 address without brackets) and `port`.

    `*` is everything. A name is itself and all that is below it, with a dot or `*.` before it or without. An IP address
    is itself, a network what is in it; names are not looked up for that. With a port it stands for that port alone.
    """
    if not is_entry(entry):
        return False
    if entry == "*":
        return True
    name, wanted = host_and_port(entry.lower())
    if wanted and int(wanted) != port:
        return False
    address, network = packed(host), name.partition("/")
    if (block := packed(network[0])) is not None:
        return address is not None and is_within(address, block, network[2])
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def is_entry(entry: str) -> bool:
    """Say whether an entry of NO_PROXY is one that `is_match` understands."""
    if entry == "*":
        return True
    name, _ = host_and_port(entry.lower())
    address, slash, length = name.partition("/")
    if (block := packed(address)) is not None:
        return not slash or (length.isascii() and length.isdigit() and int(length) <= 8 * len(block))
    return is_name(name.removeprefix("*").strip(".")) and not slash


def host_and_port(text: str) -> tuple[str, str]:
    """Split `host:port`, `[v6]:port` or a bare address; the port is "" where none is given, the host "" if wrong."""
    if packed(text.partition("/")[0]) is not None:
        return text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or packed(host) is None or (rest and rest[0] not in ":/"):
            return "", ""
        if rest.startswith("/"):  # a network in brackets
            return host + rest, ""
        port, colon = rest[1:], rest[:1]
    else:
        host, colon, port = text.partition(":")
    is_port = port.isascii() and port.isdigit() and 0 < len(port) < 6 and 0 < int(port) < 65536
    return (host, port) if is_port or not colon else ("", "")


def is_name(host: str) -> bool:
    """Say whether `host` can be the name of a host, or is an IP address (a name never ends in a number)."""
    if packed(host) is not None:
        return True
    is_made_of = all(c.isascii() and (c.isalnum() or c in "-._") for c in host)
    is_number = host.rstrip(".").rpartition(".")[2].isdigit()
    return bool(host) and len(host) < 254 and is_made_of and host[0] not in ".-" and not is_number


def packed(address: str) -> bytes | None:
    """Return the bytes of an IP address, 4 or 16; None where it is none. IPv4 within IPv6 is IPv4."""
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            found = _socket.inet_pton(family, address)
        except (OSError, ValueError):  # ValueError: a zero byte in it
            continue
        return found[12:] if found[:12] == b"\0" * 10 + b"\xff\xff" else found
    return None


def is_within(address: bytes, block: bytes, length: str) -> bool:
    """Say whether `address` is in the network `block` with a prefix of `length` bits; all of them if it is ""."""
    if len(address) != len(block):
        return False
    bits = 8 * len(block) - int(length or 8 * len(block))
    return int.from_bytes(address) >> bits == int.from_bytes(block) >> bits
