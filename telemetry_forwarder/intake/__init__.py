"""How telemetry comes in: the HTTP server, and what happens to a body."""
