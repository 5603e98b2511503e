"""The service models of the layer's botocore: cut to what the extension calls, and the same as the whole for that."""

import ast
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape, StructureShape
from botocore.serialize import create_serializer

from layer import service_models
from layer.service_models import OPERATIONS, cut_model
from layer.wheels import ROOT

CALLS = [(service, operation) for service, operations in OPERATIONS.items() for operation in operations]
TEXTS = {"timestamp": 0, "boolean": True, "blob": b"bytes", "integer": 1, "long": 1, "float": 1.5, "double": 1.5}


def whole(service: str) -> dict[str, Any]:
    model: dict[str, Any] = Loader().load_service_model(service, "service-2")
    return model


def example(shape: Shape) -> Any:
    """Make a value with every member of `shape`."""
    if isinstance(shape, StructureShape):
        return {name: example(member) for name, member in shape.members.items()}
    if shape.type_name == "list":
        return [example(shape.member)]
    if shape.type_name == "map":
        return {"key": example(shape.value)}
    return TEXTS.get(shape.type_name, "text".ljust(shape.metadata.get("min", 0), "x"))


@pytest.mark.parametrize(("service", "operation"), CALLS)
def test_an_operation_is_written_and_read_as_by_the_whole_model(service: str, operation: str) -> None:
    """With every member that a request can have; and each shape of an answer or error is there, whole."""
    models = [ServiceModel(one, service) for one in (whole(service), cut_model(whole(service), OPERATIONS[service]))]
    requests, answers = [], []
    for model in models:
        called = model.operation_model(operation)
        given = example(called.input_shape) if called.input_shape else {}
        requests.append(create_serializer(model.metadata["protocol"]).serialize_to_request(given, called))
        answers.append([outline(shape) for shape in (called.output_shape, *called.error_shapes) if shape is not None])
    assert requests[0] == requests[1]
    assert answers[0] == answers[1]


def outline(shape: Shape, above: tuple[str, ...] = ()) -> Any:
    """Return all that botocore knows of `shape`, but its documentation."""
    if shape.name in above:
        return shape.name
    below = []
    if isinstance(shape, StructureShape):
        below = [(name, outline(member, (*above, shape.name))) for name, member in shape.members.items()]
    elif shape.type_name in ("list", "map"):
        parts = [shape.member] if shape.type_name == "list" else [shape.key, shape.value]
        below = [("", outline(part, (*above, shape.name))) for part in parts]
    return shape.name, shape.type_name, shape.serialization, shape.metadata, below


def test_what_the_code_calls_is_kept() -> None:
    """Every operation of these services whose name is a text somewhere in the part of the package that is carried."""
    texts = set()
    for path in (ROOT / "telemetry_forwarder").rglob("*.py"):
        if not {"cli", "testing", "replay"} & set(path.parts):
            nodes = ast.walk(ast.parse(path.read_text()))
            texts |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    called = {
        (service, name) for service in OPERATIONS for name in whole(service)["operations"] if xform_name(name) in texts
    }
    assert called == set(CALLS) - {("sts", "GetCallerIdentity")}  # that one the layer's own check calls


def test_the_files_of_a_layer(tmp_path: Path) -> None:
    """Models and rules of endpoints, as JSON that needs no decompression; nothing of other operations."""
    source = Path(Loader.BUILTIN_DATA_PATH)
    for service in OPERATIONS:
        shutil.copytree(source / service, tmp_path / service)
    service_models.cut(tmp_path)
    for service, operations in OPERATIONS.items():
        (version,) = (tmp_path / service).iterdir()
        names = {path.name for path in version.iterdir()}
        assert {"service-2.json", "endpoint-rule-set-1.json"} <= names
        assert all(name.startswith(("service-2.", "endpoint-rule-set-1.")) and name.endswith(".json") for name in names)
        assert set(json.loads((version / "service-2.json").read_text())["operations"]) == set(operations)
        rules = json.loads((version / "endpoint-rule-set-1.json").read_text())
        packed = source / service / version.name / "endpoint-rule-set-1.json.gz"
        assert rules == json.loads(gzip.decompress(packed.read_bytes()))
