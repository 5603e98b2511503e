"""What Lambda takes as the configuration of a function. Pure.

Source: Lambda API Reference, CreateFunction; AWS docs "Working with Lambda environment variables", "Lambda quotas".
"""

import re
from collections.abc import Mapping

import orjson

from local_lambda.errors import InvalidSetting

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_VERSION = re.compile(r"\$LATEST|[1-9]\d*")
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]+")
_MAX_VARIABLES_BYTES = 4096
# The keys are reserved too, but here a user's own are let through, for functions that shall reach AWS.
_RESERVED = frozenset(
    {
        "AWS_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_MAX_CONCURRENCY",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
    }
)
_OPTION_FOR = {
    "AWS_DEFAULT_REGION": "the region",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "the memory size",
    "AWS_LAMBDA_FUNCTION_NAME": "the function's name",
    "AWS_LAMBDA_FUNCTION_VERSION": "the version",
    "AWS_REGION": "the region",
    "_HANDLER": "the handler",
}


def check_identity(*, name: str, version: str, region: str, account_id: str) -> None:
    """Raise InvalidSetting unless a function can be called so."""
    if not _NAME.fullmatch(name):
        raise InvalidSetting(
            f"The function's name {name!r} is not 1 to 64 letters, digits, hyphens and underscores;"
            " give the name alone, not an ARN."
        )
    if not _VERSION.fullmatch(version):
        raise InvalidSetting(f"The version {version!r} is neither $LATEST nor the number of a published version.")
    if not _REGION.fullmatch(region):
        raise InvalidSetting(f"The region {region!r} is not of the form us-east-1.")
    if not re.fullmatch(r"\d{12}", account_id):
        raise InvalidSetting(f"The account id {account_id!r} is not twelve digits.")


def check_variables(variables: Mapping[str, str]) -> None:
    """Raise InvalidSetting unless a function can be given these variables. No value stands in the error."""
    for name, value in variables.items():
        if name in _RESERVED:
            instead = f"set {_OPTION_FOR[name]} instead" if name in _OPTION_FOR else "leave it out"
            raise InvalidSetting(f"The variable {name} is reserved: Lambda sets it itself; {instead}.")
        if not _VARIABLE.fullmatch(name):
            raise InvalidSetting(
                f"The variable {name!r} has a name that Lambda does not take: a letter first, then at least one more"
                " letter, digit or underscore."
            )
        if "\0" in value:
            raise InvalidSetting(f"The value of the variable {name} has a NUL character, which no variable can hold.")
    # Lambda measures the JSON text, as its own error shows it.
    size = len(orjson.dumps(dict(variables)))
    if size > _MAX_VARIABLES_BYTES:
        longest = max(variables, key=lambda name: len(variables[name]))
        raise InvalidSetting(
            f"The variables are {size} bytes as JSON; Lambda allows {_MAX_VARIABLES_BYTES} in all. The longest is"
            f" {longest}: put it into a file, a parameter or a secret."
        )


def partition_of(region: str) -> str:
    """Return the partition of a region, the second part of an ARN."""
    if region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if region.startswith("us-gov-") else "aws"
