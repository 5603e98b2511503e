"""A function that is instrumented with OpenTelemetry's own SDK, which exports to localhost while it runs."""

import os
import sys

sys.path += os.environ["SDK_PATH"].split(os.pathsep)

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

RESOURCE = Resource.create({"service.name": "checkout"})
traces = TracerProvider(resource=RESOURCE)
traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
reader = PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=3_600_000)
meters = MeterProvider([reader], resource=RESOURCE)
tracer, paid = traces.get_tracer("checkout"), meters.get_meter("checkout").create_counter("orders.paid")


def handler(event, context):
    if event.get("exit"):
        os._exit(7)
    attributes = {"faas.invocation_id": context.aws_request_id}
    with tracer.start_as_current_span("checkout", kind=trace.SpanKind.SERVER, attributes=attributes) as span:
        for number in range(event.get("queries", 2)):
            with tracer.start_as_current_span(f"query {number}"):
                paid.add(1, {"shop": "eu"})
        ids = f"{span.get_span_context().trace_id:032x}", f"{span.get_span_context().span_id:016x}"
    sent = traces.force_flush(5000) and meters.force_flush(5000)
    return {"trace_id": ids[0], "span_id": ids[1], "sent": sent}
