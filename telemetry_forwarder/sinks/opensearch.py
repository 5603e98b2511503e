"""The OpenSearch sink: what its variables ask for, also for OpenSearch Service and Serverless. Its format is in `bulk`.

Source: AWS, "Signing HTTP requests to Amazon OpenSearch Service", "Ingesting data into OpenSearch Serverless
collections"; read 2026-11-28.
"""

from telemetry_forwarder.interfaces import (
    Credential,
    Destination,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Signing,
    Tls,
)
from telemetry_forwarder.sinks.bulk import Bulk
from telemetry_forwarder.sinks.elasticsearch import Target
from telemetry_forwarder.sinks.http_answers import Advice
from telemetry_forwarder.sinks.login import Password, UserName, credential_variables, log_in
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import Problem, Variable
from telemetry_forwarder.variables.types import FilePath, OneOf, Region, Url
from telemetry_forwarder.variables.wording import split_port

TOPIC = "OpenSearch"
_SINK = "opensearch"
_TOKEN, _PASSWORD = "OPENSEARCH_TOKEN", "OPENSEARCH_PASSWORD"
VARIABLES = (
    Variable("OPENSEARCH_URL", Url(), None, "Address of OpenSearch; `/INDEX/_bulk` is added", _SINK),
    Variable("OPENSEARCH_USERNAME", UserName(), None, "User name of basic authentication", _SINK),
    *credential_variables(_PASSWORD, "the password of basic authentication", _SINK, Password()),
    *credential_variables(_TOKEN, "the token that is sent as `Authorization: Bearer …`", _SINK),
    Variable(
        "OPENSEARCH_AWS_SERVICE", OneOf("es", "aoss", "none"), None,
        "Whether requests are signed with the function's role, for OpenSearch Service (`es`) or Serverless (`aoss`). "
        "Unset: as the address says, unless there is a password or a token", _SINK,
    ),
    Variable("OPENSEARCH_AWS_REGION", Region(), None, "Region of that; unset: that of the address, else ours", _SINK),
    Variable(
        "OPENSEARCH_COLLECTION_TYPE", OneOf("timeseries", "search"), "timeseries",
        "Type of a collection of Serverless. One of the type `timeseries` takes no ids of ours: what is sent again may "
        "be there twice", _SINK,
    ),
    Variable("OPENSEARCH_INDEX", Target(), "logs-lambda", "Index, alias or data stream of the documents", _SINK),
    Variable(
        "OPENSEARCH_JSON", OneOf("object", "text"), "object",
        "What becomes of a line of JSON: an `object` under `json`, or its `text` as message", _SINK,
    ),
    Variable("OPENSEARCH_CA_CERTS", FilePath(), None, "CA certificates instead of those of SSL_CERT_FILE", _SINK),
)  # fmt: skip
NEEDS = (("OPENSEARCH_URL",),)
# The ends of the hosts of AWS, and how many labels before them the service and the region are.
_OF_AWS = (".amazonaws.com", ".amazonaws.com.cn", ".on.aws")
_SERVICES = {"es": "es", "aos": "es", "aoss": "aoss"}


def create(values: Values) -> Destination[HttpRequest, HttpResponse]:
    """Make the sink from the `OPENSEARCH_…` variables."""
    problems: list[Problem] = []
    url = values["OPENSEARCH_URL"]
    credential = log_in(values, problems, token=_TOKEN, user="OPENSEARCH_USERNAME", password=_PASSWORD)
    signing = _signing(url, values, credential, problems)
    is_serverless = signing is not None and signing.service == "aoss"
    sink = Bulk(
        name=_SINK,
        url=url,
        target=values["OPENSEARCH_INDEX"],
        has_ids=not is_serverless or values["OPENSEARCH_COLLECTION_TYPE"] != "timeseries",
        is_parsed=values["OPENSEARCH_JSON"] == "object",
        advice=_advice(signing),
    )
    ca_file = values["OPENSEARCH_CA_CERTS"]
    tls = Tls(ca_file=ca_file, variables=("OPENSEARCH_CA_CERTS", "", "")) if ca_file else None
    delivery = HttpDelivery(url=url, credential=credential, signing=signing, tls=tls)
    return Destination(sink=sink, delivery=delivery, problems=tuple(problems))


def _signing(url: str, values: Values, credential: Credential | None, problems: list[Problem]) -> Signing | None:
    """Return how requests are signed; None if they are not, since there is another credential or no need."""
    name = "OPENSEARCH_AWS_SERVICE"
    chosen = values[name]
    service, region = _of_host(split_port(url.partition("://")[2].partition("/")[0])[0].lower())
    if chosen == "none" or (chosen is None and (service is None or credential is not None)):
        return None
    region = values["OPENSEARCH_AWS_REGION"] or region or values["AWS_REGION"]
    if credential is not None or region is None:
        wrong, wanted = ("set beside a password or a token", "one of them") if credential else ("set", "with a region")
        problems.append(Problem(name, wrong, wanted, "Requests are not signed."))
        return None
    return Signing(chosen or service or "es", region)


def _of_host(host: str) -> tuple[str | None, str | None]:
    """Return the service and the region that a host of AWS belongs to; (None, None) for others."""
    end = next((end for end in _OF_AWS if host.endswith(end)), None)
    if end is None:
        return None, None
    labels = host.removesuffix(end).split(".")
    first, last = labels[-2:] if len(labels) > 1 else ("", "")
    for service, region in ((last, first), (first, last)):  # REGION.es.amazonaws.com, aos.REGION.on.aws
        if service in _SERVICES:
            return _SERVICES[service], region
    return None, None


def _advice(signing: Signing | None) -> Advice:
    what = f"OPENSEARCH_USERNAME and {_PASSWORD}, or {_TOKEN}: they have to be allowed to write OPENSEARCH_INDEX"
    if signing is not None and signing.service == "aoss":
        what = "that the function's role has aoss:APIAccessAll and a data access policy of the collection names it"
    elif signing is not None:
        what = "that the function's role has es:ESHttpPost, also where fine-grained access control maps roles"
    return Advice(who="OpenSearch", credential=what, address="OPENSEARCH_URL and OPENSEARCH_INDEX")
