"""What `telemetry-forwarder local --template` makes of a SAM template."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from local_lambda.cli.cloudformation import Values, load
from local_lambda.cli.package import Package
from local_lambda.cli.sam_template import read_function
from local_lambda.errors import InvalidTemplate
from local_lambda.machine.executables import HERE

REPOSITORY = Path(__file__).parents[3]
Read = Callable[..., Package]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    (tmp_path / "src").mkdir()

    def of(text: str, name: str | None = None, **parameters: str) -> Package:
        path = tmp_path / "template.yaml"
        path.write_text(dedent(text))
        return read_function(path, name, parameters=parameters, region="eu-west-1", account_id="210987654321")

    return of


def test_the_only_function_needs_no_name_and_globals_are_merged(tmp_path: Path, read: Read) -> None:
    found = read("""
        Transform: AWS::Serverless-2016-10-31
        Globals:
          Function:
            Timeout: 10
            MemorySize: 256
            Runtime: python3.13
            Environment: {Variables: {SHARED: a, BOTH: theirs}}
            LoggingConfig: {LogFormat: JSON, ApplicationLogLevel: WARN}
        Resources:
          Orders:
            Type: AWS::Serverless::Function
            Properties:
              CodeUri: src/
              Handler: orders.handler
              MemorySize: 512
              Environment: {Variables: {OWN: 2012-10-17, BOTH: mine, FLAG: true, NUMBER: 7}}
          Table: {Type: AWS::DynamoDB::Table}
    """)
    assert found.settings == {
        "name": "Orders",
        "handler": "orders.handler",
        "runtime": "python3.13",
        "memory_mb": 512,
        "timeout_s": 10.0,
        "environment": {"SHARED": "a", "BOTH": "mine", "OWN": "2012-10-17", "FLAG": "true", "NUMBER": "7"},
        "log_format": "JSON",
        "application_log_level": "WARN",
    }
    assert found.code == tmp_path / "src"
    assert (found.layers, found.remarks) == ([], [])


def test_what_becomes_of_its_events(read: Read) -> None:
    found = read("""
        Resources:
          F:
            Type: AWS::Serverless::Function
            Properties:
              Handler: a.b
              EventInvokeConfig: {MaximumRetryAttempts: 1, MaximumEventAgeInSeconds: 60}
              Events:
                One: {Type: HttpApi, Properties: {Path: /orders, Method: post}}
                Two: {Type: HttpApi, Properties: {Path: '/{proxy+}', Method: ANY}}
                Three: {Type: HttpApi}
                Four: {Type: SQS, Properties: {Queue: x}}
    """)
    assert found.routes == ["POST /orders", "ANY /{proxy+}", "$default"]
    assert (found.retries, found.max_age_s) == (1, 60.0)


def test_another_processor_is_said(read: Read) -> None:
    text = "Resources: {{F: {{Type: 'AWS::Serverless::Function', Properties: {{Handler: a.b, Architectures: [{}]}}}}}}"
    assert read(text.format(HERE)).remarks == []
    (remark,) = read(text.format("riscv64")).remarks
    assert remark == f"The function is for riscv64, and runs here as {HERE}."


def test_without_memory_and_timeout_they_are_lambdas_own(read: Read) -> None:
    found = read("""
        Resources:
          F: {Type: AWS::Serverless::Function, Properties: {Handler: a.b, Runtime: nodejs22.x, FunctionName: mine}}
    """)
    assert found.settings["memory_mb"] == 128
    assert found.settings["timeout_s"] == 3.0
    assert found.settings["name"] == "mine"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("!Ref Stage", "test"),
        ("!Ref Count", "3"),
        ("!Sub '${Stage}-${AWS::Region}-${!Literal}'", "test-eu-west-1-${Literal}"),
        ("!Sub ['${Own}/${Stage}', {Own: !Ref Stage}]", "test/test"),
        ("{'Fn::Sub': '${AWS::AccountId}'}", "210987654321"),
        ("!If [IsTest, yes-it-is, no]", "yes-it-is"),
        ("!If [IsLive, live, !If [IsTest, {'Ref': Stage}, x]]", "test"),
        ("!If [Both, both, neither]", "both"),
        ("!If [Either, either, neither]", "either"),
        ("!FindInMap [Sizes, !Ref Stage, large]", "10"),
        ("!Join [',', [a, !Ref Stage, 1]]", "a,test,1"),
        ("!Select [1, !Split ['/', 'a/b/c']]", "b"),
        ("!Select [0, !Ref List]", "x"),
    ],
)
def test_the_functions_that_need_no_stack(read: Read, written: str, value: str) -> None:
    found = read(f"""
        Parameters:
          Stage: {{Type: String, Default: test}}
          Count: {{Type: Number, Default: 3}}
          List: {{Type: CommaDelimitedList, Default: 'x,y'}}
        Mappings: {{Sizes: {{test: {{large: 10}}}}}}
        Conditions:
          IsTest: !Equals [!Ref Stage, test]
          IsLive: !Not [!Condition IsTest]
          Both: !And [!Condition IsTest, !Not [!Condition IsLive]]
          Either: !Or [!Condition IsLive, !Condition IsTest]
        Resources:
          F:
            Type: AWS::Serverless::Function
            Properties: {{Handler: a.b, Environment: {{Variables: {{VALUE: {written}}}}}}}
    """)
    assert found.settings["environment"] == {"VALUE": value}
    assert found.remarks == []


def test_a_variable_that_is_no_value_is_not_there(read: Read) -> None:
    found = read("""
        Conditions: {Never: !Equals [a, b]}
        Resources:
          F:
            Type: AWS::Serverless::Function
            Properties: {Handler: a.b, Environment: {Variables: {GONE: !If [Never, x, !Ref AWS::NoValue], KEPT: y}}}
    """)
    assert found.settings["environment"] == {"KEPT": "y"}


def test_what_only_a_stack_knows_is_named_once(read: Read) -> None:
    found = read("""
        Parameters: {Secret: {Type: AWS::SSM::Parameter::Value<String>, Default: /prod/secret}}
        Resources:
          Table: {Type: AWS::DynamoDB::Table}
          F:
            Type: AWS::Serverless::Function
            Properties:
              Handler: a.b
              Environment:
                Variables:
                  TABLE: !Ref Table
                  ARN: !GetAtt Table.Arn
                  URL: !Sub https://${Table.StreamArn}/x
                  SECRET: !Ref Secret
                  OTHER: !ImportValue shared-name
                  ZONES: !GetAZs ''
                  PLAIN: x
    """)
    assert found.settings["environment"] == {
        "TABLE": "Table",
        "ARN": "Table.Arn",
        "URL": "https://Table.StreamArn/x",
        "SECRET": "/prod/secret",
        "OTHER": "shared-name",
        "ZONES": "Fn::GetAZs",
        "PLAIN": "x",
    }
    (remark,) = found.remarks
    assert remark.startswith("TABLE, ARN, URL, SECRET, OTHER, ZONES: the value is known in a deployed stack only")


def test_a_parameter_is_given_or_has_a_default(read: Read) -> None:
    text = """
        Parameters: {Stage: {Type: String}, Other: {Type: String, Default: x}}
        Resources:
          F:
            Type: AWS::Serverless::Function
            Properties: {Handler: a.b, Environment: {Variables: {STAGE: !Ref Stage}}}
    """
    assert read(text, Stage="live").settings["environment"] == {"STAGE": "live"}
    with pytest.raises(InvalidTemplate, match="parameter Stage has no default: --parameter Stage=VALUE"):
        read(text)
    with pytest.raises(InvalidTemplate, match="has no parameter Stag; it has Other, Stage"):
        read(text, Stag="live")


def test_layers_of_the_template_and_those_elsewhere(tmp_path: Path, read: Read) -> None:
    for folder in ("shared", "own", ".aws-sam/build/Made"):
        (tmp_path / folder).mkdir(parents=True)
    found = read("""
        Globals: {Function: {Layers: [!Ref Shared]}}
        Parameters: {Foreign: {Type: String, Default: 'arn:aws:lambda:eu-west-1:1:layer:foreign:2'}}
        Resources:
          Shared: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: shared}}
          Own: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: own}}
          Made: {Type: AWS::Serverless::LayerVersion, Metadata: {BuildMethod: makefile}, Properties: {ContentUri: own}}
          Unmade: {Type: AWS::Serverless::LayerVersion, Metadata: {BuildMethod: python3.13}, Properties: {}}
          F:
            Type: AWS::Serverless::Function
            Properties:
              Handler: a.b
              Layers: [!Ref Own, !Ref Made, !Ref Unmade, !Ref Foreign, 'arn:aws:lambda:eu-west-1:1:layer:other:9']
    """)
    assert found.layers == [tmp_path / name for name in ("shared", "own", ".aws-sam/build/Made")]
    built, elsewhere = found.remarks
    assert built == "Not here: the layer Unmade is built by `sam build` first, or give it with --layer."
    assert (
        "the layers arn:aws:lambda:eu-west-1:1:layer:foreign:2, arn:aws:lambda:eu-west-1:1:layer:other:9;" in elsewhere
    )


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("a: [", None, r"is not YAML in line \d+: "),
        ("- a", None, "has no Resources"),
        ("Resources: {}", None, "has 0 functions.*it has none"),
        ("Resources: {A: {Type: 'AWS::Serverless::Function'}, B: {Type: 'AWS::Serverless::Function'}}", None,
         "has 2 functions: name one with --resource; it has A, B"),
        ("Resources: {A: {Type: 'AWS::Serverless::Function'}}", "B", "has no function B; it has A"),
    ],
)  # fmt: skip
def test_a_template_without_the_function_says_what_it_has(read: Read, text: str, name: str | None, words: str) -> None:
    with pytest.raises(InvalidTemplate, match=words):
        read(text, name)


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ("{PackageType: Image}", "F is a container image"),
        ("{InlineCode: 'x = 1'}", "has its code in InlineCode"),
        ("{CodeUri: 's3://bucket/key'}", "'s3://bucket/key', which is not a path on this machine: --code PATH"),
        ("{CodeUri: {Bucket: b, Key: k}}", "which is not a path on this machine"),
        ("{CodeUri: nowhere}", "CodeUri of F is nowhere, but .*nowhere does not exist"),
        ("{MemorySize: much}", "MemorySize of F is 'much', which is not a number"),
        ("{Handler: !Select [x]}", "Fn::Select .* is malformed"),
        ("{Handler: !FindInMap [A, b, c]}", "Fn::FindInMap .* is malformed"),
        ("{Handler: !If [Nothing, a, b]}", "Fn::If .* is malformed"),
    ],
)
def test_what_cannot_run_here_is_one_sentence(read: Read, properties: str, words: str) -> None:
    with pytest.raises(InvalidTemplate, match=words):
        read(f"Resources: {{F: {{Type: 'AWS::Serverless::Function', Properties: {properties}}}}}")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidTemplate, match="cannot be read: no such file"):
        load(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InvalidTemplate, match="is not UTF-8"):
        load(tmp_path / "latin.yaml")


def test_json_is_a_template_too(tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    path.write_text(
        '{"Resources": {"F": {"Type": "AWS::Lambda::Function", "Properties": {"Code": ".", "Handler": "a.b"}}}}'
    )
    found = read_function(path, None, parameters={}, region="eu-west-1", account_id="210987654321")
    assert found.settings["handler"] == "a.b"


def test_this_repositorys_own_template_gives_both_functions() -> None:
    for name, runtime, code in (("PythonFunction", "python3.13", "python"), ("NodeFunction", "nodejs22.x", "nodejs")):
        found = read_function(
            REPOSITORY / "template.yaml", name, parameters={}, region="eu-west-1", account_id="210987654321"
        )
        assert found.code == REPOSITORY / "examples" / code
        assert found.settings["runtime"] == runtime
        assert found.settings["environment"] == {}, "each setting that is left empty is left out"
        assert (found.settings["memory_mb"], found.settings["timeout_s"]) == (256, 10.0)


def test_an_expression_inside_a_list_can_be_no_value() -> None:
    template: dict[str, Any] = {"Conditions": {"Never": {"Fn::Equals": ["a", "b"]}}}
    values = Values(template, {}, {})
    assert values.of(["a", {"Fn::If": ["Never", "b", {"Ref": "AWS::NoValue"}]}]) == ["a"]
    assert values.of({"Ref": "AWS::NoValue"}) is None
