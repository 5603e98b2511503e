"""OTLP, OpenTelemetry's protocol: its messages as a table, and their two encodings. Pure."""
