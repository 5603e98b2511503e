"""The runtime for Node.js functions: what a handler may be, what it is given, and what becomes of its output."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from local_lambda import Function, Invocation, LocalLambda, Platform

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node not installed")


async def invoked(
    tmp_path: Path, files: dict[str, str], event: Any = None, **settings: Any
) -> tuple[Invocation, list[Any]]:
    """Invoke a function of these files once; return the result and what it logged."""
    layers = settings.pop("layers", [])
    trace = settings.pop("trace", None)
    for name, text in files.items():
        (tmp_path / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "code" / name).write_text(text)
    function = Function(**{"code": tmp_path / "code", "handler": "index.handler", "timeout_s": 10.0, **settings})
    async with LocalLambda(function, layers=layers, platform=Platform(on_init_failure="retry")) as env:
        result = await env.invoke(event, trace=trace)
        await env.shutdown()
        return result, [one["record"] for one in env.telemetry if one["type"] == "function"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("index.mjs", "export const handler = async (event) => event.n + 1;"),
        ("index.mjs", "export const handler = (event, context, done) => done(null, event.n + 1);"),
        ("index.js", "exports.handler = async (event) => event.n + 1;"),
        ("index.cjs", "exports.handler = (event) => event.n + 1;"),
    ],
)
async def test_a_handler_is_a_function_of_any_kind_of_module(tmp_path: Path, file: str, text: str) -> None:
    result, _ = await invoked(tmp_path, {file: text}, {"n": 1})
    assert (result.function_error, result.json()) == (None, 2)


async def test_a_handler_may_be_deep_and_its_module_in_a_folder(tmp_path: Path) -> None:
    text = "exports.api = { handler: async () => 'deep' };"
    result, _ = await invoked(tmp_path, {"src/index.js": text}, handler="src/index.api.handler")
    assert result.json() == "deep"


async def test_modules_of_a_layer_are_found(tmp_path: Path) -> None:
    package = tmp_path / "layer/nodejs/node_modules/beside"
    package.mkdir(parents=True)
    (package / "index.js").write_text("exports.word = 'from a layer';")
    text = "const { word } = require('beside'); exports.handler = async () => word;"
    result, _ = await invoked(tmp_path, {"index.js": text}, layers=[tmp_path / "layer"])
    assert result.json() == "from a layer"


async def test_the_context_and_the_variables_are_those_of_lambda(tmp_path: Path) -> None:
    text = """
export const handler = async (event, context) => [
  context.functionName, context.memoryLimitInMB, context.invokedFunctionArn, context.awsRequestId,
  context.getRemainingTimeInMillis() > 1000, process.env._X_AMZN_TRACE_ID, process.env.AWS_EXECUTION_ENV.slice(0, 17),
];
"""
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    result, _ = await invoked(tmp_path, {"index.mjs": text}, name="mine", memory_mb=256, trace=trace)
    arn = "arn:aws:lambda:us-east-1:123456789012:function:mine"
    assert result.json() == ["mine", "256", arn, result.request_id, True, trace, "AWS_Lambda_nodejs"]


async def test_a_message_is_one_record_with_its_time_request_and_level(tmp_path: Path) -> None:
    text = """
console.log("loading");
export const handler = async () => {
  console.log("two\\nlines %d", 5, { a: 1 });
  console.warn("careful");
  process.stdout.write("as it is\\n");
};
"""
    result, lines = await invoked(tmp_path, {"index.mjs": text})
    shown = [re.sub(r"^\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", line).replace(result.request_id, "ID") for line in lines]
    assert sorted(shown) == sorted(
        [
            "TIME\tundefined\tINFO\tloading",
            "TIME\tID\tINFO\ttwo\nlines 5 { a: 1 }",
            "TIME\tID\tWARN\tcareful",
            "as it is\n",
        ]
    )


async def test_the_json_format_gives_objects_from_the_level_on(tmp_path: Path) -> None:
    text = """
