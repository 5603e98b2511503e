"""The Elasticsearch sink: what its variables ask for. Its format is in `bulk`.

Source: Elastic, "Bulk API", "Data streams", "Elastic Cloud ID"; read 2026-11-28.
"""

from base64 import b64decode, b64encode
from binascii import Error

from telemetry_forwarder.interfaces import Credential, Destination, HttpDelivery, HttpRequest, HttpResponse, Tls
from telemetry_forwarder.sinks.bulk import Bulk
from telemetry_forwarder.sinks.credential import choose
from telemetry_forwarder.sinks.http_answers import Advice
from telemetry_forwarder.sinks.login import HEADER, Password, UserName, credential_variables, log_in
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import Problem, Variable
from telemetry_forwarder.variables.types import FilePath, Flag, OneOf, Secret, SecretText, Url
from telemetry_forwarder.variables.wording import is_host, is_port, only, split_port


class CloudId(Url):
    """The id of a deployment in Elastic Cloud, as the address of its Elasticsearch."""

    label = "cloud id"

    def __init__(self) -> None:
        super().__init__()
        self.allowed = "`NAME:BASE64`, as the page of the deployment shows it"

    def read(self, text: str) -> str:
        """Return the address. In base64 stands `host$id of Elasticsearch$id of Kibana`, each perhaps with a port."""
        _, _, encoded = text.rpartition(":")
        try:
            host, _, rest = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode().partition("$")
        except (Error, ValueError):
            raise ValueError(self.allowed) from None
        (domain, port), (name, own_port) = split_port(host), split_port(rest.partition("$")[0])
        if not (is_host(domain) and is_port(port) and is_port(own_port) and name and is_host(name)):
            raise ValueError(self.allowed)
        return f"https://{name}.{domain}:{own_port or port or '443'}"


class ApiKey(SecretText):
    """An API key: as Kibana shows it (`encoded`), or as `id:key`."""

    allowed = "the `encoded` form of the key, or `id:key`"

    def read(self, text: str) -> Secret:
        secret = super().read(text)
        given = secret.reveal()
        return Secret(b64encode(given.encode()).decode()) if ":" in given else secret


class Target:
    """The name of a data stream, an alias or an index."""

    label = "name"
    allowed = "1 to 255 of lower-case letters, digits, `-`, `_`, `.`, beginning with a letter or a digit"

    def read(self, text: str) -> str:
        if len(text) > 255 or not only(text, "-_.") or text != text.lower() or not text[0].isalnum():
            raise ValueError(self.allowed)
        return text


TOPIC = "Elasticsearch"
_SINK = "elasticsearch"
_KEY, _BEARER, _PASSWORD = "ELASTICSEARCH_API_KEY", "ELASTICSEARCH_BEARER_TOKEN", "ELASTICSEARCH_PASSWORD"
VARIABLES = (
    Variable("ELASTICSEARCH_URL", Url(), None, "Address of Elasticsearch; `/TARGET/_bulk` is added", _SINK),
    Variable("ELASTIC_CLOUD_ID", CloudId(), None, "Cloud id of a deployment in Elastic Cloud, instead", _SINK),
    *credential_variables(_KEY, "the API key, which may create documents in the data stream", _SINK, ApiKey()),
    *credential_variables(_BEARER, "the token that is sent as `Authorization: Bearer …`", _SINK),
    Variable("ELASTICSEARCH_USERNAME", UserName(), None, "User name of basic authentication", _SINK),
    *credential_variables(_PASSWORD, "the password of basic authentication", _SINK, Password()),
    Variable(
        "ELASTICSEARCH_DATA_STREAM", Target(), "logs-lambda-default",
        "Data stream, alias or index that the documents are created in", _SINK,
    ),
    Variable(
        "ELASTICSEARCH_JSON", OneOf("object", "text"), "object",
        "What becomes of a line of JSON: an `object` under `json`, or its `text` as message", _SINK,
    ),
    Variable(
        "ELASTICSEARCH_SOURCE_ON_ERROR", Flag(), True,
        "`false`: the server leaves the text of documents out of its error messages; from 8.18 on", _SINK,
    ),
    Variable("ELASTICSEARCH_CA_CERTS", FilePath(), None, "CA certificates instead of those of SSL_CERT_FILE", _SINK),
)  # fmt: skip
NEEDS = (("ELASTICSEARCH_URL", "ELASTIC_CLOUD_ID"),)


def create(values: Values) -> Destination[HttpRequest, HttpResponse]:
    """Make the sink from the `ELASTICSEARCH_…` variables."""
    problems: list[Problem] = []
    url, cloud_url = values["ELASTICSEARCH_URL"], values["ELASTIC_CLOUD_ID"]
    if url is not None and cloud_url is not None:
        allowed = "one of ELASTICSEARCH_URL, ELASTIC_CLOUD_ID"
        used = "ELASTICSEARCH_URL is used."
        problems.append(Problem("ELASTIC_CLOUD_ID", "set as well as ELASTICSEARCH_URL", allowed, used))
    address = "ELASTICSEARCH_URL" if url is not None else "ELASTIC_CLOUD_ID"
    url = url or cloud_url
    credential = _credential(values, problems)
    what = f"{_KEY}, {_BEARER}, or ELASTICSEARCH_USERNAME and {_PASSWORD}: `create_doc` on ELASTICSEARCH_DATA_STREAM"
    sink = Bulk(
        name=_SINK,
        url=url,
        target=values["ELASTICSEARCH_DATA_STREAM"],
        is_parsed=values["ELASTICSEARCH_JSON"] == "object",
        more="" if values["ELASTICSEARCH_SOURCE_ON_ERROR"] else "&include_source_on_error=false",
        advice=Advice(who="Elasticsearch", credential=what, address=f"{address} and ELASTICSEARCH_DATA_STREAM"),
    )
    ca_file = values["ELASTICSEARCH_CA_CERTS"]
    tls = Tls(ca_file=ca_file, variables=("ELASTICSEARCH_CA_CERTS", "", "")) if ca_file else None
    delivery = HttpDelivery(url=url, credential=credential, tls=tls)
    return Destination(sink=sink, delivery=delivery, problems=tuple(problems))


def _credential(values: Values, problems: list[Problem]) -> Credential | None:
    found = log_in(values, problems, token=_KEY, user="ELASTICSEARCH_USERNAME", password=_PASSWORD, prefix="ApiKey ")
    bearer = choose(_BEARER, values, problems)
    if bearer is None or found is None:
        return found or (Credential(header=HEADER, prefix="Bearer ", secret=bearer) if bearer is not None else None)
    used = _KEY if found.user is None else _PASSWORD
    problems.append(Problem(_BEARER, f"set as well as {used}", f"one of {_BEARER}, {used}", f"{used} is used."))
    return found
