"""The OTLP sink: what OpenTelemetry's variables ask for, as a destination for each signal that is wanted.

Its formats are in `otlp_logs`, `otlp_metrics` and `otlp_traces`, which are loaded only if they are wanted.
Source: OpenTelemetry specification, "OpenTelemetry Protocol Exporter"; the vendors' own pages on OTLP; read 2026-11-28.
"""

from typing import Any, TypeAlias

from msgspec import Struct

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import Destination, HeaderList, HttpDelivery, HttpRequest, HttpResponse, Limits, Tls
from telemetry_forwarder.interfaces import Signing as AwsSigning
from telemetry_forwarder.variables.otlp import (
    DISABLED,
    GENERAL,
    OURS,
    PROTOCOL,
    SIGNALS,
    endpoints,
    headers_in,
    is_local,
    is_wanted,
    of_signal,
)
from telemetry_forwarder.variables.reading import Values, missing
from telemetry_forwarder.variables.table import Problem
from telemetry_forwarder.variables.types import Secret
from telemetry_forwarder.variables.wording import Notice, split_port

_DAY_MS = 86_400_000

# Where nothing smaller is known. The specification lets a request have 64 MiB, unpacked, but many receivers take 4 MiB,
# the default bound of gRPC, on all of their ports. A record that is larger than a megabyte has no other destination.
_USUAL = Limits(max_records=10_000, max_bytes=4_000_000, max_record_bytes=1_000_000, framing_bytes=4_096)


class _Vendor(Struct, frozen=True):
    """What a vendor's receiver of one signal asks for. `domains` are ends of its host, which begins with `begins`."""

    domains: tuple[str, ...] = ()
    begins: str = ""
    signals: tuple[str, ...] = SIGNALS
    limits: Limits = _USUAL
    is_protobuf_only: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    has_counts: bool = True
    is_delta_only: bool = False

    def has(self, signal: str, host: str) -> bool:
        return signal in self.signals and host.startswith(self.begins) and host.endswith(self.domains)


def _at_most(max_bytes: int, max_records: int = 10_000, **more: Any) -> Limits:
    framing = _USUAL.framing_bytes
    record = min(_USUAL.max_record_bytes, max_bytes - framing)
    given = {"max_record_bytes": record, "framing_bytes": framing, **more}
    return Limits(max_records=max_records, max_bytes=max_bytes, **given)


_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws")
_DATADOG = ("datadoghq.com", "datadoghq.eu", "ddog-gov.com")
# CloudWatch's endpoints, by the service that requests are signed for. It takes 1,000 data points; a record may have a
# hundred.
_AWS = {
    "monitoring": _Vendor(limits=_at_most(1_000_000, 10)),
    "logs": _Vendor(limits=_at_most(1_000_000, max_span_ms=_DAY_MS, is_sorted=True)),
    "xray": _Vendor(
        limits=_at_most(5_000_000, max_record_bytes=200_000, max_span_ms=_DAY_MS, max_age_ms=14 * _DAY_MS - 3_600_000)
    ),
}
# Source: the vendors' pages on their OTLP receivers, read 2026-11-27. The first that fits counts.
_VENDORS = (
    # Datadog keeps the last value of a second for each series of counts, and takes the resource as tags if it is asked.
    _Vendor(
        _DATADOG, "otlp.", ("metrics",), _at_most(500_000), has_counts=False, is_delta_only=True,
        headers=(("dd-otel-metric-config", '{"resource_attributes_as_tags":true}'),),
    ),
    _Vendor(_DATADOG, "otlp.", ("traces",), _at_most(3_200_000)),
    _Vendor(_DATADOG, "otlp.", ("logs",), _at_most(3_200_000), is_protobuf_only=True),
    _Vendor((".nr-data.net",), limits=_at_most(1_000_000)),
    _Vendor(("axiom.co",), signals=("metrics",), is_protobuf_only=True),
    _Vendor((".dynatrace.com",), signals=("logs", "metrics"), is_protobuf_only=True),
    _Vendor((".coralogix.com", ".coralogix.us", ".coralogix.in", ".coralogixsg.com"), limits=_at_most(2_000_000)),
)  # fmt: skip


