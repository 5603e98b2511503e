"""The Grafana Loki sink: what its variables ask for. They are those of `logcli`, Loki's own command.

Its format is in `loki_push`. Source: Grafana, "LogCLI command reference" and "Send logs to Grafana Cloud"; read
2026-11-28.
"""

from telemetry_forwarder.interfaces import Credential, Destination, HttpDelivery, HttpRequest, HttpResponse, Tls
from telemetry_forwarder.sinks.http_answers import Advice
from telemetry_forwarder.sinks.login import Password, UserName, credential_variables, log_in
from telemetry_forwarder.sinks.loki_push import LABELS, PATH, Loki
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import Problem, Variable
from telemetry_forwarder.variables.types import FilePath, Tags, Text, Url
from telemetry_forwarder.variables.wording import Notice, Unsound, only, whole

# Loki takes 15 labels of a stream, and one may be added on the way. Source: Grafana Loki, `max_label_names_per_series`.
_MOST_LABELS = 14 - len(LABELS)


class Labels(Tags):
    """Labels as pairs: names as Loki takes them, none of our own, and not many."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = f"`name:value,name:value`, at most {_MOST_LABELS}, names of letters, digits and `_`"

    def read(self, text: str) -> tuple[tuple[str, str], ...]:
        wrong: list[str] = []
        try:
            found = super().read(text)
        except Unsound as error:
            found, wrong = error.kept, error.wrong
        kept = {name: value for name, value in found if _is_label(name) and name not in LABELS}
        wrong += [f"{name}:{value}" for name, value in found if name not in kept]
        pairs = tuple(kept.items())
        return whole(pairs[:_MOST_LABELS], wrong + [f"{name}:{value}" for name, value in pairs[_MOST_LABELS:]])


def _is_label(name: str) -> bool:
    return only(name, "_") and not name[0].isdigit() and not name.startswith("__") and len(name) <= 1024


TOPIC = "Grafana Loki"
_SINK = "loki"
_TOKEN, _PASSWORD = "LOKI_BEARER_TOKEN", "LOKI_PASSWORD"
VARIABLES = (
    Variable("LOKI_ADDR", Url(endpoint=PATH), None, f"Address of Loki; `{PATH}` is added", _SINK),
    Variable(
        "LOKI_USERNAME", UserName(), None,
        "User name; at Grafana Cloud the number of the Loki instance", _SINK,
    ),
    *credential_variables("LOKI_PASSWORD", "the password; at Grafana Cloud an access policy token", _SINK, Password()),
    *credential_variables("LOKI_BEARER_TOKEN", "the token that is sent as `Authorization: Bearer …`", _SINK),
    Variable("LOKI_ORG_ID", Text(), None, "Tenant, sent as `X-Scope-OrgID`", _SINK),
    Variable(
        "LOKI_LABELS", Labels(), (),
        "Further labels of every stream, the same in all environments. Tags are structured metadata", _SINK,
    ),
    Variable("LOKI_CA_CERT_PATH", FilePath(), None, "CA certificates instead of those of SSL_CERT_FILE", _SINK),
    Variable("LOKI_CLIENT_CERT_PATH", FilePath(), None, "Certificate that the extension shows", _SINK),
    Variable("LOKI_CLIENT_KEY_PATH", FilePath(), None, "Key of that certificate", _SINK),
)  # fmt: skip
NEEDS = (("LOKI_ADDR",),)


def create(values: Values) -> Destination[HttpRequest, HttpResponse]:
    """Make the sink from the `LOKI_…` variables."""
    problems: list[Problem] = []
    url = values["LOKI_ADDR"]
    credential = log_in(values, problems, token=_TOKEN, user="LOKI_USERNAME", password=_PASSWORD)
    if url.endswith((".grafana.net", ".grafana.net:443")) and (credential is None or credential.user is None):
        text = "is Grafana Cloud's, which wants LOKI_USERNAME, the number of the Loki instance, and LOKI_PASSWORD."
        problems.append(Notice("LOKI_ADDR", text))
    sink = Loki(url=url, labels=values["LOKI_LABELS"], tenant=values["LOKI_ORG_ID"], advice=_advice(credential))
    delivery = HttpDelivery(url=url, credential=credential, tls=_tls(values, problems))
    return Destination(sink=sink, delivery=delivery, problems=tuple(problems))


def _tls(values: Values, problems: list[Problem]) -> Tls | None:
    variables = ("LOKI_CA_CERT_PATH", "LOKI_CLIENT_CERT_PATH", "LOKI_CLIENT_KEY_PATH")
    ca_file, certificate, key = (values[name] for name in variables)
    if key is not None and certificate is None:
        problems.append(Problem(variables[2], f"set without {variables[1]}", "both", "It is left out."))
    if ca_file is None and certificate is None:
        return None
    return Tls(ca_file=ca_file, certificate=certificate, key=key, variables=variables)


def _advice(credential: Credential | None) -> Advice:
    if credential is None:
        what = "LOKI_USERNAME and LOKI_PASSWORD, or LOKI_BEARER_TOKEN, of which none is given, and LOKI_ORG_ID"
    elif credential.user is None:
        what = "LOKI_BEARER_TOKEN and LOKI_ORG_ID"
    else:
        what = "LOKI_USERNAME and LOKI_PASSWORD, of a user or policy that may write logs, and LOKI_ORG_ID"
    return Advice(who="Loki", credential=what, address="LOKI_ADDR")
