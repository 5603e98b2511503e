"""Telemetry bodies on disk: for what memory has no room for, and for the process that comes next."""
