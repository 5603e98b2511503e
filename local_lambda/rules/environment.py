"""The environment variables of the processes in an environment. Pure.

No variable of the host is passed on. Only PATH begins with the running interpreter's directory, so that `#!/usr/bin/env
python3` and the function use the same Python.
Source: AWS docs "Using the Lambda Extensions API" and AWS's emulator; docs/fidelity.md, section 1.9.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from local_lambda.settings import Function

_SYSTEM_PATH = "/usr/local/bin:/usr/bin/:/bin:/opt/bin"
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
    function: Function, *, api: str, log_stream: str, log_fd: int | None, opt: Path | None = None
) -> dict[str, str]:
    """Return the variables of the runtime process. `log_fd` is the file descriptor for framed log messages."""
    variables = {
        **_CREDENTIALS,
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        **function.environment,
        "PATH": path(function.environment.get("PATH")),
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
        "AWS_EXECUTION_ENV": _execution_env(function),
        "LAMBDA_TASK_ROOT": str(function.code.resolve()),
        "LAMBDA_RUNTIME_DIR": str(Path(sys.prefix)),
        "_HANDLER": function.handler,
    }
    variables |= _of_layers(function, opt)
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


def _of_layers(function: Function, opt: Path | None) -> dict[str, str]:
    """Return the search paths into layers; the user's own paths come first, as on Lambda."""
    if opt is None:
        return {}
    given = function.environment
    inside = {"PATH": [opt / "bin"], "LD_LIBRARY_PATH": [opt / "lib"]}
    if function.command is None:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        inside["PYTHONPATH"] = [opt / "python", opt / "python" / "lib" / version / "site-packages"]
    before = {**given, "PATH": path(given.get("PATH"))}
    return {
        name: ":".join([*([before[name]] if before.get(name) else []), *map(str, folders)])
        for name, folders in inside.items()
    }


def for_extension(function: Function, *, api: str, opt: Path | None = None) -> dict[str, str]:
    """Return the variables of an extension's process: the runtime's, without those that Lambda withholds."""
    variables = strip(for_runtime(function, api=api, log_stream="", log_fd=None, opt=opt))
    if "PYTHONPATH" not in function.environment:
        variables.pop("PYTHONPATH", None)  # set by us for the function alone
    return variables


def strip(variables: Mapping[str, str]) -> dict[str, str]:
    """Return `variables` without those that extensions do not get: a fixed list, and all with a leading underscore."""
    return {name: value for name, value in variables.items() if name[:1] != "_" and name not in NOT_FOR_EXTENSIONS}


def _execution_env(function: Function) -> str:
    """Return `AWS_EXECUTION_ENV`: the running Python version with awslambdaric, else that of an OS-only runtime."""
    if function.command is not None:
        return "AWS_Lambda_provided.al2023"
    return f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}"


def runtime_version(function: Function) -> str:
    """Return the `runtimeVersion` of `platform.initStart`, in the form of the managed runtimes."""
    if function.command is not None:
        return "provided:al2023.v0"
    return f"python:{sys.version_info.major}.{sys.version_info.minor}.v0"


def path(customers: str | None) -> str:
    """Return PATH: the running interpreter's directory, then the user's PATH or Lambda's."""
    return f"{Path(sys.executable).parent}:{customers or _SYSTEM_PATH}"
