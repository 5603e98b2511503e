"""Make one call with the AWS SDK and convert its result; for S3 and SQS."""

import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp.client_exceptions import ClientConnectorError, ClientError
from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from telemetry_forwarder.errors import (
    ConnectFailed,
    ConnectionLost,
    CredentialUnavailable,
    NotTheService,
    TimedOut,
    TransportError,
    drop_tracebacks,
)
from telemetry_forwarder.interfaces import AwsResponse
from telemetry_forwarder.transports.addresses import host_port
from telemetry_forwarder.transports.aws_answers import NO_CREDENTIALS, NOT_AWS, longest, wait_asked_for
from telemetry_forwarder.transports.aws_session import ForeignAnswer
from telemetry_forwarder.transports.steps import connection_wanted
from telemetry_forwarder.transports.tls_failures import is_tls, tls_failure

# All exceptions that botocore raises. Its own `ClientError` is an answer; the last two are no BotoCoreErrors.
SDK_ERRORS = (aws.ClientError, aws.BotoCoreError, ClientError, OSError, ResponseParserError, ForeignAnswer)


# botocore's own exceptions about the network. All others are about us: a setting, a model, a parameter.
_OF_THE_NETWORK = (
    aws.HTTPClientError,
    aws.ConnectionError,
    aws.EndpointConnectionError,
    aws.ConnectTimeoutError,
    aws.SSLError,
    aws.ProxyConnectionError,
    aws.IncompleteReadError,
    aws.ChecksumError,
    aws.FlexibleChecksumError,
)
_LONGEST_REASON = 300
_CA_VARIABLES = "SSL_CERT_FILE or AWS_CA_BUNDLE"


async def call(client: Any, operation: str, parameters: Mapping[str, Any]) -> AwsResponse:
    """Call `operation` once and return the answer of the service, even if it is an error.

    If the SDK refuses the call on our side, the answer `is_unsent`, with the type and status that the service would
    give: missing credentials are `UnrecognizedClientException`, wrong parameters `InvalidParameterException`.

    Raises NotTheService if something else answered, and another TransportError if no answer came.
    """
    try:
        answer: Mapping[str, Any] = await getattr(client, operation)(**parameters)
    except SDK_ERRORS as error:
        drop_tracebacks(error)
        return failed(error, host_port(client.meta.endpoint_url), operation)
    return AwsResponse(status=answer["ResponseMetadata"]["HTTPStatusCode"], body=_members(answer))


def failed(error: Exception, where: str, what: str) -> AwsResponse:
    """Return the answer that an exception of `SDK_ERRORS` holds. Raises TransportError if it holds none."""
    if isinstance(error, aws.ClientError):
        return refused(error.response)
    if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError):
        return AwsResponse(status=400, error="UnrecognizedClientException", message=NO_CREDENTIALS, is_unsent=True)
    if isinstance(error, aws.ParamValidationError):
        said = longest(" ".join(str(error).split()))
        message = f"the AWS SDK refuses {what} ({said})"
        return AwsResponse(status=400, error="InvalidParameterException", message=message, is_unsent=True)
    raise translated(error, where) from error


def refused(response: Mapping[str, Any]) -> AwsResponse:
    """Return the answer in a `ClientError.response`; its type has no namespace (`com.amazonaws.logs#…`)."""
    metadata, told = response.get("ResponseMetadata", {}), response.get("Error", {})
    return AwsResponse(
        status=int(metadata.get("HTTPStatusCode", 400)),
        error=str(told.get("Code", "Unknown")).rpartition("#")[2],
        message=longest(told.get("Message", "")),
        retry_after=wait_asked_for(metadata.get("HTTPHeaders", {})),
        body=_members(response),
    )


def _members(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in ("ResponseMetadata", "Error")}


def translated(error: BaseException, where: str) -> TransportError:
    """Return the transport error for an exception of `SDK_ERRORS`; `where` is host and port."""
    # botocore wraps aiohttp's exceptions. Even a reset in the middle of an answer becomes an EndpointConnectionError.
    cause = error.__cause__ or error.__context__
    if isinstance(error, aws.SSLError):
        tls = next((one for one in _causes(error) if is_tls(one)), None)
        reason = "the TLS handshake failed" if tls is None else tls_failure(tls, variable=_CA_VARIABLES)
        return ConnectFailed(f"{where}: {reason}")
    if isinstance(cause, FileNotFoundError | IsADirectoryError | PermissionError | ssl.SSLError):
        return ConnectFailed(f"{where}: the CA file that SSL_CERT_FILE or AWS_CA_BUNDLE names cannot be read")
    if isinstance(error, aws.ReadTimeoutError):
        return TimedOut(f"{where}: no answer in time")
    if isinstance(error, aws.ConnectTimeoutError):
        return ConnectFailed(connection_wanted(where).text)
    if isinstance(error, aws.ProxyConnectionError):
        return ConnectFailed(f"{where}: the proxy cannot be reached or refused the connection; check HTTPS_PROXY")
    if isinstance(error, aws.EndpointConnectionError) and isinstance(cause, ClientConnectorError):
        return ConnectFailed(f"{where}: {_why_not(cause.os_error)}")
    if isinstance(error, aws.CredentialRetrievalError | aws.MetadataRetrievalError | aws.PartialCredentialsError):
        return CredentialUnavailable(f"{where}: the AWS credentials could not be read ({type(error).__name__})")
    if isinstance(error, ForeignAnswer | ResponseParserError):
        told = str(error) if isinstance(error, ForeignAnswer) else "its answer cannot be read"
        return NotTheService(NOT_AWS.format(where=where, told=told))
    if isinstance(error, aws.BotoCoreError) and not isinstance(error, _OF_THE_NETWORK):
        return ConnectFailed(f"{where}: the AWS SDK cannot send it: {_own_fault(error)}")
    if isinstance(error, aws.HTTPClientError) and not isinstance(cause, OSError | ClientError | None):
        return ConnectFailed(f"{where}: the request cannot be sent ({type(cause).__name__})")
    return ConnectionLost(f"{where}: the connection ended before the answer did ({type(cause or error).__name__})")


def _why_not(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved ({error.strerror}); check AWS_REGION, and in a VPC its DNS support"
    return f"no connection ({error.strerror or type(error).__name__})"


def _own_fault(error: Exception) -> str:
    """Return what botocore found wrong on our side: the kind, and its own words, which hold settings and no secrets."""
    return f"{type(error).__name__}: {str(error)[:_LONGEST_REASON].rstrip('.')}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its causes; aiohttp keeps a certificate error in an attribute."""
    while error is not None:
        yield error
        error = getattr(error, "certificate_error", None) or error.__cause__ or error.__context__
