"""Add credentials to requests, as a transport around a transport: sinks never see a secret or its rotation."""

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import Mapping
from typing import Protocol

from msgspec.structs import replace

from telemetry_forwarder.clock import Clock, Moment, SystemClock
from telemetry_forwarder.errors import CredentialUnavailable, SecretError, SecretUnavailable
from telemetry_forwarder.interfaces import (
    Cause,
    Credential,
    CredentialUrl,
    DropReason,
    HeaderList,
    HttpRequest,
    HttpResponse,
    Transport,
    step_of,
)
from telemetry_forwarder.variables.types import Secret, SecretReference, Url


class SecretSource(Protocol):
    """Reads the secrets that are given by reference: the SecretsService."""

    async def fetch(self, reference: SecretReference, *, fresh: bool = False) -> Secret:
        """Read a secret; with `fresh` from its service even if a value is held. Raises SecretError."""
        ...

    def waits_for(self, reference: SecretReference) -> Cause | None:
        """Return what a read of the secret waits for, if that is known."""
        ...


UNAUTHORIZED = (401, 403)

# How long the last result counts: a refused credential is not read again, nor a missing one asked for again, more often
# than this. GetSecretValue is billed by the call.
_BELIEF_S = 60.0


class AuthTransport:
    """Adds the header of `credential`, or each of a list, or its URL, to each request before `inner` sends it.

    A SecretReference is read from `secrets` for the first request, once for all that wait, and kept. After a 401 or
    403 it is read again, at most every 60 s. If the value has changed, the request is sent again, once; otherwise the
    answer is returned. Raises CredentialUnavailable, from the SecretError, if the secret cannot be read.
    """

    def __init__(
        self,
        inner: Transport[HttpRequest, HttpResponse],
        credential: Credential | CredentialUrl | HeaderList,
        secrets: SecretSource | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._inner = inner
        self._unsent = 0  # requests that wait for the secret
        self._credential = credential
        self._source: _GivenSecret | _HeldSecret
        if isinstance(credential.secret, Secret):
            self._source = _GivenSecret(credential.secret)
        elif secrets is not None:
            self._source = _HeldSecret(credential.secret, secrets, clock or SystemClock())
        else:
            raise ValueError("a credential that is a reference needs a way to read it")

    async def send(self, request: HttpRequest) -> HttpResponse:
        self._unsent += 1
        try:
            secret = await self._source.read()
        finally:
            self._unsent -= 1
        response = await self._inner.send(authorized(request, self._credential, secret))
        if response.status not in UNAUTHORIZED:
            return response
        other = await self._source.read_other_than(secret, response.status)
        if other is None:
            return response
        return await self._inner.send(authorized(request, self._credential, other))

    async def warm(self) -> None:
        """Read the secret before the first request needs it. An error is ignored here; that request will report it."""
        with contextlib.suppress(CredentialUnavailable):
            await self._source.read()

    def is_preparing(self) -> bool:
        """Return whether a request has not been sent yet because the secret is being read."""
        return self._unsent > 0

    def waits_for(self) -> Cause | None:
        """Return what delays the requests: the secret, or what `inner` waits for."""
        return self._source.waits_for() or step_of(self._inner)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _GivenSecret:
    """A secret whose value is in the settings; there is no other source to read again."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    async def read(self) -> Secret:
        return self._secret

    async def read_other_than(self, refused: Secret, status: int) -> Secret | None:
        return None

    def waits_for(self) -> Cause | None:
        return None


class _HeldSecret:
    """A secret given by reference: read when first needed, and again after a refusal; one read at a time."""

    def __init__(self, reference: SecretReference, secrets: SecretSource, clock: Clock) -> None:
        self._reference = reference
        self._secrets = secrets
        self._clock = clock
        self._lock = asyncio.Lock()
        self._secret: Secret | None = None
        self._failure: SecretError | None = None
        self._failures = 0
        self._failed_at: Moment | None = None
        self._read_again_at: Moment | None = None

    async def read(self) -> Secret:
        """Return the secret. Callers that wait for a running read share its result or error."""
        failures = self._failures
        async with self._lock:
            if self._secret is not None:
                return self._secret
            if self._failure is not None and (self._failures != failures or self._is_believed(self._failure)):
                raise CredentialUnavailable(str(self._failure)) from self._failure
            try:
                self._secret = await self._secrets.fetch(self._reference)
            except SecretError as error:
                self._failure = error
                self._failures += 1
                self._failed_at = Moment.now(self._clock)
                raise CredentialUnavailable(str(error)) from error
            return self._secret

    async def read_other_than(self, refused: Secret, status: int) -> Secret | None:
        """Return the value that replaced the `refused` one; None if it is unchanged, or was read again lately."""
        async with self._lock:
            if self._secret is not None and self._secret != refused:
                return self._secret  # another caller noticed the rotation first
            if self._is_recent(self._read_again_at):
                return None
            try:
                self._secret = await self._secrets.fetch(self._reference, fresh=True)
            except SecretError as error:
                self._read_again_at = Moment.now(self._clock)
                raise CredentialUnavailable(f"answered {status}, and read again: {error}") from error
            self._read_again_at = Moment.now(self._clock)
            return self._secret if self._secret != refused else None

    def waits_for(self) -> Cause | None:
        """Return what the read of the secret waits for; None if it is not being read."""
        told = self._secrets.waits_for(self._reference) if self._secret is None else None
        if told is None and not self._lock.locked():
            return None
        text = f"{self._reference.service} {self._reference.name} is still being read"
        return told or Cause("secret", text, DropReason.SECRET_UNREADABLE, is_normal=True)

    def _is_believed(self, failure: SecretError) -> bool:
        """Return whether `failure` still counts: a missing secret stays missing for a while, a service may recover."""
        return not isinstance(failure, SecretUnavailable) and self._is_recent(self._failed_at)

    def _is_recent(self, moment: Moment | None) -> bool:
        return moment is not None and moment.age(self._clock) < _BELIEF_S


class SealedHeaders(dict[str, str]):
    """Headers that hold a secret, so their values are not shown."""

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self, "***"))

    __str__ = __repr__


class SealedUrl(str):
    """A URL that is a secret, so it is not shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"


def authorized(
    request: HttpRequest, credential: Credential | CredentialUrl | HeaderList, secret: Secret
) -> HttpRequest:
    """Return `request` with the credential's URL, or its headers, which replace those of the same name in any case.

    Raises CredentialUnavailable if a list of headers is none, or a URL is none.
    """
    if isinstance(credential, CredentialUrl):
        return replace(request, url=_url_in(credential, secret))
    if isinstance(credential, HeaderList):
        added = _headers_in(credential, secret)
    else:
        value = secret.reveal()
        if credential.user is not None:  # source: RFC 7617, in UTF-8
            value = b64encode(f"{credential.user}:{value}".encode()).decode()
        added = {credential.header: credential.prefix + value}
    names = {name.lower() for name in added}
    headers: Mapping[str, str] = SealedHeaders(
        {key: value for key, value in request.headers.items() if key.lower() not in names} | added
    )
    return replace(request, headers=headers)


def _url_in(credential: CredentialUrl, secret: Secret) -> SealedUrl:
    try:
        return SealedUrl(Url().read(secret.reveal().strip()))
    except ValueError:
        where = credential.secret
        what = "the address" if isinstance(where, Secret) else f"{where.service} {where.name}"
        raise CredentialUnavailable(f"{what} holds no URL, which has to be a whole one, `https://…`") from None


def _headers_in(listed: HeaderList, secret: Secret) -> dict[str, str]:
    from telemetry_forwarder.variables.otlp import headers_in  # loaded only where headers are listed

    try:
        return dict(headers_in(secret.reveal()))
    except ValueError as error:
        where = listed.secret
        what = "the headers" if isinstance(where, Secret) else f"{where.service} {where.name}"
        raise CredentialUnavailable(f"{what}: {error}") from None
