"""The variables of the processes."""

import sys
from pathlib import Path

import pytest

from local_lambda.rules import environment
from local_lambda.settings import Function


def described(tmp_path: Path, **more: object) -> Function:
    return Function(**{"code": tmp_path, "command": ["true"], **more})  # type: ignore[arg-type]


@pytest.mark.fidelity("1.9-hidden", "1.9-underscore")
def test_extensions_do_not_see_what_is_listed_nor_what_begins_with_an_underscore() -> None:
    kept = {"MINE": "1", "AWS_REGION": "x"}
    hidden = dict.fromkeys([*environment.NOT_FOR_EXTENSIONS, "_HANDLER", "_X_AMZN_TRACE_ID", "_"], "x")
    assert environment.strip(kept | hidden) == kept


def test_nothing_of_the_host_leaks_in(tmp_path: Path) -> None:
    variables = environment.for_extension(described(tmp_path), api="127.0.0.1:1")
    assert not {"HOME", "USER", "VIRTUAL_ENV", "PYTHONPATH"} & set(variables)
    assert variables["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:1"
    assert variables["PATH"].split(":")[0] == str(Path(sys.executable).parent)


def test_a_customer_may_name_other_credentials_and_another_path(tmp_path: Path) -> None:
    mine = {"AWS_ACCESS_KEY_ID": "mine", "PATH": "/mine"}
    variables = environment.for_extension(described(tmp_path, environment=mine), api="127.0.0.1:1")
    assert variables["AWS_ACCESS_KEY_ID"] == "mine"
    assert variables["PATH"].endswith(":/mine")


def test_the_runtime_is_told_of_its_log_descriptor_and_stream(tmp_path: Path) -> None:
    function = described(tmp_path, log_format="JSON", memory_mb=1024)
    variables = environment.for_runtime(function, api="a:1", log_stream="2026/01/01/[$LATEST]x", log_fd=7)
    assert variables["_LAMBDA_TELEMETRY_LOG_FD"] == "7"
    assert variables["AWS_LAMBDA_LOG_STREAM_NAME"] == "2026/01/01/[$LATEST]x"
    assert variables["AWS_LAMBDA_LOG_FORMAT"] == "JSON"
    assert variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "1024"
