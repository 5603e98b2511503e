"""Parse proxy URLs and NO_PROXY, and choose the proxy for a connection. Pure.

There is no standard. This module accepts what curl, Go, Python and Ruby agree on, and what any one of them accepts
beyond that, unless it contradicts another. Sources: GitLab, "We need to talk: can we standardize NO_PROXY?" (2021, a
comparison of six); curl(1), NO_PROXY; Go, golang.org/x/net/http/httpproxy; read 2026-11-27.
"""

import _socket

TYPE_CHECKING = False  # this module runs before registration, and importing `typing` takes time
if TYPE_CHECKING:
    from collections.abc import Mapping

# The supported schemes. `socks5` and the like are another protocol.
_SCHEMES = ("http", "https")
# Source: RFC 3986, section 2.3.
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HEX = frozenset(b"0123456789abcdefABCDEF")
PORTS = {"http": 80, "https": 443}
SOCKS = "a SOCKS proxy cannot be used, only one that speaks HTTP"


def proxy_url(text: str) -> str:
    """Return the proxy's URL, with user name and password percent-encoded.

    Everything before the last `@` is the login, and its first `:` ends the user name. So a password may hold any
    character unencoded. Text that looks percent-encoded (`%23`) is taken as encoded, as in curl. The default scheme is
    `http`. Raises ValueError with the reason, which quotes nothing of the login.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or not scheme.isalnum():  # no scheme: a `://` may be part of the password
        scheme, rest = "http", text.removeprefix("//")
    if scheme.lower() not in _SCHEMES:
        raise ValueError(SOCKS if scheme.lower().startswith("socks") else "its scheme is none of http and https")
    login, at, address = rest.rpartition("@")
    host, port = _host_and_port(address.rstrip("/").lower())
    if not is_name(host):
        raise ValueError("there is no host name in it, or one that cannot be")
    if any(c < " " or c == "\x7f" for c in login):
        raise ValueError("the user name or the password holds a line break or another control character")
    user, colon, password = login.partition(":")
    encoded = "".join((encode(user), colon, encode(password), at)) if login else ""
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme.lower()}://{encoded}{shown}" + (f":{port}" if port else "")


def encode(text: str) -> str:
    """Return `text` percent-encoded; parts that are encoded already (`%23`) stay as they are."""
    first, *rest = text.encode("utf-8", "surrogateescape").split(b"%")
    plain = first + b"".join(_octet(piece) for piece in rest)
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in plain)


def _octet(piece: bytes) -> bytes:
    """Decode `%` + `piece`: two hexadecimal digits at its start give one byte; without them the `%` stays."""
    digits = piece[:2]
    return bytes.fromhex(digits.decode()) + piece[2:] if len(digits) == 2 and _HEX.issuperset(digits) else b"%" + piece


def proxy_for(scheme: str, host: str, port: int | None, proxies: "Mapping[str, str]") -> str | None:
    """Return the URL of the proxy for connections to `host` and `port`; None for a direct connection.

    `proxies` maps each scheme to its proxy, and `no` to the entries of NO_PROXY, separated by commas. The result may
    hold a password.
    """
    proxy = proxies.get(scheme, "")
    if not proxy:
        return None
    host = host.lower().rstrip(".").strip("[]")
    port = port or PORTS.get(scheme, 0)
    if any(_is_match(entry.strip(), host, port) for entry in proxies.get("no", "").split(",")):
        return None
    return proxy


def _is_match(entry: str, host: str, port: int) -> bool:
    """Return whether an entry of NO_PROXY matches `host` (lower case, an IPv6 address without brackets) and `port`.

    `*` matches everything. A name, with or without a leading `.` or `*.`, matches itself and its subdomains. An IP
    address matches itself and a network its addresses; names are not resolved for that. An entry with a port matches
    only that port.
    """
    if not is_entry(entry):
        return False
    if entry == "*":
        return True
    name, wanted = _host_and_port(entry.lower())
    if wanted and int(wanted) != port:
        return False
    address, network = packed(host), name.partition("/")
    if (block := packed(network[0])) is not None:
        return address is not None and _is_within(address, block, network[2])
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def is_entry(entry: str) -> bool:
    """Return whether `_is_match` understands an entry of NO_PROXY."""
    if entry == "*":
        return True
    name, _ = _host_and_port(entry.lower())
    address, slash, length = name.partition("/")
    if (block := packed(address)) is not None:
        return not slash or (length.isascii() and length.isdigit() and int(length) <= 8 * len(block))
    return is_name(name.removeprefix("*").strip(".")) and not slash


def _host_and_port(text: str) -> tuple[str, str]:
    """Split `host:port`, `[v6]:port` or a bare address; return "" as port if there is none, "" as host if invalid."""
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
    """Return whether `host` is an IP address or a valid host name (a name never ends in a number)."""
    if packed(host) is not None:
        return True
    is_made_of = all(c.isascii() and (c.isalnum() or c in "-._") for c in host)
    is_number = host.rstrip(".").rpartition(".")[2].isdigit()
    return bool(host) and len(host) < 254 and is_made_of and host[0] not in ".-" and not is_number


def packed(address: str) -> bytes | None:
    """Return the 4 or 16 bytes of an IP address, None if it is not one. An IPv4-mapped IPv6 address becomes IPv4."""
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            found = _socket.inet_pton(family, address)
        except (OSError, ValueError):  # ValueError: a zero byte in it
            continue
        return found[12:] if found[:12] == b"\0" * 10 + b"\xff\xff" else found
    return None


def _is_within(address: bytes, block: bytes, length: str) -> bool:
    """Return whether `address` is in the network `block` with a prefix of `length` bits ("" means all bits)."""
    if len(address) != len(block):
        return False
    bits = 8 * len(block) - int(length or 8 * len(block))
    return int.from_bytes(address) >> bits == int.from_bytes(block) >> bits
