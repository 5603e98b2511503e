"""The template of streams: what it makes fits together, functions get what they need, and it can be deployed."""

import itertools
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session
from botocore.session import get_session as get_botocore_session
from botocore.validate import ParamValidator

from telemetry_forwarder.interfaces import Destination
from telemetry_forwarder.sinks import load
from telemetry_forwarder.variables.reading import read_all
from tests.integration.aws_service import REGION, environment, moto
from tests.test_template import find_statements

__all__ = ["environment", "moto"]
load_yaml = pytest.importorskip("cfnlint.decode.cfn_yaml", reason="cfn-lint is for Python 3.14 and older").load
TEMPLATE = Path(__file__).parents[1] / "streams/template.yaml"
GIVEN = {
    "S3": {},
    "Splunk": {
        "SplunkHecUrl": "https://hec.example.com:8088",
        "SplunkHecTokenSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:hec-x",
    },
    "OpenSearch": {"OpenSearchDomainArn": "arn:aws:es:eu-central-1:123456789012:domain/logs"},
}
each_stream = pytest.mark.parametrize(("end", "kinesis"), [*itertools.product(GIVEN, ("false", "true"))])
NOTHING = "AWS::NoValue"


@pytest.fixture(scope="module")
def template() -> Any:
    return load_yaml(str(TEMPLATE))


def resolved(template: Any, end: str, kinesis: str) -> dict[str, Any]:
    """Return the resources and outputs that there are with these parameters; references stay as they are."""
    given = {name: one.get("Default", "") for name, one in template["Parameters"].items()}
    given |= {"Destination": end, "KinesisInFront": kinesis, **GIVEN[end]}

    def holds(condition: Any) -> bool:
        ((kind, of),) = condition.items()
        if kind == "Fn::Equals":
            one, other = (given[side["Ref"]] if isinstance(side, Mapping) else side for side in of)
            return bool(one == other)
        if kind == "Condition":
            return holds(template["Conditions"][of])
        return all(map(holds, of)) if kind == "Fn::And" else not holds(of[0])

    def found(node: Any) -> Any:
        if isinstance(node, Mapping):
            if "Fn::If" in node:
                name, then, otherwise = node["Fn::If"]
                return found(then if holds(template["Conditions"][name]) else otherwise)
            members = {key: found(value) for key, value in node.items()}
            return {key: value for key, value in members.items() if value != {"Ref": NOTHING}}
        if isinstance(node, list):
            return [each for each in map(found, node) if each != {"Ref": NOTHING}]
        return node

    resources = {
        name: found({key: value for key, value in one.items() if key != "Condition"})
        for name, one in template["Resources"].items()
        if "Condition" not in one or holds(template["Conditions"][one["Condition"]])
    }
    return {"Resources": resources, "Outputs": found(template["Outputs"])}


def destination_of(outputs: Any, name: str = "logs") -> Destination[Any, Any]:
    """Make the sink from the variables that the outputs name."""
    kind = str(outputs["Sink"]["Value"])
    upper = kind.upper()
    made = load(kind)(
        read_all(
            {
                "AWS_REGION": REGION,
                f"{upper}_STREAM_NAME": name,
                f"{upper}_FORMAT": outputs["Format"]["Value"],
                f"{upper}_RECORD_BYTES": outputs["RecordBytes"]["Value"],
            }
        )
    )
    assert isinstance(made, Destination)
    assert made.problems == ()
    return made


def test_it_is_sound() -> None:
    """By the command: in-process it takes minutes."""
    subprocess.run([Path(sys.executable).parent / "cfn-lint", str(TEMPLATE)], check=True, timeout=100)


@each_stream
def test_what_a_function_is_told_fits_where_the_stream_ends(template: Any, end: str, kinesis: str) -> None:
    parts = resolved(template, end, kinesis)
    sink = destination_of(parts["Outputs"]).sink
    assert sink.name == ("kinesis" if kinesis == "true" else "firehose")
    assert (sink.record_bytes == 0) is (end == "OpenSearch")  # which takes one document for each record
    properties = parts["Resources"]["DeliveryStream"]["Properties"]
    ends = {name: value for name, value in properties.items() if name.endswith("DestinationConfiguration")}
    (settings,) = ends.values()
    if end == "Splunk":  # its event endpoint takes events of HEC, the raw one would take lines of any form
        assert settings["HECEndpointType"] == "Event"
        assert type(sink.format).__name__ == "SplunkHec"
    assert properties["DeliveryStreamType"] == ("KinesisStreamAsSource" if kinesis == "true" else "DirectPut")
    assert ("KinesisStreamSourceConfiguration" in properties) is (kinesis == "true") is ("Stream" in parts["Resources"])


