"""Further columns of the matrix: the vendors that take JSON by HTTP. Four of them share an environment.

How each backend is opened, the variables that lead there, and what is read of a record that it stored.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from local_backends import Axiom, Honeycomb, NewRelic, SumoLogic
from local_backends.intake import Intake


@dataclass(frozen=True, slots=True)
class Vendor:
    """`read` returns the type of a stored record, its time in ms, and its text or its members."""

    open: Callable[[ssl.SSLContext | None], Intake]
    environ: Callable[[Any], Mapping[str, str]]
    read: Callable[[Any], tuple[str, int, Any]]


def _of_members(members: Mapping[str, Any], time_ms: int) -> tuple[str, int, Any]:
    return members["lambda"]["type"], time_ms, members.get("record", members.get("message"))


def _of_flat(type_: str, time_ms: int, message: str, members: Mapping[str, Any]) -> tuple[str, int, Any]:
    if "." not in type_:
        return type_, time_ms, message
    found = {key.removeprefix("record."): value for key, value in members.items() if key.startswith("record.")}
    return type_, time_ms, found or orjson.loads(message)


VENDORS: Mapping[str, Vendor] = {
    "axiom": Vendor(
        lambda tls: Axiom(token="axiom-key", tls=tls),
        lambda axiom: {"AXIOM_TOKEN": "axiom-key", "AXIOM_DATASET": axiom.dataset, "AXIOM_URL": axiom.url},
        lambda event: _of_members(event.members, event.time_ms),
    ),
    "honeycomb": Vendor(
        lambda tls: Honeycomb(key="honeycomb-key", tls=tls),
        lambda honeycomb: {
            "HONEYCOMB_API_KEY": "honeycomb-key",
            "HONEYCOMB_DATASET": honeycomb.dataset,
            "HONEYCOMB_API_ENDPOINT": honeycomb.url,
        },
        lambda event: _of_flat(event.data["lambda.type"], event.time_ms, event.data.get("message", ""), event.data),
    ),
    "sumologic": Vendor(
        lambda tls: SumoLogic(token="sumo-key", tls=tls),
        lambda sumo: {"SUMO_HTTP_ENDPOINT": sumo.address},
        lambda message: _of_members(message.members, message.time_ms),
    ),
    "newrelic": Vendor(
        lambda tls: NewRelic(key="newrelic-key", tls=tls),
        lambda newrelic: {"NEW_RELIC_LICENSE_KEY": "newrelic-key", "NEW_RELIC_LOG_ENDPOINT": newrelic.url},
        lambda log: _of_flat(log.attributes["telemetry.type"], log.timestamp, log.message, log.attributes),
    ),
}

# What the contract cannot cover: endings, freezes, answers that are lost, the shutdown window.
SPREAD: tuple[tuple[str, str, str], ...] = (
    ("ok", "kill -9", "continuous"),
    ("slow 1 s", "freeze", "end"),
    ("reset, stored", "kill -9", "end"),
    ("hang", "timeout", "adaptive"),
    ("hang, stored", "freeze", "periodic"),
    ("400, then well", "spindown", "periodic"),
    ("401", "crash", "adaptive"),
    ("503", "kill -9, strict", "adaptive"),
    ("partial", "freeze", "adaptive"),
    ("TLS error", "spindown", "continuous"),
    ("half answer", "timeout", "continuous"),
)
