"""Call CloudWatch Logs, Secrets Manager and SSM without the AWS SDK: one signed POST for each call.

All three speak the protocol AWS JSON 1.1: the operation is a header, parameters and answer are JSON objects. The SDK
takes some 50 ms of CPU more to load and to make a client for that, and the first invocation of a function waits for it:
a small one seven times as long. The request goes the way of all others (`transports.http`): its connections,
proxies, TLS and errors. Source: Smithy, "AWS JSON 1.1 protocol"; read 2026-11-28.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from telemetry_forwarder.clock import Clock, SystemClock
from telemetry_forwarder.errors import ConnectionLost, CredentialUnavailable, NotTheService
from telemetry_forwarder.foreign import what_answered
from telemetry_forwarder.interfaces import AwsResponse, Cause, HttpRequest, HttpResponse
from telemetry_forwarder.transports.addresses import Network, choose_proxy, host_port
from telemetry_forwarder.transports.aws_answers import (
    NO_CREDENTIALS,
    NOT_AWS,
    OF_AWS,
    error_type,
    longest,
    wait_asked_for,
)
from telemetry_forwarder.transports.aws_environment import (
    CredentialSource,
    EnvironmentCredentials,
    NoCredentials,
    ca_file_of,
    endpoint_of,
    region_of,
)
from telemetry_forwarder.transports.aws_signature import signed
from telemetry_forwarder.transports.http import HttpTransport

_TARGETS = {"logs": "Logs_20140328", "secretsmanager": "secretsmanager", "ssm": "AmazonSSM"}
_CONTENT_TYPE = "application/x-amz-json-1.1"
_CA_VARIABLES = "SSL_CERT_FILE or AWS_CA_BUNDLE"
_NAME_ADVICE = "check AWS_REGION, and in a VPC its DNS support"
# A list of 20 secrets of 64 KiB, in which every character may be an escape of six.
_LONGEST_ANSWER_BYTES = 16 * 1024 * 1024

_OF_ERRORS = ("__type", "message", "Message")

# The member of an answer under which its unchanged body is kept for who asks for that.
BODY = "telemetry-forwarder-body"


class AwsClient:
    """Calls one service in one region, each call once. With `keeps_body`, BODY is the only member of an answer.

    `connections` bounds the calls under way (0: it does not). `read_s` bounds the wait for an answer, `connect_s` that
    for a connection. Raises NoEndpoint if there is no region, or the service's variable names no address.
    """

    def __init__(
        self,
        service: str,
        network: Network,
        *,
        region: str | None = None,
        connect_s: float,
        read_s: float | None = None,
        connections: int = 0,
        keeps_body: bool = False,
        credentials: CredentialSource | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._service = service
        self._region = region_of(network, region)
        self._url = endpoint_of(service, self._region)
        self._clock = clock or SystemClock()
        self._credentials = credentials or EnvironmentCredentials()
        self._keeps_body = keeps_body
        self._room = asyncio.Semaphore(connections) if connections else None
        self._http = HttpTransport(
            proxy=choose_proxy(self._url, network.proxies),
            ca_file=ca_file_of(network),
            connect_s=connect_s,
            read_s=read_s,
            clock=self._clock,
            longest_answer_bytes=_LONGEST_ANSWER_BYTES,
            ca_variable=_CA_VARIABLES,
            name_advice=_NAME_ADVICE,
        )

    @property
    def where(self) -> str:
        """Host and port of the service."""
        return host_port(self._url)

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> AwsResponse:
        """Call `operation`, such as `GetParameter`, once, and return the answer of the service, even if it is an error.

        Without credentials nothing is sent: the answer `is_unsent`, and is that of the service to an unknown caller.
        Raises NotTheService if something else answered, and another TransportError if no whole answer came.
        """
        try:
            credentials = await self._credentials.get()
        except NoCredentials:
            return AwsResponse(status=400, error="UnrecognizedClientException", message=NO_CREDENTIALS, is_unsent=True)
        except CredentialUnavailable as error:
            raise CredentialUnavailable(f"{self.where}: {error}") from None
        body = orjson.dumps(parameters)
        headers = {"Content-Type": _CONTENT_TYPE, "X-Amz-Target": f"{_TARGETS[self._service]}.{operation}"}
        if self._room is None:
            return self._read(await self._send(body, headers, credentials))
        async with self._room:
            return self._read(await self._send(body, headers, credentials))

    def waits_for(self) -> Cause | None:
        """Return the connection step that is waited for; None if it is the answer."""
        return self._http.waits_for()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _send(self, body: bytes, headers: dict[str, str], credentials: Any) -> HttpResponse:
        now_s = self._clock.time()
        sent = signed(credentials, self._service, self._region, self._url, headers, body, now_s)
        return await self._http.send(HttpRequest(method="POST", url=self._url, headers=sent, body=body))

    def _read(self, answer: HttpResponse) -> AwsResponse:
        """Return the answer of the service. Raises ConnectionLost for half of one, NotTheService for another's."""
        if answer.unreadable:
            raise ConnectionLost(f"{self.where}: of the answer {answer.status}, {answer.unreadable}")
        members = _object_in(answer.body)
        if 200 <= answer.status < 300:
            if members is None and not OF_AWS & answer.headers.keys():
                body = b"?" if self._keeps_body else answer.body  # which may hold a secret
                told = what_answered(answer.status, body, answer.headers)
                raise NotTheService(NOT_AWS.format(where=self.where, told=told))
            return AwsResponse(status=answer.status, body=self._members(members, answer.body))
        members = members or {}
        more = {name: value for name, value in members.items() if name not in _OF_ERRORS}
        return AwsResponse(
            status=answer.status,
            error=error_type(members, answer.status),
            message=longest(members.get("message", members.get("Message", ""))),
            retry_after=wait_asked_for(answer.headers),
            body=self._members(more, answer.body),
        )

    def _members(self, members: dict[str, Any] | None, body: bytes) -> dict[str, Any]:
        return {BODY: body} if self._keeps_body else members or {}


def _object_in(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in `body`, or None: status and headers tell what AWS did, whatever the body."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
