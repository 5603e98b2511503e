"""Which way a connection takes: proxies as people write them, and every form of NO_PROXY that tools agree on."""

from base64 import b64decode
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.transports.addresses import proxy_login
from telemetry_forwarder.variables.proxies import encode, is_entry, proxy_for, proxy_url

PROXIES = {"http": "http://p:1", "https": "http://p:2"}


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128"),
        ("https://proxy", "https://proxy"),
        ("proxy:3128", "http://proxy:3128"),
        ("//proxy:3128", "http://proxy:3128"),
        ("10.0.0.1", "http://10.0.0.1"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("me:pw@proxy:3128", "http://me:pw@proxy:3128"),
        ("http://@proxy", "http://proxy"),
    ],
)
def test_an_address_of_a_proxy_is_read_in_each_form(text: str, url: str) -> None:
    assert proxy_url(text) == url


@pytest.mark.parametrize(
    ("written", "user", "password"),
    [
        ("u:p#ss", "u", "p#ss"),
        ("u:p/ss", "u", "p/ss"),
        ("u:p?ss", "u", "p?ss"),
        ("u:p@ss", "u", "p@ss"),
        ("u:p:ss", "u", "p:ss"),
        ("u:p%ss", "u", "p%ss"),
        ("u:p ss[]\\", "u", "p ss[]\\"),
        ("u:p%23ss", "u", "p#ss"),
        ("u%40corp:p%25", "u@corp", "p%"),
        ("corp\\u:\u00fc\u20ac", "corp\\u", "\u00fc\u20ac"),
        ("u", "u", ""),
        ("u:", "u", ""),
    ],
)
@pytest.mark.parametrize("scheme", ["http://", "https://", ""])
def test_a_password_may_hold_any_character_encoded_or_not(scheme: str, written: str, user: str, password: str) -> None:
    header = proxy_login(proxy_url(f"{scheme}{written}@127.0.0.1:3128"))["Proxy-Authorization"]
    assert b64decode(header.removeprefix("Basic ")).decode() == f"{user}:{password}"


@given(st.text(st.characters(exclude_characters="%", exclude_categories=["C"]), min_size=1, max_size=20))
def test_any_password_arrives_as_it_was_written(password: str) -> None:
    header = proxy_login(proxy_url(f"http://u:{password}@proxy"))["Proxy-Authorization"]
    is_plain = password.isprintable()
    assert not is_plain or b64decode(header.removeprefix("Basic ")).decode() == f"u:{password}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("socks5://hunter2@proxy:1080", "SOCKS"),
        ("socks4a://proxy", "SOCKS"),
        ("ftp://proxy", "scheme"),
        ("http://", "no host"),
        ("http://u:hunter2@", "no host"),
        ("http://proxy:port", "no host"),
        ("http://proxy:0", "no host"),
        ("http://proxy:65536", "no host"),
        ("http://pro xy", "no host"),
        ("http://proxy/path", "no host"),
        ("http://10.0.0.256", "no host"),
        ("http://u:hunter2\n@proxy", "line break"),
    ],
)
def test_what_is_no_address_of_a_proxy_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        proxy_url(text)
    assert "hunter2" not in str(caught.value)


# entry of NO_PROXY, host, port, whether the way is direct
NO_PROXY: list[tuple[str, str, int, bool]] = [
    ("*", "a.example", 443, True),
    ("a.example", "a.example", 443, True),
    ("A.Example", "a.EXAMPLE", 443, True),
    ("a.example", "a.example.", 443, True),
    ("a.example.", "a.example", 443, True),
    ("example", "a.example", 443, True),
    (".example", "a.example", 443, True),
    (".example", "example", 443, True),
    ("*.example", "a.b.example", 443, True),
    ("*.example", "aexample", 443, False),
    ("example", "aexample", 443, False),
    ("a.example", "example", 443, False),
    ("a.example:8088", "a.example", 8088, True),
    ("a.example:8088", "a.example", 443, False),
    (".example:443", "a.example", 443, True),
    ("127.0.0.1", "127.0.0.1", 8088, True),
    ("127.0.0.1:8088", "127.0.0.1", 8088, True),
    ("127.0.0.1:8088", "127.0.0.1", 8089, False),
    ("127.0.0.0/8", "127.0.0.1", 8088, True),
    ("127.0.0.0/8", "127.255.1.2", 8088, True),
    ("127.0.0.0/8", "128.0.0.1", 8088, False),
    ("127.0.0.0/8", "127.example", 8088, False),
    ("10.1.0.0/16", "10.1.2.3", 443, True),
    ("10.1.0.0/16", "10.2.2.3", 443, False),
    ("10.1.2.3/16", "10.1.9.9", 443, True),
    ("0.0.0.0/0", "10.1.9.9", 443, True),
    ("10.0.0.1/32", "10.0.0.1", 443, True),
    ("::1", "::1", 443, True),
    ("[::1]", "::1", 443, True),
    ("[::1]:8088", "::1", 8088, True),
    ("[::1]:8088", "::1", 8089, False),
    ("::1", "0:0:0:0:0:0:0:1", 443, True),
    ("fd00::/8", "fd12::1", 443, True),
    ("fd00::/8", "fe80::1", 443, False),
    ("[fd00::]/8", "fd12::1", 443, True),
    ("10.0.0.0/8", "::ffff:10.1.2.3", 443, True),
    ("10.0.0.0/8", "fd00::1", 443, False),
    ("169.254.0.0/16", "example.169.254", 443, False),
]


@pytest.mark.parametrize(("entry", "host", "port", "is_direct"), NO_PROXY)
def test_an_entry_of_no_proxy_stands_for_what_tools_agree_on(entry: str, host: str, port: int, is_direct: bool) -> None:
    assert is_entry(entry)
    for scheme, proxy in PROXIES.items():
        found = proxy_for(scheme, host, port, {**PROXIES, "no": f"other,{entry}"})
        assert found == (None if is_direct else proxy)


def test_without_a_port_it_is_that_of_the_scheme() -> None:
    assert proxy_for("https", "a", None, {**PROXIES, "no": "a:443"}) is None
    assert proxy_for("http", "a", None, {**PROXIES, "no": "a:443"}) == PROXIES["http"]


def test_a_proxy_is_for_its_scheme_alone() -> None:
    assert proxy_for("https", "a", None, {"http": "http://p"}) is None
    assert proxy_for("http", "a", None, {"http": ""}) is None


@pytest.mark.parametrize(
    "entry",
    ["10.0.*", "10.0.0.0/33", "fd00::/129", "10.0.0.0/x", "10.0.0.0/8:80", "a:port", "a:0", "http://a", "a/b", "a*b",
     "*a.b*", "<local>", "10.0.0.256", "[::1", "[a]", "", ".", "a:1:2"],
)  # fmt: skip
def test_what_no_tool_understands_is_no_entry_and_stands_for_nothing(entry: str) -> None:
    assert not is_entry(entry)
    assert proxy_for("http", "10.0.0.1", 80, {**PROXIES, "no": entry}) == PROXIES["http"]


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_entry_is_either_one_or_not_and_nothing_else_happens(entry: str, host: str) -> None:
    is_entry(entry)
    proxy_for("http", host, 80, {**PROXIES, "no": entry})


@given(st.text(st.one_of(st.sampled_from("%0aA2f"), st.characters(exclude_categories=["Cs"]))))
def test_percent_encoding_is_that_of_the_standard_library(text: str) -> None:
    """Which takes too long to import before registration."""
    assert encode(text) == quote(unquote(text, errors="surrogateescape"), safe="", errors="surrogateescape")
