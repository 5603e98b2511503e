"""Telemetry bodies become records: decoding, parsing of log lines, enriching. Pure, except for the handover file."""
