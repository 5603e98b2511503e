"""The `telemetry-forwarder` command. Not in the layer."""