def _aws_service(host: str) -> tuple[str, str] | None:
    """Return the service and the region that a host of AWS belongs to, also within a VPC; None for others."""
    if not host.endswith(_AWS_DOMAINS):
        return None
    labels = host.split(".")
    if labels[0].startswith("vpce-"):
        labels = labels[1:]
    return (labels[0], labels[1]) if labels[0] in _AWS else None


def _vendor_of(signal: str, host: str) -> _Vendor:
    if (aws := _aws_service(host)) is not None:
        return _AWS[aws[0]]
    return next((one for one in _VENDORS if one.has(signal, host)), _Vendor())


_Destinations: TypeAlias = Destination[HttpRequest, HttpResponse] | tuple[Destination[HttpRequest, HttpResponse], ...]


def create(values: Values) -> _Destinations:
    """Make a destination for each signal that has an address and is wanted. Raises ConfigError if there is none."""
    problems = values.problems("otlp")
    if values[DISABLED]:
        raise ConfigError([*problems, Notice(DISABLED, "is true: nothing is sent by OTLP.")])
    found = endpoints(values)
    if not found or any(problem.variable == PROTOCOL for problem in problems):
        raise ConfigError(problems + (missing("otlp", values) if not found else []))
    problems += _notices(values, found)
    made = [
        _destination(signal, found[signal], values, problems)
        for signal in SIGNALS
        if signal in found and is_wanted(signal, values)
    ]
    destinations = [one for one in made if one is not None]
    if not destinations:
        raise ConfigError(problems)
    first = destinations[0]
    with_problems = Destination(sink=first.sink, delivery=first.delivery, problems=tuple(problems))
    return (with_problems, *destinations[1:]) if len(destinations) > 1 else with_problems


def _destination(
    signal: str, url: str, values: Values, problems: list[Problem]
) -> Destination[HttpRequest, HttpResponse] | None:
    """Return the destination of a signal; None, with a problem, if its receiver would refuse everything."""
    host = _host_of(url)
    if _is_ourselves(url, values):
        name = next(one for one in (of_signal(signal, "ENDPOINT"), OURS, GENERAL) if values[one] is not None)
        allowed = f"the address of a backend; {OURS} is read by no SDK"
        problems.append(
            Problem(name, "our own receiver's address", allowed, f"Sink otlp sends no {signal}: they would come back.")
        )
        return None
    vendor = _vendor_of(signal, host)
    is_json = values[PROTOCOL] == "http/json"
    if is_json and vendor.is_protobuf_only:
        is_json = False
        problems.append(
            Notice(PROTOCOL, f"is http/json, but {host} takes {signal} in protobuf alone: so they are sent.")
        )
    headers = _headers(signal, values)
    signing = _signing(signal, host, headers, values)
    if signal == "logs" and signing is not None and not _names_group(headers):
        name = of_signal(signal, "HEADERS")
        allowed = "`x-aws-log-group=GROUP,x-aws-log-stream=STREAM`, which must both exist"
        problems.append(Problem(name, "without them", allowed, "Sink otlp does not run, as CloudWatch needs them."))
        return None
    sink = _sink(signal, values, url=url, limits=vendor.limits, is_json=is_json, vendor=vendor)
    delivery = HttpDelivery(
        url=url,
        headers=headers,
        signing=signing,
        tls=_tls(values),
        gzip=values["OTEL_EXPORTER_OTLP_COMPRESSION"] == "gzip",
    )
    return Destination(sink=sink, delivery=delivery)


def _sink(signal: str, values: Values, *, vendor: _Vendor, **given: Any) -> Any:
    service = values["OTEL_SERVICE_NAME"]
    attributes = dict(values["OTEL_RESOURCE_ATTRIBUTES"]) | ({"service.name": service} if service else {})
    given |= {
        "attributes": tuple(attributes.items()),
        "headers": vendor.headers,
    }
    if signal == "logs":
        from telemetry_forwarder.sinks.otlp_logs import OtlpLogs

        return OtlpLogs(**given)
    if signal == "metrics":
        from telemetry_forwarder.sinks.otlp_metrics import OtlpMetrics

        return OtlpMetrics(**given, has_counts=vendor.has_counts, is_delta_only=vendor.is_delta_only)
    from telemetry_forwarder.sinks.otlp_traces import OtlpTraces

    return OtlpTraces(**given)


