"""Metrics and spans, derived from the platform's events and from what functions print. Pure."""
