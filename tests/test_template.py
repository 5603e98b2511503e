"""The SAM template says what the code understands, and grants what the code needs."""

from pathlib import Path
from typing import Any

import pytest

from layer.libraries import GENERATIONS
from layer.publish import MOST_RUNTIMES
from telemetry_forwarder.variables.reading import BY_NAME, NEEDS
from telemetry_forwarder.variables.signal_types import HeaderList
from telemetry_forwarder.variables.table import VARIABLES
from telemetry_forwarder.variables.types import FilePath, SecretText

load = pytest.importorskip("cfnlint.decode.cfn_yaml", reason="cfn-lint is for Python 3.14 and older").load
TEMPLATE = Path(__file__).parents[1] / "template.yaml"


BY_VALUE = (SecretText, HeaderList)  # a header may hold a secret
# What has no effect, or takes the sink away again.
INERT = {"OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "OTEL_SDK_DISABLED"}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    loaded: dict[str, Any] = load(str(TEMPLATE))
    return loaded


@pytest.fixture(scope="module")
def variables(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = template["Globals"]["Function"]["Environment"]["Variables"]
    return found


def test_every_variable_is_one_of_ours(variables: dict[str, Any]) -> None:
    """A name that is not ours would be ignored without a word."""
    assert set(variables) <= set(BY_NAME)


def test_every_setting_of_a_sink_has_a_parameter(variables: dict[str, Any]) -> None:
    """But for the AWS SDK's own (`AWS_…`), what may hold a secret, files of a layer, and what is inert."""
    ours = [variable for variable in VARIABLES if variable.sink in NEEDS and not variable.name.startswith("AWS_")]
    wanted = {variable.name for variable in ours if not isinstance(variable.kind, (*BY_VALUE, FilePath))}
    assert wanted - INERT <= set(variables)


def test_no_secret_is_passed_by_value(variables: dict[str, Any]) -> None:
    """What is in a function's environment can be read by whoever may look at the function."""
    assert not [name for name in variables if isinstance(BY_NAME[name].kind, BY_VALUE)]


def test_an_empty_parameter_leaves_its_variable_out(template: dict[str, Any], variables: dict[str, Any]) -> None:
    for name, value in variables.items():
        condition, given, otherwise = value["Fn::If"]
        parameter = given["Ref"]
        assert condition == f"Has{parameter}", name
        assert template["Conditions"][condition] == {"Fn::Not": [{"Fn::Equals": [{"Ref": parameter}, ""]}]}, name
        assert template["Parameters"][parameter]["Default"] == "", name
        assert otherwise == {"Ref": "AWS::NoValue"}, name


def test_allowed_values_are_those_of_the_code(template: dict[str, Any], variables: dict[str, Any]) -> None:
    for name, value in variables.items():
        allowed = template["Parameters"][value["Fn::If"][1]["Ref"]].get("AllowedValues", [])
        for word in filter(None, allowed):
            BY_NAME[name].kind.read(word)  # raises ValueError for a word it does not take
    retention = template["Parameters"]["CloudWatchRetentionDays"]["AllowedValues"]
    assert tuple(filter(None, retention)) == tuple(BY_NAME["CLOUDWATCH_RETENTION_DAYS"].kind.words)


def test_the_layer_names_runtimes_that_it_serves(template: dict[str, Any]) -> None:
    """The first decides in which image `sam build --use-container` builds: one that has a Python for the layer."""
    named = template["Resources"]["TelemetryForwarderLayer"]["Properties"]["CompatibleRuntimes"]
    assert set(named) <= {name for runtimes in GENERATIONS for name in runtimes.identifiers}
    assert len(named) == len(set(named)) <= MOST_RUNTIMES
    assert named[0].startswith("python3.")
    functions = [found for found in template["Resources"].values() if found["Type"] == "AWS::Serverless::Function"]
    assert {function["Properties"]["Runtime"] for function in functions} <= set(named)


def test_no_right_is_given_on_everything(template: dict[str, Any]) -> None:
    """Each action is named in full and bound to one resource."""
    statements = list(find_statements(template["Resources"]["SampleRole"]["Properties"]["Policies"]))
    assert len(statements) == 10
    for statement in statements:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if isinstance(action, str) and "*" in action]
        assert statement["Resource"] not in ("*", ["*"])
        if "kms:Decrypt" in actions:
            assert "kms:ViaService" in statement["Condition"]["StringEquals"]


def find_statements(node: Any) -> Any:
    """Walk a policy, both sides of each condition."""
    if isinstance(node, dict):
        if "Effect" in node:
            yield node
        for value in node.values():
            yield from find_statements(value)
    elif isinstance(node, list):
        for value in node:
            yield from find_statements(value)
