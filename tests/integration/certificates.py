"""Certificates for servers of tests: an authority, and what it signs, right or wrong."""

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


class Authority:
    """An authority of its own; `trusted` is the PEM file of its certificate, in `folder`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._made = 0
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(name)
        now = datetime.datetime.now(datetime.UTC)
        self.certificate = (
            x509.CertificateBuilder(self.name, self.name, self.key.public_key(), x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        self.trusted = folder / f"{name}.pem"
        self.trusted.write_bytes(self.certificate.public_bytes(PEM))

    def server(
        self, *names: str, starts: float = -1, ends: float = 1, bits: int | None = None, is_own: bool = False
    ) -> ssl.SSLContext:
        """Return a server's context for `names`, valid from `starts` to `ends` days from now; `is_own`: self-signed."""
        key = ec.generate_private_key(ec.SECP256R1()) if bits is None else rsa.generate_private_key(65537, bits)
        now = datetime.datetime.now(datetime.UTC)
        subject = _name(names[0])
        known: list[x509.GeneralName] = [
            x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
        ]
        certificate = (
            x509.CertificateBuilder(
                subject if is_own else self.name, subject, key.public_key(), x509.random_serial_number()
            )
            .not_valid_before(now + starts * DAY)
            .not_valid_after(now + ends * DAY)
            .add_extension(x509.SubjectAlternativeName(known), critical=False)
            .sign(key if is_own else self.key, hashes.SHA256())
        )
        self._made += 1
        path = self._folder / f"server-{self._made}.pem"
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.write_bytes(private + certificate.public_bytes(PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.load_cert_chain(path)
        return context
