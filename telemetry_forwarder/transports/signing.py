"""Sign requests to a service of AWS, as a transport around a transport: what is signed is the body as it is sent."""

from msgspec.structs import replace

from telemetry_forwarder.clock import Clock, SystemClock
from telemetry_forwarder.errors import CredentialUnavailable
from telemetry_forwarder.interfaces import Cause, HttpRequest, HttpResponse, Signing, Transport, is_preparing, step_of
from telemetry_forwarder.transports.auth import SealedHeaders
from telemetry_forwarder.transports.aws_answers import NO_CREDENTIALS
from telemetry_forwarder.transports.aws_environment import CredentialSource, EnvironmentCredentials, NoCredentials
from telemetry_forwarder.transports.aws_signature import signed

# A signature is valid for five minutes, so each attempt gets one of its own.


class SigningTransport:
    """Signs each request before `inner` sends it. Raises CredentialUnavailable without credentials."""

    def __init__(
        self,
        inner: Transport[HttpRequest, HttpResponse],
        signing: Signing,
        *,
        credentials: CredentialSource | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._inner = inner
        self._signing = signing
        self._credentials = credentials or EnvironmentCredentials()
        self._clock = clock or SystemClock()

    async def send(self, request: HttpRequest) -> HttpResponse:
        try:
            credentials = await self._credentials.get()
        except NoCredentials:
            raise CredentialUnavailable(NO_CREDENTIALS) from None
        service, region = self._signing.service, self._signing.region
        now_s, given = self._clock.time(), request.headers
        headers = signed(credentials, service, region, request.url, given, request.body, now_s, request.method)
        return await self._inner.send(replace(request, headers=SealedHeaders(headers)))

    def is_preparing(self) -> bool:
        """Return whether a request has not been sent yet because `inner` prepares something."""
        return is_preparing(self._inner)

    def waits_for(self) -> Cause | None:
        return step_of(self._inner)

    async def aclose(self) -> None:
        await self._inner.aclose()
