"""`telemetry-forwarder local`: the function as a ZIP file, and as a SAM template describes it."""

import asyncio
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from telemetry_forwarder.cli import main; main()", "local", "--json"]
APP = """
import os

def handler(event, context):
    return {"arn": context.invoked_function_arn, "timeout": round(context.get_remaining_time_in_millis() / 1000),
            "memory": context.memory_limit_in_mb, **{name: os.environ.get(name) for name in event}}
"""
TEMPLATE = """
Parameters: {Stage: {Type: String, Default: test}}
Globals: {Function: {Runtime: python3.13, Timeout: 20, Layers: [!Ref Tools]}}
Resources:
  Tools: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: tools}}
  Orders:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: src
      Handler: orders.handler
      MemorySize: 300
      Environment: {Variables: {STAGE: !Ref Stage, TABLE: !Ref Table}}
  Table: {Type: AWS::DynamoDB::Table}
"""


async def run(*arguments: str, cwd: Path | None = None, **variables: str) -> tuple[int, Any, str]:
    """Return the exit code, the payload of the invocation, and what was written on standard error."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=pipe, stderr=pipe, env=os.environ | variables, cwd=cwd
    )
    out, error = await process.communicate()
    lines = [json.loads(line) for line in out.splitlines()]
    payload = next((line["payload"] for line in lines if line["what"] == "invocation"), None)
    assert process.returncode is not None
    return process.returncode, payload, error.decode()


@pytest.fixture
def event(tmp_path: Path) -> list[str]:
    (tmp_path / "event.json").write_text('["STAGE", "TABLE", "EXTRA", "AWS_REGION"]')
    return ["--event", str(tmp_path / "event.json")]


@pytest.fixture
def template(tmp_path: Path) -> str:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "orders.py").write_text("from mine import handler\n")
    (tmp_path / "tools" / "python").mkdir(parents=True)
    (tmp_path / "tools" / "python" / "mine.py").write_text(APP)
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    return str(tmp_path / "template.yaml")


async def test_a_template_says_all_there_is_to_say(template: str, event: list[str]) -> None:
    code, payload, error = await run("--template", template, *event)
    assert code == 0
    assert payload == {
        "arn": "arn:aws:lambda:us-east-1:123456789012:function:Orders",
        "timeout": 20,
        "memory": "300",
        "STAGE": "test",
        "TABLE": "Table",
        "EXTRA": None,
        "AWS_REGION": "us-east-1",
    }
    assert error.startswith("Note: TABLE: the value is known in a deployed stack only")


async def test_options_win_over_the_template(template: str, event: list[str]) -> None:
    code, payload, error = await run(
        *["--template", template, "--resource", "Orders", "--parameter", "Stage=live", "--env", "EXTRA=x=y"],
        *["--memory", "400", "--timeout", "7", "--name", "mine", "--region", "eu-west-1", "--account", "210987654321"],
        *["--version", "17", *event],
    )
    assert code == 0, error
    assert payload == {
        "arn": "arn:aws:lambda:eu-west-1:210987654321:function:mine",
        "timeout": 7,
        "memory": "400",
        "STAGE": "live",
        "TABLE": "Table",
        "EXTRA": "x=y",
        "AWS_REGION": "eu-west-1",
    }


async def test_without_a_file_the_template_is_looked_for_as_sam_does(template: str, event: list[str]) -> None:
    folder = Path(template).parent
    code, payload, error = await run("--template", *event, cwd=folder)
    assert (code, payload["STAGE"]) == (0, "test"), error
    built = folder / ".aws-sam" / "build"
    built.mkdir(parents=True)
    (built / "template.yaml").write_text(TEMPLATE.replace("src", "../../src").replace("tools}", "../../tools}"))
    code, payload, error = await run(
        "--resource", "Orders", "--parameter", "Stage=built", "--template", *event, cwd=folder
    )
    assert (code, payload["STAGE"]) == (0, "built"), error
    (folder / "empty").mkdir()
    code, _, error = await run("--template", cwd=folder / "empty")
    assert (code, error.count("\n")) == (2, 1)
    assert "there is none of .aws-sam/build/template.yaml, template.yaml," in error


async def test_this_repositorys_own_template_runs() -> None:
    template = str(REPOSITORY / "template.yaml")
    code, payload, error = await run("--template", template, "--resource", "PythonFunction")
    assert code == 0, error
    assert list(payload) == ["requestId"]
    built = (REPOSITORY / ".aws-sam" / "build" / "TelemetryForwarderLayer").is_dir()
    assert built or error.startswith("Note: Not here: the layer TelemetryForwarderLayer is built by `sam build` first")


async def test_code_as_a_zip_file_is_unpacked_and_removed(tmp_path: Path, event: list[str]) -> None:
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("app.py", APP)
    (tmp_path / "private").mkdir()
    private = {"TMPDIR": str(tmp_path / "private")}
    code, payload, _ = await run("--code", str(tmp_path / "code.zip"), "--env", "STAGE=zip", *event, **private)
    assert (code, payload["STAGE"]) == (0, "zip")
    assert os.listdir(private["TMPDIR"]) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--resource", "Orders"], "--resource and --parameter are about a template: --template FILE."),
        (["--template", "/nowhere.yaml"], "The template /nowhere.yaml cannot be read: no such file or directory."),
        (["--code", __file__], "cannot be unzipped: File is not a zip file."),
        (["--name", "a b"], "The function's name 'a b' is not 1 to 64 letters"),
        (["--version", "prod"], "The version 'prod' is neither $LATEST nor the number"),
        (["--region", "here"], "The region 'here' is not of the form us-east-1."),
        (["--account", "1"], "The account id '1' is not twelve digits."),
        (
            ["--env", "AWS_REGION=x"],
            "The variable AWS_REGION is reserved: Lambda sets it itself; set the region instead.",
        ),
        (["--parameter", "Stage"], "--parameter"),
        (["--function", "nothing.handler", "--serve", "0"], "The handler 'nothing.handler' needs nothing.py"),
        (["--layer", "/nowhere.zip", "--serve", "0"], "The layer /nowhere.zip is neither a directory nor a file."),
        (["--port-variable", "_X", "--serve", "0"], "The variable '_X' has a name that Lambda does not take"),
        (["--count", "3", "--serve", "0"], "--count is about invocations of the command's own"),
    ],
)
@pytest.mark.parametrize("watch", [[], ["--watch"]])
async def test_what_is_asked_wrongly_is_one_sentence_and_code_2(
    arguments: list[str], sentence: str, watch: list[str]
) -> None:
    code, payload, error = await run("--code", str(REPOSITORY / "examples" / "python"), *arguments, *watch)
    assert (code, payload) == (2, None)
    assert error.startswith("Error: ")
    assert sentence in error
    assert error.count("\n") == 1
