// A function that is instrumented with OpenTelemetry's SDK for Node.js, which exports to localhost while it runs.
const { SpanKind, trace, context: active } = require("@opentelemetry/api");
const { OTLPTraceExporter } = require("@opentelemetry/exporter-trace-otlp-proto");
const { BatchSpanProcessor, NodeTracerProvider } = require("@opentelemetry/sdk-trace-node");

const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] });
const tracer = provider.getTracer("checkout");

exports.handler = async (event, context) => {
  const attributes = { "faas.invocation_id": context.awsRequestId };
  const span = tracer.startSpan("checkout", { kind: SpanKind.SERVER, attributes });
  const below = trace.setSpan(active.active(), span);
  for (let number = 0; number < event.queries; number += 1) {
    tracer.startSpan(`query ${number}`, {}, below).end();
  }
  span.end();
  await provider.forceFlush();
  return { trace_id: span.spanContext().traceId, span_id: span.spanContext().spanId };
};