def _is_ourselves(url: str, values: Values) -> bool:
    """Return whether a URL leads to the receiver for the function's SDK (TELEMETRY_FORWARDER_OTLP_RECEIVER)."""
    if not values["TELEMETRY_FORWARDER_OTLP_RECEIVER"] or not is_local(url):
        return False
    return split_port(url.partition("://")[2].partition("/")[0])[1] == str(values["TELEMETRY_FORWARDER_OTLP_PORT"])


def _host_of(url: str) -> str:
    return split_port(url.partition("://")[2].partition("/")[0])[0].lower()


# --- headers, signature, TLS ----------------------------------------------------------------------------------------


def _headers(signal: str, values: Values) -> tuple[HeaderList, ...]:
    """Return the lists of headers, the ones that count more first: those of the signal, then those that are secret."""
    general = "OTEL_EXPORTER_OTLP_HEADERS"
    names = (of_signal(signal, "HEADERS"), f"{general}_SECRET_ARN", f"{general}_SSM_PARAMETER", general)
    return tuple(HeaderList(found) for name in names if (found := values[name]) is not None)


def _given_names(headers: tuple[HeaderList, ...]) -> set[str] | None:
    """Return the names of the headers; None if some are not known yet."""
    found: set[str] = set()
    for one in headers:
        if not isinstance(one.secret, Secret):
            return None
        found |= {name.lower() for name, _ in headers_in(one.secret.reveal())}
    return found


def _names_group(headers: tuple[HeaderList, ...]) -> bool:
    names = _given_names(headers)
    return names is None or {"x-aws-log-group", "x-aws-log-stream"} <= names


def _signing(signal: str, host: str, headers: tuple[HeaderList, ...], values: Values) -> AwsSigning | None:
    """Return how requests to CloudWatch are signed; None for others, and where a bearer token is given.

    X-Ray takes no token.
    """
    found = _aws_service(host)
    if found is None:
        return None
    names = _given_names(headers)
    if found[0] != "xray" and (names is None or "authorization" in names):
        return None
    return AwsSigning(*found)


def _tls(values: Values) -> Tls | None:
    variables = tuple(f"OTEL_EXPORTER_OTLP_{name}" for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"))
    ca_file, certificate, key = (values[name] for name in variables)
    if ca_file is None and certificate is None:
        return None
    return Tls(ca_file=ca_file, certificate=certificate, key=key, variables=(variables[0], variables[1], variables[2]))


# --- notices --------------------------------------------------------------------------------------------------------

_GENERAL_ALONE = ("PROTOCOL", "COMPRESSION", "TIMEOUT", "CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")


def _notices(values: Values, found: dict[str, str]) -> list[Notice]:
    """Return what is likely to be a mistake, or has no effect."""
    notices = []
    switches = {"metrics": "TELEMETRY_FORWARDER_METRICS", "traces": "TELEMETRY_FORWARDER_TRACES"}
    for signal, switch in switches.items():
        name = of_signal(signal, "ENDPOINT")
        if values[name] is not None and not is_wanted(signal, values):
            notices.append(Notice(name, f"is set, but {signal} are off: set {switch} to `on` to send them."))
    for signal in found:
        for what in _GENERAL_ALONE:
            name, general = of_signal(signal, what), f"OTEL_EXPORTER_OTLP_{what}"
            if (text := values.given(name)) and text != values.given(general):
                notices.append(Notice(name, f"has no effect: {general} counts for all signals."))
    for variable in ("TELEMETRY_FORWARDER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        url = values[variable] or ""
        if url.endswith(tuple(f"/v1/{signal}" for signal in SIGNALS)):
            notices.append(Notice(variable, "ends in the path of a signal, which is added to it: leave that out."))
        if split_port(url.partition("://")[2].partition("/")[0])[1] == "4317":
            notices.append(Notice(variable, "has port 4317, which is that of gRPC. By HTTP it is 4318, usually."))
    preference = values.given("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE").lower()
    if preference not in ("", "delta") and "metrics" in found and is_wanted("metrics", values):
        text = f"is {preference[:20]}, but metrics are sent as delta; `deltatocumulative` of a Collector adds them up."
        notices.append(Notice("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", text))
    if values["OTEL_EXPORTER_OTLP_CLIENT_KEY"] and not values["OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"]:
        notices.append(Notice("OTEL_EXPORTER_OTLP_CLIENT_KEY", "has no effect without a client certificate."))
    return notices
