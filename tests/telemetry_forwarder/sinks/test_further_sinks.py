"""Several sinks of a kind: `splunk:audit` reads `…__AUDIT`, and never sends a key elsewhere than it was given for."""

from typing import Any

import pytest

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import Denied, Destination, HttpDelivery, HttpResponse
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.sinks import load
from telemetry_forwarder.variables.reading import needs_secrets, read_all, wanted_sinks
from telemetry_forwarder.variables.types import SecretReference
from tests.sink_records import make_record

SPLUNK = {"SPLUNK_HEC_URL": "https://first:8088", "SPLUNK_HEC_TOKEN": "first-token", "SPLUNK_INDEX": "main"}
BOTH = {**SPLUNK, "TELEMETRY_FORWARDER_SINKS": "splunk,splunk:audit"}


def settings(**environ: str) -> Settings:
    return Settings.from_values(read_all({"AWS_LAMBDA_FUNCTION_NAME": "orders", **environ}))


def by_name(found: Settings) -> dict[str, Destination[Any, Any]]:
    return {destination.sink.name: destination for destination in found.destinations}


def token(destination: Destination[Any, Any]) -> str:
    assert isinstance(destination.delivery, HttpDelivery)
    assert destination.delivery.credential is not None
    return destination.delivery.credential.secret.reveal()  # type: ignore[union-attr]


def test_a_second_index_needs_but_the_index() -> None:
    found = settings(**BOTH, SPLUNK_INDEX__AUDIT="audit")
    first, second = by_name(found).values()
    assert [one.sink.name for one in (first, second)] == ["splunk", "splunk:audit"]
    assert b'"index":"main"' in first.sink.encode(make_record("x")).data
    assert b'"index":"audit"' in second.sink.encode(make_record("x")).data
    assert (first.delivery.url, token(first)) == (second.delivery.url, token(second))
    assert not found.problems


def test_an_address_of_its_own_wants_a_credential_of_its_own() -> None:
    """The token of the first Splunk must not go to the second one."""
    found = settings(**BOTH, SPLUNK_HEC_URL__AUDIT="https://second:8088")
    assert [*by_name(found)] == ["splunk"]
    (problem,) = found.problems
    assert problem.variable == "SPLUNK_HEC_TOKEN__AUDIT"
    assert "is not set; allowed: SPLUNK_HEC_TOKEN__AUDIT or SPLUNK_HEC_TOKEN_SECRET_ARN__AUDIT or" in str(problem)
    assert "Sink splunk:audit does not run without it." in str(problem)
    assert "first-token" not in str(problem)
    found = settings(**BOTH, SPLUNK_HEC_URL__AUDIT="https://second:8088", SPLUNK_HEC_TOKEN__AUDIT="second-token")
    assert token(by_name(found)["splunk:audit"]) == "second-token"
    assert not found.problems


@pytest.mark.parametrize(
    ("kind", "first", "second", "url"),
    [
        (
            "datadog",
            {"DD_API_KEY": "a", "DD_LOGS_CONFIG_LOGS_DD_URL": "https://first"},
            {"DD_API_KEY__B": "b", "DD_SITE__B": "datadoghq.eu"},
            "https://http-intake.logs.datadoghq.eu",
        ),
        (
            "elasticsearch",
            {"ELASTICSEARCH_URL": "https://first", "ELASTICSEARCH_API_KEY": "a"},
            {"ELASTIC_CLOUD_ID__B": "x:aG9zdCRhYmMkZGVm"},
            "https://abc.host:443",
        ),
    ],
)
def test_an_address_of_its_own_counts_for_more_than_any_of_the_first(
    kind: str, first: dict[str, str], second: dict[str, str], url: str
) -> None:
    """The first one's URL would go before the second one's site, or cloud id."""
    found = by_name(settings(TELEMETRY_FORWARDER_SINKS=f"{kind},{kind}:b", **first, **second))
    assert found[kind].delivery.url == "https://first"
    assert found[f"{kind}:b"].delivery.url == url


ARN = "arn:aws:secretsmanager:eu-west-1:210987654321:secret:key"


@pytest.mark.parametrize(
    ("kind", "plain", "own"),
    [
        ("datadog", {"DD_API_KEY": "k"}, {"DD_API_KEY_SSM_PARAMETER": "/own"}),
        ("datadog", {"DD_API_KEY_SECRET_ARN": ARN}, {"DD_API_KEY_SSM_PARAMETER": "/own"}),
        ("splunk", SPLUNK, {"SPLUNK_HEC_TOKEN_SSM_PARAMETER": "/own"}),
        ("newrelic", {"NEW_RELIC_LICENSE_KEY_SECRET_ARN": ARN}, {"NEW_RELIC_LICENSE_KEY_SSM_PARAMETER_NAME": "/own"}),
        ("sumologic", {"SUMO_HTTP_ENDPOINT": "https://h/x"}, {"SUMO_HTTP_ENDPOINT_SSM_PARAMETER": "/own"}),
        ("axiom", {"AXIOM_TOKEN": "t", "AXIOM_DATASET": "d"}, {"AXIOM_TOKEN_SSM_PARAMETER": "/own"}),
    ],
)
def test_a_credential_of_its_own_stands_for_all_forms_of_the_other(
    kind: str, plain: dict[str, str], own: dict[str, str]
) -> None:
    environ = {**plain, **{f"{name}__B": text for name, text in own.items()}}
    found = settings(TELEMETRY_FORWARDER_SINKS=f"{kind}:b", **environ)
    (destination,) = found.destinations
    assert isinstance(destination.delivery, HttpDelivery)
    assert destination.delivery.credential is not None
    assert destination.delivery.credential.secret == SecretReference("ssm", "/own")
    assert not found.problems


