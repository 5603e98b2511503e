"""The variables of the secrets endpoint, a part of the table."""

from telemetry_forwarder.variables.types import Flag, Integer, OneOf, SecretNames
from telemetry_forwarder.variables.variable import Variable

SECRETS = (
    Variable(
        "TELEMETRY_FORWARDER_SECRETS", OneOf("off", "token", "open"), "off",
        "Whether functions may ask for parameters and secrets on localhost, with a token or without",
    ),
    Variable(
        "TELEMETRY_FORWARDER_SECRETS_ALLOW", SecretNames(wild="anywhere"), None,
        "What may be asked for; unset: whatever the function's role may read; unsound: nothing", "secrets",
    ),
    Variable(
        "TELEMETRY_FORWARDER_SECRETS_PREFETCH", SecretNames(wild="path"), (),
        "What is fetched during INIT, before anybody asks", "secrets",
    ),
    # The names are those of AWS's own extension, so that a function can switch from it and keep its variables.
    # Source: Systems Manager User Guide, "Using Parameter Store parameters in AWS Lambda functions", and Secrets
    # Manager User Guide, "Use AWS Secrets Manager secrets in AWS Lambda functions"; read 2026-11-23. AWS's
    # extension limits the TTL to 300 s and the size to 1000.
    Variable(
        "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", Integer(1, 65535, {9001: "the Lambda Runtime API"}), 2773,
        "Port of the secrets endpoint", "secrets",
    ),
    Variable(
        "PARAMETERS_SECRETS_EXTENSION_CACHE_ENABLED", Flag(), True,
        "`false`: every question goes to the service", "secrets",
    ),
    Variable(
        "PARAMETERS_SECRETS_EXTENSION_CACHE_SIZE", Integer(0, 100_000), 1000,
        "Parameters and secrets that are kept; 0: none", "secrets",
    ),
    Variable(
        "PARAMETERS_SECRETS_EXTENSION_MAX_CONNECTIONS", Integer(1, 1000), 3,
        "Connections to each of the two services", "secrets",
    ),
    Variable(
        "SECRETS_MANAGER_TTL", Integer(0, 99_999_999_999), 300,
        "Seconds for which a secret is kept; 0: not at all", "secrets",
    ),
    Variable(
        "SSM_PARAMETER_STORE_TTL", Integer(0, 99_999_999_999), 300,
        "Seconds for which a parameter is kept; 0: not at all", "secrets",
    ),
    Variable(
        "SECRETS_MANAGER_TIMEOUT_MILLIS", Integer(0, 900_000), 0,
        "Longest time, in ms, that a question waits for Secrets Manager; 0: 10000", "secrets",
    ),
    Variable(
        "SSM_PARAMETER_STORE_TIMEOUT_MILLIS", Integer(0, 900_000), 0,
        "Longest time, in ms, that a question waits for Parameter Store; 0: 10000", "secrets",
    ),
)  # fmt: skip
