"""The intake of telemetry: the HTTP server, and the processing of each body."""
