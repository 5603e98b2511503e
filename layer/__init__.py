"""Builds and publishes the Lambda layer: `python -m layer` (see `make layer` and docs/layer.md)."""