def test_an_address_that_is_a_credential_replaces_references_to_the_other() -> None:
    found = settings(
        TELEMETRY_FORWARDER_SINKS="sumologic:b",
        SUMO_HTTP_ENDPOINT_SSM_PARAMETER="/first", SUMO_HTTP_ENDPOINT__B="https://second/receiver/v1/http/t",
    )  # fmt: skip
    (destination,) = found.destinations
    assert destination.delivery.url == "https://second"
    assert not found.problems


def test_a_region_of_its_own_wants_a_key_of_its_own() -> None:
    found = settings(
        TELEMETRY_FORWARDER_SINKS="newrelic,newrelic:eu", NEW_RELIC_LICENSE_KEY="first", NEW_RELIC_REGION__EU="eu"
    )
    assert [*by_name(found)] == ["newrelic"]
    (problem,) = found.problems
    assert problem.variable == "NEW_RELIC_LICENSE_KEY__EU"


def test_datadog_in_two_regions() -> None:
    found = settings(
        TELEMETRY_FORWARDER_SINKS="datadog:us,datadog:eu",
        DD_API_KEY__US="u" * 32, DD_API_KEY__EU="e" * 32, DD_SITE__EU="datadoghq.eu",
    )  # fmt: skip
    urls = {name: (one.delivery.url, token(one)[0]) for name, one in by_name(found).items()}
    assert urls == {
        "datadog:us": ("https://http-intake.logs.datadoghq.com", "u"),
        "datadog:eu": ("https://http-intake.logs.datadoghq.eu", "e"),
    }
    assert not found.problems


def test_metrics_go_where_they_are_asked_for() -> None:
    found = settings(**BOTH, SPLUNK_INDEX__AUDIT="audit", TELEMETRY_FORWARDER_METRICS="splunk:audit")
    assert [*by_name(found)] == ["splunk", "splunk:audit", "splunk:audit-metrics"]


def test_a_mode_for_metric_lines_is_for_one_of_them() -> None:
    found = settings(**BOTH, TELEMETRY_FORWARDER_METRIC_LINES="splunk:audit:drop")
    assert not found.problems
    kinds = [type(one.sink).__name__ for one in found.destinations]
    assert kinds == ["SplunkHec", "MetricLineSink"]


def test_what_a_backend_refuses_is_told_with_the_variable_of_that_sink() -> None:
    second = by_name(settings(**BOTH, SPLUNK_HEC_TOKEN__AUDIT="other"))["splunk:audit"].sink
    batch = [second.encode(make_record("x"))]
    verdict = second.verdict(batch, HttpResponse(status=403, body=b'{"text":"Invalid token","code":4}'))
    assert isinstance(verdict, Denied)
    assert "SPLUNK_HEC_TOKEN__AUDIT" in verdict.detail
    assert second.verdict(batch, HttpResponse(status=200, body=b'{"text":"Success","code":0}'))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("splunk:audit", ("splunk:audit",)),
        ("SPLUNK:Audit,datadog", ("splunk:audit", "datadog")),
        ("splunk:,datadog", ("datadog",)),
        ("splunk:a:b,datadog", ("datadog",)),
        ("splunk:metrics,datadog", ("datadog",)),
        ("splunk:a-b,datadog", ("datadog",)),
        (":audit,datadog", ("datadog",)),
    ],
)
def test_names_that_are_allowed(text: str, kept: tuple[str, ...]) -> None:
    values = read_all({"TELEMETRY_FORWARDER_SINKS": text})
    assert wanted_sinks(values) == kept
    is_whole = len(kept) == len(text.split(","))
    assert [problem.variable for problem in values.problems(None)] == [] if is_whole else ["TELEMETRY_FORWARDER_SINKS"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SPLUNK_HEC_URL__AUDTI", "is for a sink that TELEMETRY_FORWARDER_SINKS does not name, as `splunk:audti`"),
        ("TELEMETRY_FORWARDER_LEVEL__OTHER", "does not name, as `splunk:other`: it has no effect."),
        ("TELEMETRY_FORWARDER_LEVLE__AUDIT", "is set, but is the name of no setting"),
    ],
)
def test_a_name_for_no_sink_is_told(name: str, said: str) -> None:
    (problem,) = settings(**BOTH, **{name: "error"}).problems
    assert problem.variable == name
    assert said in str(problem)


def test_an_unsound_value_is_told_by_the_name_that_it_was_given_by() -> None:
    (problem,) = settings(**BOTH, SPLUNK_HEC_URL__AUDIT="second", SPLUNK_HEC_TOKEN__AUDIT="t").problems
    assert str(problem).startswith("SPLUNK_HEC_URL__AUDIT is 'second'; allowed: ")
    assert "Sink splunk:audit does not run without it." in str(problem)


def test_a_reference_of_a_further_sink_loads_what_reads_it() -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hec-AbCdEf"
    assert needs_secrets(read_all({**BOTH, "SPLUNK_HEC_TOKEN_SECRET_ARN__AUDIT": arn}))
    assert not needs_secrets(read_all({**BOTH, "DD_API_KEY_SECRET_ARN": arn}))
    assert not needs_secrets(read_all({**SPLUNK}))


def test_a_kind_that_does_not_exist_is_told() -> None:
    with pytest.raises(ConfigError, match=r"TELEMETRY_FORWARDER_SINKS is 'splnk'.*Write `splunk`"):
        load("splnk:audit")
