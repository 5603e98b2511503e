"""A local Lambda: the Runtime, Extensions and Telemetry APIs on one machine. Nothing in the layer imports it."""
