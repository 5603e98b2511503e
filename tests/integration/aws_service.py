"""Where the tests of the AWS transports send to: moto, and a service that says what it is told to say."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from .sockets import Answer, Seen, says

REGION = "eu-central-1"
ENDPOINTS = ("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL_SECRETS_MANAGER")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Lambda sets, and nothing of the machine that the tests run on."""
    for name in (
        "AWS_PROFILE",
        "AWS_CA_BUNDLE",
        "AWS_ENDPOINT_URL",
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        *ENDPOINTS,
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")


@pytest.fixture
def endpoint(environment: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Point every service at a URL."""

    def point(url: str) -> None:
        for name in ENDPOINTS:
            monkeypatch.setenv(name, url)

    return point


class Service:
    """Answers each operation with its own list of answers, and with 200 when that is over."""

    def __init__(self, **answers: list[Answer]) -> None:
        self.answers = answers
        self.calls: list[str] = []
        self.bodies: list[dict[str, Any]] = []

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        operation = seen.headers["x-amz-target"].rpartition(".")[2]
        self.calls.append(operation)
        self.bodies.append(json.loads(seen.body))
        waiting = self.answers.get(operation)
        return await (waiting.pop(0) if waiting else says(200, b"{}"))(seen, writer)


def error(kind: str, status: int = 400, *headers: str) -> Answer:
    return says(status, json.dumps({"__type": kind, "message": f"{kind} it is"}).encode(), *headers)
