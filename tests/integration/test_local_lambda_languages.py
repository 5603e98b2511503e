"""Extensions and functions in other languages run unmodified: examples/extensions and examples/functions."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from local_lambda import Function, LocalLambda

EXAMPLES = Path(__file__).parents[2] / "examples"
EXTENSIONS = EXAMPLES / "extensions"


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


@pytest.fixture(scope="session")
def go_extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the Go example without network."""
    built = tmp_path_factory.mktemp("go") / "go-extension"
    variables = os.environ | {"GOPROXY": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "", "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-o", built, "."], cwd=EXTENSIONS / "go", env=variables, check=True, timeout=110)
    return built


def node_function() -> Function:
    folder = EXAMPLES / "functions/nodejs"
    return Function(code=folder, handler="index.handler", timeout_s=10)


def shell_function() -> Function:
    folder = EXAMPLES / "functions/shell"
    return Function(code=folder, handler="function.handler", timeout_s=10)


@pytest.fixture(
    params=[
        pytest.param("nodejs/nodejs-extension", marks=needs("node"), id="nodejs"),
        pytest.param("shell/shell-extension", marks=needs("curl"), id="shell"),
        pytest.param("go", marks=needs("go"), id="go"),
    ]
)
def extension(request: pytest.FixtureRequest) -> Path:
    if request.param == "go":
        built: Path = request.getfixturevalue("go_extension")
        return built
    return EXTENSIONS / str(request.param)


@pytest.mark.parametrize(
    "function", [pytest.param(node_function, marks=needs("node")), pytest.param(shell_function, marks=needs("curl"))]
)
async def test_an_extension_in_another_language_lives_its_whole_life(
    function: Callable[[], Function], extension: Path
) -> None:
    name = extension.name
    async with LocalLambda(function(), [extension]) as env:
        results = [await env.invoke({"n": number}) for number in range(3)]
        ended = await env.shutdown()
    assert [result.json()["echo"] for result in results] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert all(held_ms is not None for result in results for held_ms in result.held_ms.values())
    assert (ended.extensions[name].exit_code, ended.extensions[name].received_shutdown) == (0, True)
    env.transcript.assert_next_once_per_invocation(name)
    output = env.extension_output(name)
    assert [line.strip() for line in output if "invoked" in line] == [
        f"{name}: invoked {result.request_id}" for result in results
    ]
    assert f"{name}: spindown" in output[-1]
    if name != "shell-extension":  # it has no server
        assert '"platform.runtimeDone":3' in output[-1]
        assert '"platform.report":3' in output[-1]
        assert '"function":3' in output[-1]


@needs("node")
async def test_an_error_that_a_node_function_throws_is_its_answer() -> None:
    async with LocalLambda(node_function()) as env:
        failed = await env.invoke({"fail": True})
        well = await env.invoke({})
    assert (failed.function_error, failed.error_type, failed.status) == ("Unhandled", "TypeError", "success")
    assert well.json()["node"].startswith("v")