@each_stream
def test_a_function_may_put_into_its_stream_and_nothing_else(template: Any, end: str, kinesis: str) -> None:
    parts = resolved(template, end, kinesis)
    (statement,) = find_statements(parts["Resources"]["FunctionPolicy"])
    assert statement["Action"] == destination_of(parts["Outputs"]).sink._target.actions
    stream = "Stream" if kinesis == "true" else "DeliveryStream"
    assert statement["Resource"] == {"Fn::GetAtt": [stream, "Arn"]}


@each_stream
def test_no_right_is_given_on_everything(template: Any, end: str, kinesis: str) -> None:
    statements = list(
        find_statements(resolved(template, end, kinesis)["Resources"]["DeliveryRole"]["Properties"]["Policies"])
    )
    assert len(statements) == 3 + (kinesis == "true") + (end != "S3")
    for statement in statements:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if "*" in action]
        assert statement["Resource"] not in ("*", ["*"])


@each_stream
def test_what_a_destination_refuses_is_kept(template: Any, end: str, kinesis: str) -> None:
    """In the bucket, which outlives the stack."""
    resources = resolved(template, end, kinesis)["Resources"]
    properties = resources["DeliveryStream"]["Properties"]
    (settings,) = (value for name, value in properties.items() if name.endswith("DestinationConfiguration"))
    kept = settings if end == "S3" else settings["S3Configuration"]
    assert kept["BucketARN"] == {"Fn::GetAtt": ["Bucket", "Arn"]}
    assert kept["ErrorOutputPrefix"].startswith("failed/")
    if end != "S3":
        assert settings["S3BackupMode"].startswith("Failed")
    assert resources["Bucket"]["DeletionPolicy"] == "Retain"


def test_no_token_is_a_parameter(template: Any) -> None:
    assert not [name for name in template["Parameters"] if "Token" in name and not name.endswith("Arn")]


def filled(node: Any, parameters: Mapping[str, Any]) -> Any:
    """Return a part of the template with its references resolved, to names and ARNs that look like real ones."""
    if isinstance(node, Mapping):
        match next(iter(node.items()), None):
            case ("Ref", name):
                return parameters.get(name, str(name).replace("::", "-"))
            case ("Fn::GetAtt", [name, "Arn"]):
                return ARNS[name]
            case _:
                return {key: filled(value, parameters) for key, value in node.items()}
    return [filled(each, parameters) for each in node] if isinstance(node, list) else node


ARNS = {
    "Bucket": "arn:aws:s3:::kept",
    "DeliveryRole": "arn:aws:iam::123456789012:role/delivery",
    "Stream": f"arn:aws:kinesis:{REGION}:123456789012:stream/logs",
}


def call_of(template: Any, end: str, kinesis: str) -> dict[str, Any]:
    """Return the parameters of CreateDeliveryStream: CloudFormation's properties have the names of the API's."""
    parameters = {name: one.get("Default", "") for name, one in template["Parameters"].items()} | GIVEN[end]
    properties = resolved(template, end, kinesis)["Resources"]["DeliveryStream"]["Properties"]
    return {**filled(properties, parameters), "DeliveryStreamName": f"logs-{end}-{kinesis}"}


@each_stream
def test_the_api_has_every_property_of_the_delivery_stream(template: Any, end: str, kinesis: str) -> None:
    operation = get_botocore_session().get_service_model("firehose").operation_model("CreateDeliveryStream")
    report = ParamValidator().validate(call_of(template, end, kinesis), operation.input_shape)
    assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize("kinesis", ["false", "true"])
async def test_moto_makes_the_delivery_stream(template: Any, kinesis: str, moto: str, environment: None) -> None:
    """One that ends in S3: others it does not know, nor any in CloudFormation."""
    given = call_of(template, "S3", kinesis)
    name = given["DeliveryStreamName"]
    async with get_session().create_client("firehose", region_name=REGION, endpoint_url=moto) as client:
        await client.create_delivery_stream(**given)
        described = (await client.describe_delivery_stream(DeliveryStreamName=name))["DeliveryStreamDescription"]
    assert described["DeliveryStreamType"] == given["DeliveryStreamType"]
    (destination,) = described["Destinations"]
    assert destination["ExtendedS3DestinationDescription"]["CompressionFormat"] == "GZIP"
