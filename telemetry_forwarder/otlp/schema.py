"""The messages of OTLP, as a table. Written by `make otlp-schema`: change layer/otlp_schema.py instead.

Read from the descriptors of opentelemetry-proto 1.45.2. A message has one row for each field: its number, its name
in JSON, its kind, its label and its message type. The label is `repeated`, `packed`, "" for a field that is left out
where it has its default, `optional` for one that is not, or the name of the `oneof` that it is a member of.
"""

VERSION = "1.45.2"

# fmt: off
MESSAGES: dict[str, tuple[tuple[int, str, str, str, str], ...]] = {
    "ExportLogsServiceRequest": (
        (1, "resourceLogs", "message", "repeated", "ResourceLogs"),
    ),
    "ResourceLogs": (
        (1, "resource", "message", "", "Resource"),
        (2, "scopeLogs", "message", "repeated", "ScopeLogs"),
        (3, "schemaUrl", "string", "", ""),
    ),
    "Resource": (
        (1, "attributes", "message", "repeated", "KeyValue"),
        (2, "droppedAttributesCount", "uint32", "", ""),
        (3, "entityRefs", "message", "repeated", "EntityRef"),
    ),
    "KeyValue": (
        (1, "key", "string", "", ""),
        (2, "value", "message", "", "AnyValue"),
        (3, "keyStrindex", "int32", "", ""),
    ),
    "AnyValue": (
        (1, "stringValue", "string", "value", ""),
        (2, "boolValue", "bool", "value", ""),
        (3, "intValue", "int64", "value", ""),
        (4, "doubleValue", "double", "value", ""),
        (5, "arrayValue", "message", "value", "ArrayValue"),
        (6, "kvlistValue", "message", "value", "KeyValueList"),
        (7, "bytesValue", "bytes", "value", ""),
        (8, "stringValueStrindex", "int32", "value", ""),
    ),
    "ArrayValue": (
        (1, "values", "message", "repeated", "AnyValue"),
    ),
    "KeyValueList": (
        (1, "values", "message", "repeated", "KeyValue"),
    ),
    "EntityRef": (
        (1, "schemaUrl", "string", "", ""),
        (2, "type", "string", "", ""),
        (3, "idKeys", "string", "repeated", ""),
        (4, "descriptionKeys", "string", "repeated", ""),
    ),
    "ScopeLogs": (
        (1, "scope", "message", "", "InstrumentationScope"),
        (2, "logRecords", "message", "repeated", "LogRecord"),
        (3, "schemaUrl", "string", "", ""),
    ),
    "InstrumentationScope": (
        (1, "name", "string", "", ""),
        (2, "version", "string", "", ""),
        (3, "attributes", "message", "repeated", "KeyValue"),
        (4, "droppedAttributesCount", "uint32", "", ""),
    ),
    "LogRecord": (
        (1, "timeUnixNano", "fixed64", "", ""),
        (2, "severityNumber", "enum", "", ""),
        (3, "severityText", "string", "", ""),
        (5, "body", "message", "", "AnyValue"),
        (6, "attributes", "message", "repeated", "KeyValue"),
        (7, "droppedAttributesCount", "uint32", "", ""),
        (8, "flags", "fixed32", "", ""),
        (9, "traceId", "id", "", ""),
        (10, "spanId", "id", "", ""),
        (11, "observedTimeUnixNano", "fixed64", "", ""),
        (12, "eventName", "string", "", ""),
    ),
    "ExportLogsServiceResponse": (
        (1, "partialSuccess", "message", "", "ExportLogsPartialSuccess"),
    ),
    "ExportLogsPartialSuccess": (
        (1, "rejectedLogRecords", "int64", "", ""),
        (2, "errorMessage", "string", "", ""),
    ),
    "ExportMetricsServiceRequest": (
        (1, "resourceMetrics", "message", "repeated", "ResourceMetrics"),
    ),
    "ResourceMetrics": (
        (1, "resource", "message", "", "Resource"),
        (2, "scopeMetrics", "message", "repeated", "ScopeMetrics"),
        (3, "schemaUrl", "string", "", ""),
    ),
    "ScopeMetrics": (
        (1, "scope", "message", "", "InstrumentationScope"),
        (2, "metrics", "message", "repeated", "Metric"),
        (3, "schemaUrl", "string", "", ""),
    ),
    "Metric": (
        (1, "name", "string", "", ""),
        (2, "description", "string", "", ""),
        (3, "unit", "string", "", ""),
        (5, "gauge", "message", "data", "Gauge"),
        (7, "sum", "message", "data", "Sum"),
        (9, "histogram", "message", "data", "Histogram"),
        (10, "exponentialHistogram", "message", "data", "ExponentialHistogram"),
        (11, "summary", "message", "data", "Summary"),
        (12, "metadata", "message", "repeated", "KeyValue"),
    ),
    "Gauge": (
        (1, "dataPoints", "message", "repeated", "NumberDataPoint"),
    ),
    "NumberDataPoint": (
        (2, "startTimeUnixNano", "fixed64", "", ""),
        (3, "timeUnixNano", "fixed64", "", ""),
        (4, "asDouble", "double", "value", ""),
        (5, "exemplars", "message", "repeated", "Exemplar"),
        (6, "asInt", "sfixed64", "value", ""),
        (7, "attributes", "message", "repeated", "KeyValue"),
        (8, "flags", "uint32", "", ""),
    ),
    "Exemplar": (
        (2, "timeUnixNano", "fixed64", "", ""),
        (3, "asDouble", "double", "value", ""),
        (4, "spanId", "id", "", ""),
        (5, "traceId", "id", "", ""),
        (6, "asInt", "sfixed64", "value", ""),
        (7, "filteredAttributes", "message", "repeated", "KeyValue"),
    ),
    "Sum": (
        (1, "dataPoints", "message", "repeated", "NumberDataPoint"),
        (2, "aggregationTemporality", "enum", "", ""),
        (3, "isMonotonic", "bool", "", ""),
    ),
    "Histogram": (
        (1, "dataPoints", "message", "repeated", "HistogramDataPoint"),
        (2, "aggregationTemporality", "enum", "", ""),
    ),
    "HistogramDataPoint": (
        (2, "startTimeUnixNano", "fixed64", "", ""),
        (3, "timeUnixNano", "fixed64", "", ""),
        (4, "count", "fixed64", "", ""),
        (5, "sum", "double", "optional", ""),
        (6, "bucketCounts", "fixed64", "packed", ""),
        (7, "explicitBounds", "double", "packed", ""),
        (8, "exemplars", "message", "repeated", "Exemplar"),
        (9, "attributes", "message", "repeated", "KeyValue"),
        (10, "flags", "uint32", "", ""),
        (11, "min", "double", "optional", ""),
        (12, "max", "double", "optional", ""),
    ),
    "ExponentialHistogram": (
        (1, "dataPoints", "message", "repeated", "ExponentialHistogramDataPoint"),
        (2, "aggregationTemporality", "enum", "", ""),
    ),
    "ExponentialHistogramDataPoint": (
        (1, "attributes", "message", "repeated", "KeyValue"),
        (2, "startTimeUnixNano", "fixed64", "", ""),
        (3, "timeUnixNano", "fixed64", "", ""),
        (4, "count", "fixed64", "", ""),
        (5, "sum", "double", "optional", ""),
        (6, "scale", "sint32", "", ""),
        (7, "zeroCount", "fixed64", "", ""),
        (8, "positive", "message", "", "ExponentialHistogramDataPoint.Buckets"),
        (9, "negative", "message", "", "ExponentialHistogramDataPoint.Buckets"),
        (10, "flags", "uint32", "", ""),
        (11, "exemplars", "message", "repeated", "Exemplar"),
        (12, "min", "double", "optional", ""),
        (13, "max", "double", "optional", ""),
        (14, "zeroThreshold", "double", "", ""),
    ),
    "ExponentialHistogramDataPoint.Buckets": (
        (1, "offset", "sint32", "", ""),
        (2, "bucketCounts", "uint64", "packed", ""),
    ),
    "Summary": (
        (1, "dataPoints", "message", "repeated", "SummaryDataPoint"),
    ),
    "SummaryDataPoint": (
        (2, "startTimeUnixNano", "fixed64", "", ""),
        (3, "timeUnixNano", "fixed64", "", ""),
        (4, "count", "fixed64", "", ""),
        (5, "sum", "double", "", ""),
        (6, "quantileValues", "message", "repeated", "SummaryDataPoint.ValueAtQuantile"),
        (7, "attributes", "message", "repeated", "KeyValue"),
        (8, "flags", "uint32", "", ""),
    ),
    "SummaryDataPoint.ValueAtQuantile": (
        (1, "quantile", "double", "", ""),
        (2, "value", "double", "", ""),
    ),
    "ExportMetricsServiceResponse": (
        (1, "partialSuccess", "message", "", "ExportMetricsPartialSuccess"),
    ),
    "ExportMetricsPartialSuccess": (
        (1, "rejectedDataPoints", "int64", "", ""),
        (2, "errorMessage", "string", "", ""),
    ),
    "ExportTraceServiceRequest": (
        (1, "resourceSpans", "message", "repeated", "ResourceSpans"),
    ),
    "ResourceSpans": (
        (1, "resource", "message", "", "Resource"),
        (2, "scopeSpans", "message", "repeated", "ScopeSpans"),
        (3, "schemaUrl", "string", "", ""),
    ),
    "ScopeSpans": (
        (1, "scope", "message", "", "InstrumentationScope"),
        (2, "spans", "message", "repeated", "Span"),
        (3, "schemaUrl", "string", "", ""),
    ),
    "Span": (
        (1, "traceId", "id", "", ""),
        (2, "spanId", "id", "", ""),
        (3, "traceState", "string", "", ""),
        (4, "parentSpanId", "id", "", ""),
        (5, "name", "string", "", ""),
        (6, "kind", "enum", "", ""),
        (7, "startTimeUnixNano", "fixed64", "", ""),
        (8, "endTimeUnixNano", "fixed64", "", ""),
        (9, "attributes", "message", "repeated", "KeyValue"),
        (10, "droppedAttributesCount", "uint32", "", ""),
        (11, "events", "message", "repeated", "Span.Event"),
        (12, "droppedEventsCount", "uint32", "", ""),
        (13, "links", "message", "repeated", "Span.Link"),
        (14, "droppedLinksCount", "uint32", "", ""),
        (15, "status", "message", "", "Status"),
        (16, "flags", "fixed32", "", ""),
    ),
    "Span.Event": (
        (1, "timeUnixNano", "fixed64", "", ""),
        (2, "name", "string", "", ""),
        (3, "attributes", "message", "repeated", "KeyValue"),
        (4, "droppedAttributesCount", "uint32", "", ""),
    ),
    "Span.Link": (
        (1, "traceId", "id", "", ""),
        (2, "spanId", "id", "", ""),
        (3, "traceState", "string", "", ""),
        (4, "attributes", "message", "repeated", "KeyValue"),
        (5, "droppedAttributesCount", "uint32", "", ""),
        (6, "flags", "fixed32", "", ""),
    ),
    "Status": (
        (2, "message", "string", "", ""),
        (3, "code", "enum", "", ""),
    ),
    "ExportTraceServiceResponse": (
        (1, "partialSuccess", "message", "", "ExportTracePartialSuccess"),
    ),
    "ExportTracePartialSuccess": (
        (1, "rejectedSpans", "int64", "", ""),
        (2, "errorMessage", "string", "", ""),
    ),
    "Error": (
        (1, "code", "int32", "", ""),
        (2, "message", "string", "", ""),
    ),
}
