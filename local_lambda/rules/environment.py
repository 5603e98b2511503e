"""The environment variables of the processes in an environment. Pure.

No variable of the host is passed on. PATH is Lambda's; only for an extension that was given as a file of this machine
does it begin with the running interpreter's directory: who develops it has installed there what it needs.
Source: AWS docs "Using the Lambda Extensions API" and AWS's emulator; docs/fidelity.md, section 1.9.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from local_lambda.rules.places import Places
from local_lambda.runtimes import Runtime
from local_lambda.settings import Function

_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin/", "/bin")  # as Lambda has it, with its slash
# Source: AWS docs "Defined runtime environment variables", and AWS's emulator. Nothing listens there here.
_XRAY = {
    "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
    "AWS_XRAY_DAEMON_ADDRESS": "169.254.79.129:2000",
    "_AWS_XRAY_DAEMON_ADDRESS": "169.254.79.129",
    "_AWS_XRAY_DAEMON_PORT": "2000",
}
# Never real credentials. The function's own variables can replace them, for backends that check credentials.
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIALOCALLAMBDA00000",
    "AWS_SECRET_ACCESS_KEY": "local-secret-access-key",
    "AWS_SESSION_TOKEN": "local-session-token",
}
CREDENTIALS_PATH = "/2021-04-23/credentials"
CREDENTIALS_TOKEN = "local-lambda-credentials"  # noqa: S105  not a secret: like the keys above it gives no access
NOT_FOR_EXTENSIONS = frozenset(
    {
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_MAX_CONCURRENCY",
        "AWS_XRAY_CONTEXT_MISSING",
        "AWS_XRAY_DAEMON_ADDRESS",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)


def for_runtime(
    function: Function, runtime: Runtime, places: Places, *, api: str, log_stream: str, log_fd: int | None
) -> dict[str, str]:
    """Return the variables of the runtime process. `log_fd` is the file descriptor for framed log messages."""
    variables = {
        **_CREDENTIALS,
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": _path(places),
        **_XRAY,
        **function.environment,
        **_search_paths(function, runtime, places),
        "AWS_REGION": function.region,
        "AWS_DEFAULT_REGION": function.region,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_RUNTIME_API": api,
        "AWS_LAMBDA_INITIALIZATION_TYPE": function.init_type,
        "AWS_LAMBDA_LOG_FORMAT": "JSON" if function.is_json else "Text",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_EXECUTION_ENV": runtime.execution_env,
        "LAMBDA_TASK_ROOT": str(places.task),
        "LAMBDA_RUNTIME_DIR": str(places.runtime),
        "_HANDLER": function.handler,
    }
    if runtime.language == "python" and not places.are_lambdas:
        # Without layers too: what lies in this machine's own /opt must never be found.
        variables["_LOCAL_LAMBDA_OPT"] = str(places.opt or places.runtime / "opt")
    if function.is_json:
        variables["AWS_LAMBDA_LOG_LEVEL"] = function.application_log_level or "INFO"
    if function.is_managed:
        variables["AWS_LAMBDA_MAX_CONCURRENCY"] = str(function.max_concurrency)
    if function.is_snap_start:
        variables = _without_what_a_snapshot_must_not_hold(variables, api)
    if log_fd is not None:
        variables["_LAMBDA_TELEMETRY_LOG_FD"] = str(log_fd)
    return variables


def _without_what_a_snapshot_must_not_hold(variables: Mapping[str, str], api: str) -> dict[str, str]:
    """Return the variables under SnapStart: a URL for credentials instead of keys, and no log group or stream names."""
    absent = {*_CREDENTIALS, "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"}
    return {name: value for name, value in variables.items() if name not in absent} | {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{api}{CREDENTIALS_PATH}",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": CREDENTIALS_TOKEN,
    }


def credentials(function: Function) -> dict[str, str]:
    """Return the credentials that the URL serves under SnapStart: the user's if the function has some."""
    given = {name: function.environment.get(name, value) for name, value in _CREDENTIALS.items()}
    return {
        "AccessKeyId": given["AWS_ACCESS_KEY_ID"],
        "SecretAccessKey": given["AWS_SECRET_ACCESS_KEY"],
        "Token": given["AWS_SESSION_TOKEN"],
    }


def _path(places: Places) -> str:
    """Return Lambda's PATH."""
    first = [] if places.lang is None else [str(places.lang / "bin")]
    last = [] if places.opt is None else [str(places.opt / "bin")]
    return ":".join([*first, *_SYSTEM_PATH, *last])


def _search_paths(function: Function, runtime: Runtime, places: Places) -> dict[str, str]:
    """Return what a runtime sets for its language.

    A customer's variable replaces it; where layers do not lie at /opt, their directories follow a customer's own, since
    nobody could name them.
    """
    given = function.environment
    found = {name: given.get(name, value) for name, value in runtime.variables(places).items()}
    if places.opt is not None and not places.are_lambdas:
        for name, folder in (("PATH", places.opt / "bin"), ("LD_LIBRARY_PATH", places.opt / "lib")):
            if name in given:
                found[name] = f"{given[name]}:{folder}"
    return found


def for_extension(
    function: Function, runtime: Runtime, places: Places, *, api: str, is_file: bool = False
) -> dict[str, str]:
    """Return the variables of an extension's process: the runtime's, without those that Lambda withholds.

    `is_file`: it was given as a file of this machine, not in a layer.
    """
    variables = strip(for_runtime(function, runtime, places, api=api, log_stream="", log_fd=None))
    for name in ("PYTHONPATH", "NODE_PATH"):
        if name not in function.environment:
            variables.pop(name, None)  # set by us for the function alone
    if is_file:
        variables["PATH"] = f"{Path(sys.executable).parent}:{variables['PATH']}"
    return variables


def strip(variables: Mapping[str, str]) -> dict[str, str]:
    """Return `variables` without those that extensions do not get: a fixed list, and all with a leading underscore."""
    return {name: value for name, value in variables.items() if name[:1] != "_" and name not in NOT_FOR_EXTENSIONS}
