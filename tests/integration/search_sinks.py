"""Sinks for receivers of one's own and for search engines, each with its strict receiver: what their tests need."""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from local_backends import Backend, Bulk, JsonReceiver, Loki
from tests.integration.world import NUMBERED

SECRET = "hunter2+is/secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A sink: how its receiver is made, what leads there, what it stored as texts, and the variable of its secret."""

    sink: str
    receiver: Callable[[], Backend]
    environment: Callable[[str], Mapping[str, str]]
    text: Callable[[Any], str]
    secret_in: str

    def __str__(self) -> str:
        return self.sink

    def variables(self, receiver: Backend) -> dict[str, str | None]:
        given = {"TELEMETRY_FORWARDER_SINKS": self.sink, "TELEMETRY_FORWARDER_FLUSH": "end"}
        return {**given, **self.environment(receiver.url)}

    def numbers(self, receiver: Backend) -> Counter[int]:
        """Count how often each numbered line arrived."""
        return Counter(int(number) for one in receiver.kept for number in NUMBERED.findall(self.text(one)))


_HTTP = "TELEMETRY_FORWARDER_HTTP_"
CASES = (
    Case(
        sink="http",
        receiver=lambda: JsonReceiver(path="/in?a=b", token=SECRET),
        environment=lambda url: {f"{_HTTP}URL": f"{url}/in?a=b", f"{_HTTP}TOKEN": SECRET},
        text=lambda one: str(one.get("message", "")),
        secret_in=f"{_HTTP}TOKEN",
    ),
    Case(
        sink="loki",
        receiver=lambda: Loki(login=("me", SECRET), tenants=["shop"]),
        environment=lambda url: {
            "LOKI_ADDR": url,
            "LOKI_USERNAME": "me",
            "LOKI_PASSWORD": SECRET,
            "LOKI_ORG_ID": "shop",
        },
        text=lambda one: str(one.line),
        secret_in="LOKI_PASSWORD",
    ),
    Case(
        sink="elasticsearch",
        receiver=lambda: Bulk(authorization=f"ApiKey {SECRET}", targets=["logs-lambda-shop"]),
        environment=lambda url: {
            "ELASTICSEARCH_URL": url,
            "ELASTICSEARCH_API_KEY": SECRET,
            "ELASTICSEARCH_DATA_STREAM": "logs-lambda-shop",
            "ELASTICSEARCH_SOURCE_ON_ERROR": "false",
        },
        text=lambda one: str(one.source.get("message", "")),
        secret_in="ELASTICSEARCH_API_KEY",
    ),
    Case(
        sink="opensearch",
        receiver=lambda: Bulk(authorization=Bulk.basic("me", SECRET), is_old=True),
        environment=lambda url: {"OPENSEARCH_URL": url, "OPENSEARCH_USERNAME": "me", "OPENSEARCH_PASSWORD": SECRET},
        text=lambda one: str(one.source.get("message", "")),
        secret_in="OPENSEARCH_PASSWORD",
    ),
)


def shows_secret(text: str, *others: str) -> bool:
    """Return whether a text shows the secret: as it is, in a URL, or in base64, alone or behind a user name."""
    forms = [SECRET, quote(SECRET, safe=""), b64encode(SECRET.encode()).decode().rstrip("=")]
    forms += [b64encode(f"{user}:{SECRET}".encode()).decode().rstrip("=") for user in others]
    return any(re.search(re.escape(form), text) for form in forms)
