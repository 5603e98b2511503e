"""How a sink logs in by `Authorization`: with a user name and a password, or with a token. For sinks that take both."""

from telemetry_forwarder.interfaces import Credential
from telemetry_forwarder.sinks.credential import SUFFIXES, choose
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import Problem, Variable
from telemetry_forwarder.variables.types import Secret, SecretArn, SecretText, SsmParameter, Text
from telemetry_forwarder.variables.wording import unquoted

HEADER = "authorization"
BEARER, BASIC = "Bearer ", "Basic "


class UserName(Text):
    """A user name of basic authentication, which holds no colon. Source: RFC 7617."""

    allowed = "1 to 1024 printable characters without `:`"

    def read(self, text: str) -> str:
        if ":" in text:
            raise ValueError(self.allowed)
        return super().read(text)


class Password(SecretText):
    """A password: unlike a token it may hold spaces and any letters."""

    allowed = "a password in printable characters"

    def read(self, text: str) -> Secret:
        text = unquoted(text)
        if not text or not text.isprintable() or text.startswith(("arn:", "{{")):  # a reference instead of a secret
            raise ValueError(self.allowed)
        return Secret(text)


def credential_variables(name: str, what: str, sink: str, kind: SecretText | None = None) -> tuple[Variable, ...]:
    """Return the variables of a credential: its references and the plain one. `what` is e.g. `the API key`."""
    plain = what.removeprefix("the ")
    return (
        Variable(f"{name}_SECRET_ARN", SecretArn(), None, f"Secrets Manager secret that holds {what}", sink),
        Variable(f"{name}_SSM_PARAMETER", SsmParameter(), None, f"SSM parameter with {what}", sink),
        Variable(name, kind or SecretText(), None, f"{plain[0].upper()}{plain[1:]}", sink),
    )


def log_in(
    values: Values, problems: list[Problem], *, token: str, user: str, password: str, prefix: str = BEARER
) -> Credential | None:
    """Return the credential that the variables `token`, or `user` and `password`, give; None if they give none.

    A token goes before a password. What is set and not used is appended to `problems`.
    """
    name = values[user]
    secret, its_password = choose(token, values, problems), choose(password, values, problems)
    if secret is not None:
        if its_password is not None:
            allowed = f"one of {token}, {password}"
            problems.append(Problem(password, f"set as well as {token}", allowed, f"{token} is used."))
        return Credential(header=HEADER, prefix=prefix, secret=secret)
    if its_password is not None and name is not None:
        return Credential(header=HEADER, prefix=BASIC, secret=its_password, user=name)
    if its_password is not None and not values.is_unsound(user):
        problems.append(Problem(password, f"set without {user}", f"both, or {token}", "It is left out."))
    has_wrong = any(values.is_unsound(f"{password}{suffix}") for suffix in SUFFIXES)
    if name is not None and its_password is None and not has_wrong:
        problems.append(Problem(user, f"set without {password}", f"both, or {token}", "It is left out."))
    return None
