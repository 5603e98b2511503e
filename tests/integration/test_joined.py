"""A log line is joined to the span of its request in each backend, by what that backend joins by."""

import json
from typing import Any

from local_backends import OtlpReceiver
from local_backends.otlp_trees import assert_trees
from tests.integration.world import GROUP, World, world

ROOT, TRACE = "1-68c4a1f0-3b2a90d1c7e845f6a0b1c2d3", "68c4a1f03b2a90d1c7e845f6a0b1c2d3"
OWN = "aa" * 8 + "bb" * 8


def traces_of_lines(w: World[Any], otlp: OtlpReceiver) -> dict[str, list[str]]:
    """Return the traces of the function's lines, by backend, each in the backend's own form."""
    in_cloudwatch = [json.loads(event.message)["lambda"] for event in w.cloudwatch.events(GROUP)]
    lines = [one for one in otlp.logs if one.attributes["telemetry.type"] == "function"]
    return {
        "splunk": [str(one.fields["trace_id"]) for one in w.splunk.events if one.fields["type"] == "function"],
        "datadog": [one.attributes["dd.trace_id"] for one in w.datadog.logs if "platform" not in one.attributes],
        "cloudwatch": [one["xray_trace_id"] for one in in_cloudwatch if one["type"] == "function"],
        "otlp": [one.item["traceId"] for one in lines],
    }


async def test_a_line_leads_to_its_span_in_every_backend() -> None:
    """A request that X-Ray traces, one of which Lambda tells no trace, and a line that names a trace of its own."""
    async with OtlpReceiver() as otlp:
        environment: dict[str, str | None] = {
            "TELEMETRY_FORWARDER_SINKS": "splunk,datadog,cloudwatch,otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
            "TELEMETRY_FORWARDER_TRACES": "on",
        }
        async with world(environment=environment) as w:
            await w.env.invoke({"lines": 1}, trace=f"Root={ROOT};Parent=1a2b3c4d5e6f7081;Sampled=1")
            second = await w.env.invoke({"first": 1, "lines": 1, "text": json.dumps({"trace_id": OWN})})
            await w.env.shutdown()
        spans = [one.item for one in otlp.spans]
        assert_trees(spans)
        first_root, second_root = [one["traceId"] for one in spans if one["kind"] == 2]
        assert (first_root, second_root) == (TRACE, second.request_id.replace("-", ""))
        joined = traces_of_lines(w, otlp)
        expected = [first_root, second_root, OWN]
        assert joined["splunk"] == joined["otlp"] == expected
        # Datadog makes this of the ids of spans that come by OTLP; X-Ray writes those of CloudWatch like that.
        assert joined["datadog"] == [str(int(one[16:], 16)) for one in expected]
        assert joined["cloudwatch"] == [f"1-{one[:8]}-{one[8:]}" for one in expected]
        assert joined["cloudwatch"][0] == ROOT


async def test_without_traces_no_line_has_an_id_whatever_x_ray_does() -> None:
    async with world() as w:
        await w.env.invoke({"lines": 1}, trace=f"Root={ROOT};Sampled=1")
        await w.env.shutdown()
        assert not any("trace_id" in one.fields for one in w.splunk.events)
        assert not any("dd.trace_id" in one.attributes for one in w.datadog.logs)
        assert not any("trace_id" in event.message for event in w.cloudwatch.events(GROUP))
