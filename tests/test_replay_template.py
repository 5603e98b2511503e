"""The SAM template of the replay function says what the code understands, and grants what the code calls."""

import ast
import copy
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.awslambda_simple.models import LambdaSimpleBackend

from layer import function as building
from layer.service_models import REPLAY_OPERATIONS
from telemetry_forwarder.failover.parcels import SUFFIX
from telemetry_forwarder.replay import function
from telemetry_forwarder.replay.batch import TAG, WhenDone
from telemetry_forwarder.replay.events import batch_of

load = pytest.importorskip("cfnlint.decode.cfn_yaml", reason="cfn-lint is for Python 3.14 and older").load
ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "replay" / "template.yaml"
REGION = "eu-central-1"


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    loaded: dict[str, Any] = load(str(TEMPLATE))
    return loaded


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, Any]:
    return {name: resource.get("Properties", {}) for name, resource in template["Resources"].items()}


@pytest.fixture(scope="module")
def machine(resources: dict[str, Any]) -> dict[str, Any]:
    """The state machine with names in the place of what CloudFormation fills in."""
    names = {
        "FunctionArn": f"arn:aws:lambda:{REGION}:123456789012:function:f",
        "Bucket": "kept",
        "StateBucket": "state",
    }
    assert names.keys() == resources["Backlog"]["DefinitionSubstitutions"].keys()
    text = json.dumps(resources["Backlog"]["Definition"])
    found: dict[str, Any] = json.loads(re.sub(r"\$\{(\w+)\}", lambda match: names[match[1]], text))
    return found


def statements(node: Any) -> Iterator[dict[str, Any]]:
    """Walk a policy, both sides of each condition."""
    if isinstance(node, dict):
        if "Effect" in node:
            yield node
        for value in node.values():
            yield from statements(value)
    elif isinstance(node, list):
        for value in node:
            yield from statements(value)


def actions(node: Any) -> set[str]:
    return {text for text in texts(node) if re.fullmatch(r"[a-z0-9]+:[A-Za-z]+", text)}


def texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from texts(value)


def test_the_function_is_the_one_that_is_built(resources: dict[str, Any]) -> None:
    properties = resources["ReplayFunction"]
    assert properties["Handler"] == f"{function.__name__}.{function.handler.__name__}"
    assert properties["Runtime"] == f"python{building._RUNTIME}"
    assert set(properties["Environment"]["Variables"]) == set(function._OWN)


def test_what_is_done_with_finished_objects_is_what_the_code_knows(
    template: dict[str, Any], resources: dict[str, Any]
) -> None:
    assert template["Parameters"]["WhenDone"]["AllowedValues"] == list(WhenDone)
    (rule,) = resources["Bucket"]["LifecycleConfiguration"]["Rules"]
    assert rule["TagFilters"] == [TAG]


def test_every_operation_that_the_code_calls_is_granted_and_carried(resources: dict[str, Any]) -> None:
    called = set()
    for name in ("batch", "function", "s3_journal"):
        tree = ast.parse((ROOT / "telemetry_forwarder" / "replay" / f"{name}.py").read_text())
        words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        for service in ("s3", "sqs"):
            methods = boto3.client(service, region_name=REGION).meta.method_to_api_mapping
            called |= {(service, operation) for method, operation in methods.items() if method in words}
    carried = {(service, one) for service, some in REPLAY_OPERATIONS.items() if service != "sts" for one in some}
    assert called == carried
    granted = {action for one in statements(resources["FunctionRole"]) for action in actions(one["Action"])}
    assert {f"{service}:{operation}" for service, operation in called} <= granted
    # What Lambda itself does with the role, by the Developer Guide; and the secrets.
    assert {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"} <= granted
    assert {"secretsmanager:GetSecretValue", "ssm:GetParameter", "kms:Decrypt"} <= granted


def test_no_right_is_given_on_everything(resources: dict[str, Any]) -> None:
    found = [one for role in ("FunctionRole", "BacklogRole") for one in statements(resources[role]["Policies"])]
    assert len(found) == 13
    for statement in found:
        named = [text for text in texts(statement["Action"]) if ":" in text]
        assert named
        assert not [text for text in named if "*" in text]
        assert statement["Resource"] not in ("*", ["*"])
        if "kms:Decrypt" in named:
            assert "kms:ViaService" in statement["Condition"]["StringEquals"]


def test_messages_come_again_after_the_time_that_lambda_advises(resources: dict[str, Any]) -> None:
    """And the state machine waits longer for the function than it may run."""
    timeout = resources["ReplayFunction"]["Timeout"]
    assert resources["Queue"]["VisibilityTimeout"] == 6 * timeout
    replay = resources["Backlog"]["Definition"]["States"]["Objects"]["ItemProcessor"]["States"]["Replay"]
    assert replay["TimeoutSeconds"] > timeout
    assert {"ReplayUnfinished"} <= set(replay["Retry"][0]["ErrorEquals"])
    retried = {name for retry in replay["Retry"] for name in retry["ErrorEquals"]}
    assert not {"States.ALL", "States.TaskFailed", function.ReplayImpossible.__name__} & retried


def test_both_mappings_report_failures_one_by_one_and_are_bounded(resources: dict[str, Any]) -> None:
    mappings = (resources["ReplayFunction"]["Events"]["Objects"]["Properties"], resources["MessagesMapping"])
    for mapping in mappings:
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "MaxConcurrency"}}


