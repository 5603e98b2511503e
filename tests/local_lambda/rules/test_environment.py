"""The variables of the processes."""

import sys
from pathlib import Path

import pytest

from local_lambda.rules import environment
from local_lambda.rules.places import Places, of_lambda
from local_lambda.runtimes import Runtime
from local_lambda.settings import Function


def described(tmp_path: Path, **more: object) -> Function:
    return Function(**{"code": tmp_path, "command": ["true"], **more})  # type: ignore[arg-type]


@pytest.mark.fidelity("1.9-hidden", "1.9-underscore")
def test_extensions_do_not_see_what_is_listed_nor_what_begins_with_an_underscore() -> None:
    kept = {"MINE": "1", "AWS_REGION": "x"}
    hidden = dict.fromkeys([*environment.NOT_FOR_EXTENSIONS, "_HANDLER", "_X_AMZN_TRACE_ID", "_"], "x")
    assert environment.strip(kept | hidden) == kept


PROVIDED = Runtime(identifier="provided.al2023")
PYTHON = Runtime(identifier="python3.13", program="bin/python3.13")
LAMBDAS = of_lambda("127.1.2.3")


def shared(task: Path, opt: Path | None = None) -> Places:
    return Places(task=task, opt=opt, runtime=Path("/r"), lang=None, address="127.0.0.2")


def test_nothing_of_the_host_leaks_in(tmp_path: Path) -> None:
    variables = environment.for_extension(described(tmp_path), PROVIDED, shared(tmp_path), api="127.0.0.1:1")
    assert not {"HOME", "USER", "VIRTUAL_ENV", "PYTHONPATH", "LD_LIBRARY_PATH"} & set(variables)
    assert variables["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:1"
    assert variables["PATH"] == "/usr/local/bin:/usr/bin/:/bin"


def test_an_extension_that_is_a_file_of_this_machine_is_run_by_this_python(tmp_path: Path) -> None:
    variables = environment.for_extension(described(tmp_path), PROVIDED, LAMBDAS, api="a:1", is_file=True)
    assert variables["PATH"].split(":")[0] == str(Path(sys.executable).parent)


@pytest.mark.fidelity("1.9-paths")
def test_where_the_file_system_is_lambdas_so_are_the_search_paths(tmp_path: Path) -> None:
    function = described(tmp_path)
    runtime = environment.for_runtime(function, PYTHON, LAMBDAS, api="a:1", log_stream="x", log_fd=3)
    extension = environment.for_extension(function, PYTHON, LAMBDAS, api="a:1")
    libraries = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
    for variables in (runtime, extension):
        assert variables["PATH"] == "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
        assert variables["LD_LIBRARY_PATH"] == libraries
    assert (runtime["LAMBDA_TASK_ROOT"], runtime["LAMBDA_RUNTIME_DIR"]) == ("/var/task", "/var/runtime")
    assert (runtime["PYTHONPATH"], "PYTHONPATH" in extension) == ("/var/runtime", False)
    assert runtime["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"


def test_node_looks_for_modules_in_layers() -> None:
    node = Runtime(identifier="nodejs22.x", program="bin/node")
    assert node.variables(LAMBDAS)["NODE_PATH"] == (
        "/opt/nodejs/node22/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules"
    )


def test_a_customer_may_name_other_credentials_and_another_path(tmp_path: Path) -> None:
    mine = {"AWS_ACCESS_KEY_ID": "mine", "PATH": "/mine"}
    function = described(tmp_path, environment=mine)
    variables = environment.for_extension(function, PROVIDED, LAMBDAS, api="127.0.0.1:1")
    assert variables["AWS_ACCESS_KEY_ID"] == "mine"
    assert variables["PATH"] == "/mine"
    elsewhere = environment.for_extension(function, PROVIDED, shared(tmp_path, Path("/layers")), api="127.0.0.1:1")
    assert elsewhere["PATH"] == "/mine:/layers/bin", "who wrote /opt/bin means this"


def test_the_runtime_is_told_of_its_log_descriptor_and_stream(tmp_path: Path) -> None:
    function = described(tmp_path, log_format="JSON", memory_mb=1024)
    stream = "2026/01/01/[$LATEST]x"
    variables = environment.for_runtime(function, PYTHON, LAMBDAS, api="a:1", log_stream=stream, log_fd=7)
    assert variables["_LAMBDA_TELEMETRY_LOG_FD"] == "7"
    assert variables["AWS_LAMBDA_LOG_STREAM_NAME"] == stream
    assert variables["AWS_LAMBDA_LOG_FORMAT"] == "JSON"
    assert variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "1024"
