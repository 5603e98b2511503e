"""Answers HTTP: with the event, or with what its body says."""

import json


def handler(event, context):
    said = json.loads(event["body"]) if event["rawPath"] == "/said" else {}
    if "raise" in said:
        raise RuntimeError(said["raise"])
    return said.get("return", event)