def test_bucket_that_is_there_already_gets_the_same_notifications(
    template: dict[str, Any], resources: dict[str, Any]
) -> None:
    command = template["Outputs"]["NotificationCommand"]["Value"]["Fn::Sub"]
    given = json.loads(command[command.index("'") + 1 : command.rindex("'")])
    made = resources["Bucket"]["NotificationConfiguration"]["QueueConfigurations"][0]
    (there,) = given["QueueConfigurations"]
    assert there["Events"] == [made["Event"]]
    rules = [(rule["Name"], rule["Value"]) for rule in made["Filter"]["S3Key"]["Rules"]]
    assert rules == [("prefix", {"Fn::Sub": "${FailoverPrefix}/"}), ("suffix", SUFFIX)]
    assert [tuple(rule.values()) for rule in there["Filter"]["Key"]["FilterRules"]] == [
        ("prefix", "${FailoverPrefix}/"), ("suffix", SUFFIX),
    ]  # fmt: skip
    queue = f"arn:aws:sqs:{REGION}:123456789012:q"
    filled = json.loads(json.dumps(given).replace("${Queue.Arn}", queue).replace("${FailoverPrefix}", "telemetry"))
    with mock_aws():
        boto3.client("sqs", region_name=REGION).create_queue(QueueName="q")
        s3 = boto3.client("s3", region_name=REGION)
        s3.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_bucket_notification_configuration(Bucket="kept", NotificationConfiguration=filled)


def lint(machine: dict[str, Any], folder: Path) -> str:
    """Return what cfn-lint says of a state machine. It does not look into those of SAM."""
    properties = {"RoleArn": "arn:aws:iam::123456789012:role/r", "Definition": machine}
    resource = {"Type": "AWS::StepFunctions::StateMachine", "Properties": properties}
    path = folder / "machine.json"
    path.write_text(json.dumps({"Resources": {"Machine": resource}}))
    command = [str(Path(sys.executable).with_name("cfn-lint")), str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def test_state_machine_is_sound(machine: dict[str, Any], tmp_path: Path) -> None:
    assert lint(machine, tmp_path) == ""
    wrong = copy.deepcopy(machine)
    wrong["States"]["Objects"]["ItemProcessor"]["States"]["Replay"]["TimeoutSecond"] = 1
    assert "TimeoutSecond" in lint(wrong, tmp_path), "else this shows nothing"


def test_state_machine_lists_the_objects_and_invokes_the_function(
    machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Played by moto's interpreter. It knows no ItemBatcher: each object is a batch of its own, in that form."""
    for name, value in (("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_DEFAULT_REGION", REGION)):
        monkeypatch.setenv(name, value)
    played = copy.deepcopy(machine)
    batcher = played["States"]["Objects"].pop("ItemBatcher")
    items = {"BatchInput": batcher["BatchInput"], "Items.$": "States.Array($$.Map.Item.Value)"}
    played["States"]["Objects"]["ItemSelector"] = items
    played["States"]["Objects"]["ToleratedFailurePercentage"] += 0.0  # which it reads with a point alone
    invoked: list[str] = []

    def invoke(self: object, function_name: str, qualifier: Any, body: Any, *_: Any) -> bytes:
        invoked.extend(map(str, batch_of(json.loads(body))))
        return b'{"Objects": 1, "Done": 1}'

    monkeypatch.setattr(LambdaSimpleBackend, "invoke", invoke)
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}):
        s3 = boto3.client("s3", region_name=REGION)
        for bucket in ("kept", "state"):
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        for key in ("orders/splunk/0", "orders/splunk/1", "orders/datadog/2", "other/splunk/3"):
            s3.put_object(Bucket="kept", Key=f"telemetry/{key}", Body=b"x")
        steps = boto3.client("stepfunctions", region_name=REGION)
        role = "arn:aws:iam::123456789012:role/r"
        arn = steps.create_state_machine(name="b", definition=json.dumps(played), roleArn=role)["stateMachineArn"]
        run = steps.start_execution(stateMachineArn=arn, input='{"Prefix": "telemetry/orders/"}')["executionArn"]
        ends_at = time.monotonic() + 60
        while (found := steps.describe_execution(executionArn=run))["status"] == "RUNNING":
            assert time.monotonic() < ends_at
            time.sleep(0.1)
        assert found["status"] == "SUCCEEDED", found
        while len(invoked) < 3 and time.monotonic() < ends_at:  # moto says so before the last of its threads is through
            time.sleep(0.05)
    assert sorted(invoked) == [
        "s3://kept/telemetry/orders/datadog/2", "s3://kept/telemetry/orders/splunk/0", "s3://kept/telemetry/orders/splunk/1",
    ]  # fmt: skip