export const handler = async () => {
  console.debug("not this");
  console.info("this", 1);
  console.error("failed", new TypeError("no"));
};
"""
    settings: dict[str, Any] = {"log_format": "JSON", "application_log_level": "INFO"}
    result, records = await invoked(tmp_path, {"index.mjs": text}, **settings)
    objects = [json.loads(one) if isinstance(one, str) else one for one in records]
    assert [(one["level"], one["requestId"]) for one in objects] == [
        ("INFO", result.request_id),
        ("ERROR", result.request_id),
    ]
    assert objects[0]["message"] == "this 1"
    assert (objects[1]["errorType"], objects[1]["errorMessage"]) == ("TypeError", "no")


async def test_an_error_is_told_to_the_caller_and_in_the_log(tmp_path: Path) -> None:
    text = "export const handler = async () => { throw new RangeError('far'); };"
    result, lines = await invoked(tmp_path, {"index.mjs": text})
    answer = result.json()
    assert (answer["errorType"], answer["errorMessage"], answer["trace"][0]) == ("RangeError", "far", "RangeError: far")
    assert result.error_type == "RangeError"
    assert "\tERROR\tInvoke Error" in lines[-1]


@pytest.mark.parametrize(
    ("text", "error_type"),
    [
        ("setTimeout(() => { throw new Error('late'); }, 1);", "Error"),
        ("Promise.reject(new Error('late'));", "Runtime.UnhandledPromiseRejection"),
    ],
)
async def test_what_nobody_catches_ends_the_runtime(tmp_path: Path, text: str, error_type: str) -> None:
    code = f"export const handler = () => new Promise(() => {{ {text} }});"
    result, _ = await invoked(tmp_path, {"index.mjs": code})
    assert result.function_error == "Unhandled"
    assert result.error_type == error_type


@pytest.mark.parametrize(
    ("files", "handler", "error_type"),
    [
        ({"index.mjs": "import 'nowhere'; export const handler = 1;"}, "index.handler", "Runtime.ImportModuleError"),
        ({"index.mjs": "export const handler = ;"}, "index.handler", "Runtime.UserCodeSyntaxError"),
        ({"index.mjs": "export const other = 1;"}, "index.handler", "Runtime.HandlerNotFound"),
    ],
)
async def test_a_module_that_cannot_be_loaded_is_an_init_error(
    tmp_path: Path, files: dict[str, str], handler: str, error_type: str
) -> None:
    result, lines = await invoked(tmp_path, files, handler=handler)
    assert result.error_type == error_type
    assert any("Uncaught Exception" in line for line in lines)


async def test_a_response_can_be_streamed(tmp_path: Path) -> None:
    text = """
export const handler = awslambda.streamifyResponse(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201 });
  stream.write("one,");
  stream.write("two");
  if (event.fail) throw new Error("in the middle");
  stream.end();
});
"""
    result, _ = await invoked(tmp_path, {"index.mjs": text}, {})
    head, _, body = result.payload.partition(b"\0" * 8)
    assert (json.loads(head), body) == ({"statusCode": 201}, b"one,two")
    failed, _ = await invoked(tmp_path, {"index.mjs": text}, {"fail": True})
    assert failed.payload.endswith(b"one,two")
    assert failed.stream_error is not None


async def test_a_wrapper_may_add_an_option_and_name_another_handler(tmp_path: Path) -> None:
    (tmp_path / "layer").mkdir()
    wrapper = tmp_path / "layer" / "wrapper"
    wrapper.write_text(
        '#!/bin/bash\nexport _HANDLER=other.handler\nargs=("$@")\n'
        'exec "${args[@]:0:$#-1}" --trace-warnings "${args[@]: -1}"\n'
    )
    wrapper.chmod(0o755)
    files = {"index.mjs": "", "other.mjs": "export const handler = async () => process.execArgv;"}
    given = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}
    result, _ = await invoked(tmp_path, files, environment=given, layers=[tmp_path / "layer"])
    assert result.json() == ["--trace-warnings"]


@pytest.mark.parametrize("asked", ["nodejs1.x"])
async def test_another_version_than_was_asked_for_is_said(tmp_path: Path, asked: str) -> None:
    (tmp_path / "index.mjs").write_text("export const handler = async () => 1;")
    env = LocalLambda(Function(code=tmp_path, handler="index.handler", runtime=asked))
    assert env.runtime.note.startswith("The function asks for nodejs1.x and runs under Node.js ")
