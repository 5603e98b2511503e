"""Cuts botocore's service models to the operations that the extension calls with it, which are a fiftieth of them.

CloudWatch Logs, Secrets Manager and SSM are called without it (telemetry_forwarder/transports/aws_json.py).
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Operations = dict[str, tuple[str, ...]]
# All that the code calls (a test compares), and one call of STS for the layer's own check.
OPERATIONS: Operations = {
    "s3": ("PutObject",),
    "sqs": ("SendMessage",),
    "sts": ("GetCallerIdentity",),
}
# All that the replay function calls, which is built by layer/function.py.
REPLAY_OPERATIONS: Operations = {
    "s3": ("DeleteObject", "GetObject", "PutObject", "PutObjectTagging"),
    "sqs": ("ChangeMessageVisibility",),
    "sts": ("GetCallerIdentity",),
}


def cut(data: Path, kept: Operations = OPERATIONS) -> None:
    """Write each service's files in botocore's `data` anew, as JSON that is not compressed: the layer's ZIP is."""
    for service, operations in kept.items():
        for path in sorted(data.glob(f"{service}/*/*.json*")):
            text = path.read_bytes()
            path.unlink()
            kind = path.name.removesuffix(".gz")
            if kind.startswith(("service-2.", "endpoint-rule-set-1.")):  # others are for paginators, waiters, examples
                read = json.loads(gzip.decompress(text) if path.suffix == ".gz" else text)
                written = cut_model(read, operations) if kind == "service-2.json" else read
                path.with_name(kind).write_text(json.dumps(written, separators=(",", ":")))


def cut_model(model: dict[str, Any], operations: tuple[str, ...]) -> dict[str, Any]:
    """Return `model` with nothing but `operations` and the shapes that they use, without documentation."""
    kept = {name: model["operations"][name] for name in operations}
    waiting = sorted(set(_shapes_in(kept)))
    for name in waiting:  # grows during the loop
        waiting.extend(one for one in sorted(set(_shapes_in(model["shapes"][name]))) if one not in waiting)
    cut: dict[str, Any] = _without_documentation(
        model | {"operations": kept, "shapes": {name: model["shapes"][name] for name in sorted(waiting)}}
    )
    return cut


def _shapes_in(node: Any) -> Iterator[str]:
    """Yield the names of the shapes that `node` refers to. A reference is {"shape": NAME, …}."""
    if isinstance(node, dict):
        if isinstance(name := node.get("shape"), str):
            yield name
        for child in node.values():
            yield from _shapes_in(child)
    elif isinstance(node, list):
        for child in node:
            yield from _shapes_in(child)


def _without_documentation(node: Any) -> Any:
    """Return `node` with empty texts, because some must be there. A member with that name is no text, and stays."""
    if isinstance(node, dict):
        return {
            name: "" if name == "documentation" and isinstance(child, str) else _without_documentation(child)
            for name, child in node.items()
        }
    return [_without_documentation(child) for child in node] if isinstance(node, list) else node
