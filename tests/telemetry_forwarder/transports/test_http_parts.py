"""The parts of the HTTP transport that need no socket: the choice of a proxy, and what errors say."""

import errno
import socket
from pathlib import Path

import pytest

from telemetry_forwarder.errors import ConnectionLost, TimedOut
from telemetry_forwarder.transports.addresses import address, choose_proxy
from telemetry_forwarder.transports.http import context_of
from telemetry_forwarder.transports.http_failures import lost, why_not

PROXIES = {"https": "http://user:pass@proxy:3128", "http": "http://plain:8080"}


@pytest.mark.parametrize(
    ("url", "no", "proxy"),
    [
        ("https://intake.example/x", "", PROXIES["https"]),
        ("http://intake.example/x", "", "http://plain:8080"),
        ("https://intake.example/x", "intake.example", None),
        ("https://intake.example/x", ".example", None),
        ("https://intake.example/x", "other.example, example", None),
        ("https://intake.example/x", "take.example", PROXIES["https"]),
        ("https://intake.example/x", "*", None),
        ("https://intake.example:8088/x", "intake.example:8088", None),
        ("https://intake.example/x", "intake.example:443", None),
        ("https://intake.example:8088/x", "intake.example:443", PROXIES["https"]),
        ("https://INTAKE.example/x", "intake.EXAMPLE", None),
        ("http://127.0.0.1:1/x", "127.0.0.1", None),
        ("http://[::1]:8088/x", "::1", None),
        ("http://[::1]:8088/x", "[::1]:8088", None),
    ],
)
def test_proxies_are_chosen_by_scheme_and_left_out_by_no_proxy(url, no, proxy):
    assert choose_proxy(url, {**PROXIES, "no": no}) == proxy


def test_without_a_proxy_for_the_scheme_the_way_is_direct():
    assert choose_proxy("https://intake.example/x", {"http": "http://plain:8080"}) is None
    assert choose_proxy("https://intake.example/x", {}) is None


def test_an_address_holds_host_and_port_and_nothing_secret():
    text = address("https://me:pw@intake.example/path?token=t", "http://user:pass@proxy:3128")
    assert text == "intake.example:443 (through the proxy proxy:3128)"
    assert address("http://[::1]/x", None) == "[::1]:80"
    assert address("http://x:99999999/", None) == "an address that is not a URL"


def test_texts_that_may_quote_the_request_are_left_out():
    assert "token" not in str(lost(OSError("bad header: token"), "x:1"))
    assert "token" not in why_not(OSError("token"), is_proxy=False)


def test_errors_that_no_server_on_loopback_can_cause_are_told_apart():
    unknown = socket.gaierror(-2, "Name or service not known")
    assert why_not(unknown, is_proxy=False) == "the name cannot be resolved (Name or service not known)"
    assert why_not(unknown, is_proxy=True) == "the proxy cannot be reached (Name or service not known)"
    found = [
        lost(TimeoutError(), "x:1"),
        lost(TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "x:1"),
    ]
    assert [type(error) for error in found] == [TimedOut, ConnectionLost]


def test_a_ca_file_of_no_use_does_not_hide_the_systems_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings leave such an SSL_CERT_FILE out, but OpenSSL reads the variable by itself."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    usual = context_of(None).cert_store_stats()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    assert context_of(None).cert_store_stats() == usual
