"""What goes to Splunk's index of metrics over the wire, byte for byte, and what is said where it is not taken."""

import aiohttp
import pytest
from msgspec.structs import replace

from local_backends import SplunkHec as LocalSplunk
from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import Denied, HttpResponse
from telemetry_forwarder.sinks.splunk_hec import SplunkHec, create
from telemetry_forwarder.sinks.splunk_metrics import SplunkMetrics
from telemetry_forwarder.variables.reading import read_all
from tests.sink_records import GOLDEN, METRIC_SAMPLES, encode_all, loads, make_record, same

SINK = SplunkMetrics(url="https://splunk.example.com:8088", index="numbers")
ENVIRON = {
    "SPLUNK_HEC_URL": "https://splunk.example.com:8088",
    "SPLUNK_HEC_TOKEN": "not-a-real-token",
    "SPLUNK_INDEX": "apps",
    "SPLUNK_METRICS_INDEX": "numbers",
    "TELEMETRY_FORWARDER_METRICS": "splunk",
}


def fields_of(points, attributes=None):
    fields = {"points": points, "attributes": attributes or {}, "source": "emf"}
    return loads(SINK.encode(replace(METRIC_SAMPLES[0], fields=fields)).data)["fields"]


def point(value, kind="distribution", name="n"):
    return {"name": name, "value": value, "unit": "ms", "kind": kind}


def metrics_in(fields):
    return {name.removeprefix("metric_name:"): value for name, value in fields.items() if "metric_name" in name}


def test_the_request_is_the_golden_one():
    request = SINK.request(encode_all(SINK, METRIC_SAMPLES))
    assert request.body + b"\n" == (GOLDEN / "splunk_metrics.ndjson").read_bytes()
    assert request.url == "https://splunk.example.com:8088/services/collector/event"
    assert SINK.encode_all(METRIC_SAMPLES) == encode_all(SINK, METRIC_SAMPLES)


async def test_a_strict_hec_stores_the_golden_one():
    async with LocalSplunk(token="t", metric_indexes={"numbers"}) as hec, aiohttp.ClientSession() as client:
        body = SINK.request(encode_all(SINK, METRIC_SAMPLES)).body
        headers = {"Authorization": "Splunk t"}
        async with client.post(f"{hec.url}/services/collector/event", data=body, headers=headers) as answer:
            assert answer.status == 200
        assert [event.is_metric for event in hec.events] == [True] * len(METRIC_SAMPLES)


def test_several_measurements_become_their_count_sum_and_bounds():
    assert metrics_in(fields_of([point([3, 0.5, 2])])) == {"n.count": 3, "n.sum": 5.5, "n.min": 0.5, "n.max": 3}
    assert metrics_in(fields_of([point([3])])) == {"n": 3}
    assert metrics_in(fields_of([point([3, 4], "count")])) == {"n": 7}
    assert metrics_in(fields_of([point([3, 4], "gauge")])) == {"n": 4}


def test_a_metric_that_is_in_a_record_twice_is_not_lost():
    assert metrics_in(fields_of([point(3), point(4)])) == {"n.count": 2, "n.sum": 7, "n.min": 3, "n.max": 4}


@pytest.mark.parametrize(
    ("name", "sent"), [("orders paid", "orders_paid"), ("a-b/c", "a_b_c"), ("größe", "gr__e"), ("a.b:c_1", "a.b:c_1")]
)
def test_a_name_has_only_the_characters_that_splunk_documents(name, sent):
    assert metrics_in(fields_of([point(1, name=name)])) == {sent: 1}


def test_a_number_that_no_double_holds_exactly_is_sent_as_the_nearest():
    assert metrics_in(fields_of([point(2**70)])) == {"n": float(2**70)}


def test_what_the_function_names_counts_for_more_than_what_is_known_of_it():
    fields = fields_of(
        [point(1)], {"service": "payment", "host": "h", "_value": "v", "metric_name:x": "y", "event": "e"}
    )
    assert fields["service"] == "payment"
    assert (fields["tag_host"], fields["tag__value"], fields["tag_metric_name:x"], fields["tag_event"]) == tuple("hvye")


def test_what_is_new_in_each_invocation_or_environment_is_no_dimension():
    for encoded in encode_all(SINK, METRIC_SAMPLES):
        fields = loads(encoded.data)["fields"]
        assert not fields.keys() & {"request_id", "record_id", "instance_id", "type"}
        assert fields["function_name"] == "Orders-Worker"


@pytest.mark.parametrize(
    "fields", [None, {}, {"points": []}, {"points": [point("1")]}, {"points": [point([1e308, 1e308])]}]
)
def test_a_record_without_a_measurement_is_refused(fields):
    with pytest.raises(EncodeError, match="without points"):
        SINK.encode(make_record("x", fields=fields))


def test_metrics_have_an_index_of_their_own_and_the_same_credential():
    logs, metrics = create(read_all(ENVIRON))
    assert (logs.sink.index, metrics.sink.index) == ("apps", "numbers")
    assert (logs.sink.name, metrics.sink.name) == ("splunk", "splunk-metrics")
    assert metrics.delivery.credential == logs.delivery.credential
    assert metrics.delivery.health is None  # one is enough
    assert logs.problems == ()


def test_the_index_of_metrics_without_metrics_is_told():
    made = create(read_all({**ENVIRON, "TELEMETRY_FORWARDER_METRICS": "off"}))
    assert isinstance(made.sink, SplunkHec)
    (problem,) = made.problems
    assert str(problem).startswith("SPLUNK_METRICS_INDEX")
    assert "TELEMETRY_FORWARDER_METRICS" in str(problem)


def test_an_index_that_is_none_of_metrics_names_the_setting_of_metrics():
    body = b'{"text":"Incorrect index","code":7,"invalid-event-number":1}'
    verdict = SINK.verdict(same(2), HttpResponse(status=400, body=body))
    assert isinstance(verdict, Denied)
    assert "SPLUNK_METRICS_INDEX, which has to be of the type metrics" in verdict.detail
    logs = SplunkHec(url="https://splunk.example.com:8088")
    assert "SPLUNK_METRICS_INDEX" not in logs.verdict(same(2), HttpResponse(status=400, body=body)).detail
