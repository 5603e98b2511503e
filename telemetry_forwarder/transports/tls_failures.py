"""Explain a failed TLS handshake and what to do about it: one sentence for each kind of failure. Pure.

Nothing is imported from `ssl`, which costs 5 ms that an error of another kind should not cost. Errors of `ssl` are
recognized by their attributes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

_MOST_NAMES = 5

# Values of X509_V_ERR_…. Source: OpenSSL, include/openssl/x509_vfy.h.
NOT_YET_VALID, EXPIRED = 9, 10
_SELF_SIGNED = (18,)
_UNKNOWN_AUTHORITY = (2, 19, 20, 21, 27)
_OTHER_NAME = (62, 64)
_TOO_WEAK = (66, 67, 68)
_REVOKED = 23

HUNG_UP = (
    "the other end closed the connection within the TLS handshake: it speaks no TLS on that port, or refuses ours "
    "(it may want a certificate from its clients, which cannot be given)"
)
# OpenSSL's reasons by kind, and what each kind means; `said` is the reason. Any other reason is reported as it is.
_TEXTS = {
    (
        "WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE", "BAD_PACKET_LENGTH",
    ):
        "the TLS handshake failed, as what answers there does not speak TLS: if it is plain HTTP (Splunk with SSL "
        "switched off, a proxy), write `http://`, else the port is another one",
    (
        "UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW",
        "WRONG_SSL_VERSION",
    ):
        "the TLS handshake failed, as the server speaks no TLS newer than 1.1: it has to allow TLS 1.2 or 1.3",
    (
        "TLSV13_ALERT_CERTIFICATE_REQUIRED", "PEER_DID_NOT_RETURN_A_CERTIFICATE", "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_NO_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_UNKNOWN", "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_ALERT_ACCESS_DENIED",
    ):
        "the server wants a certificate from its clients, which cannot be given ({said}); Splunk's setting is "
        "requireClientCert",
    ("SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_INSUFFICIENT_SECURITY", "NO_CIPHERS_AVAILABLE"):
        "the TLS handshake failed ({said}): the server wants a certificate from its clients, which cannot be given, or "
        "has no cipher that is accepted today",
    ("TLSV1_UNRECOGNIZED_NAME", "TLSV1_ALERT_UNRECOGNIZED_NAME"):
        "the server has no certificate for that name: the address needs the name that the server knows itself by",
    ("DH_KEY_TOO_SMALL", "EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "BAD_SIGNATURE"):
        "the server's key is too weak to be accepted ({said}): it has to be given a longer one",
}  # fmt: skip


def is_tls(error: object) -> bool:
    """Return whether `error` is one of the `ssl` module's."""
    return hasattr(error, "library") and hasattr(error, "reason")


def is_hung_up(error: object) -> bool:
    """Return whether the server closed the connection when TLS should begin. asyncio gives no error number then."""
    return isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError)


def is_other_name(error: object) -> bool:
    return getattr(error, "verify_code", None) in _OTHER_NAME


def tls_failure(
    error: Any, *, ca_file: str | None = None, names: Iterable[str] = (), variable: str = "SSL_CERT_FILE"
) -> str:
    """Return why a handshake failed, from the `ssl.SSLError`, and what to do.

    `ca_file` holds the trusted authorities (None: the system's), `variable` is the setting that names it; `names` are
    those of the certificate, if known.
    """
    if getattr(error, "verify_message", None) is not None:  # ssl.SSLCertVerificationError
        return _not_verified(error, ca_file, tuple(names), variable)
    reason = getattr(error, "reason", None) or ""
    text = next((text for reasons, text in _TEXTS.items() if reason in reasons), "the TLS handshake failed ({said})")
    return text.format(said=said(error))


def _not_verified(error: Any, ca_file: str | None, names: tuple[str, ...], variable: str) -> str:
    code, reason = getattr(error, "verify_code", 0), error.verify_message or "it does not verify"
    if code == EXPIRED:
        return (
            f"the certificate of the server, or of its authority, has expired: it has to be renewed there; {variable} "
            "changes nothing in that"
        )
    if code == NOT_YET_VALID:
        return (
            "the certificate of the server is not valid yet: the clock where it was made, or of this environment, is "
            f"wrong; {variable} changes nothing in that"
        )
    if code in _OTHER_NAME:
        known = f", but for {listed(names)}" if names else f" ({reason})"
        return (
            f"the certificate is not for that name{known}: write a name that it has into the address, or have it made "
            f"for this one; {variable} changes nothing in that"
        )
    if code in _SELF_SIGNED:
        there = f"is not in {ca_file}, which {variable} names" if ca_file else "is not trusted"
        return f"the server has a self-signed certificate, which {there}; {variable} must name a PEM file that holds it"
    if code in _UNKNOWN_AUTHORITY:
        there = f"is not in {ca_file}" if ca_file else "is none that the system trusts"
        return (
            f"the authority of the certificate {there} ({reason}); {variable} must name a PEM file with the authority's"
            " own certificate (a company's proxy that opens TLS has one too), and the server must send those between"
        )
    if code in _TOO_WEAK:
        return f"the certificate is too weak to be accepted ({reason}): it has to be made anew"
    if code == _REVOKED:
        return "the certificate has been revoked: it has to be made anew"
    return f"the certificate is not accepted ({reason})"


def listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(name[:100] for name in names[:_MOST_NAMES])
    return shown + (f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else "")


def names_in(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names in a certificate, which has the form that `SSLSocket.getpeercert` returns."""
    return tuple(str(name) for kind, name in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address"))


def said(error: Any) -> str:
    """Return OpenSSL's reason as words."""
    reason = getattr(error, "reason", None)
    return reason.replace("_", " ").lower() if isinstance(reason, str) and reason else type(error).__name__
