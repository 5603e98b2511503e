"""`telemetry-forwarder settings`: print all environment variables by topic, from the table that the code reads."""

import argparse
from collections.abc import Iterable, Sequence

from telemetry_forwarder.variables.reading import BY_NAME, NEEDS
from telemetry_forwarder.variables.table import BUILT_IN_SINKS, Variable

# The topics, each with its variables, in the order in which they are printed. Each variable is in exactly one topic.
TOPICS = {
    "What is sent, and where": (
        "TELEMETRY_FORWARDER_SINKS", "TELEMETRY_FORWARDER_TYPES", "TELEMETRY_FORWARDER_TAGS",
    ),
    "Splunk": (
        "SPLUNK_HEC_URL", "SPLUNK_HEC_TOKEN_SECRET_ARN", "SPLUNK_HEC_TOKEN_SSM_PARAMETER", "SPLUNK_HEC_TOKEN",
        "SPLUNK_INDEX", "SPLUNK_SOURCE", "SPLUNK_SOURCETYPE", "SPLUNK_HOST",
    ),
    "Datadog": (
        "DD_API_KEY_SECRET_ARN", "DD_API_KEY_SSM_PARAMETER", "DD_API_KEY", "DD_SITE", "DD_SERVICE", "DD_ENV",
        "DD_VERSION", "DD_TAGS", "DD_LOGS_CONFIG_LOGS_DD_URL",
    ),
    "CloudWatch Logs": ("CLOUDWATCH_LOG_GROUP", "CLOUDWATCH_LOG_STREAM", "CLOUDWATCH_RETENTION_DAYS"),
    "When records are sent, and what an invocation or INIT waits for": (
        "TELEMETRY_FORWARDER_FLUSH", "TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS", "TELEMETRY_FORWARDER_DEADLINE_MARGIN_MS",
        "TELEMETRY_FORWARDER_INIT_BUDGET_MS", "TELEMETRY_FORWARDER_BUFFERING_TIMEOUT_MS",
        "TELEMETRY_FORWARDER_BUFFERING_MAX_BYTES", "TELEMETRY_FORWARDER_BUFFERING_MAX_ITEMS",
    ),
    "What is kept while a backend is away": (
        "TELEMETRY_FORWARDER_BUFFER_BYTES", "TELEMETRY_FORWARDER_BUFFER_RECORDS", "TELEMETRY_FORWARDER_WHEN_FULL",
        "TELEMETRY_FORWARDER_SPOOL_BYTES", "TELEMETRY_FORWARDER_SPOOL_DIR", "TELEMETRY_FORWARDER_DURABILITY",
        "TELEMETRY_FORWARDER_FAILOVER",
    ),
    "How it is reached, and what it says": (
        "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "AWS_REGION", "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
        "TELEMETRY_FORWARDER_PORT", "TELEMETRY_FORWARDER_LOG_LEVEL", "TELEMETRY_FORWARDER_STRICT",
    ),
    "Parameters and secrets for the function": (
        "TELEMETRY_FORWARDER_SECRETS", "TELEMETRY_FORWARDER_SECRETS_ALLOW", "TELEMETRY_FORWARDER_SECRETS_PREFETCH",
        "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "PARAMETERS_SECRETS_EXTENSION_CACHE_ENABLED",
        "PARAMETERS_SECRETS_EXTENSION_CACHE_SIZE", "PARAMETERS_SECRETS_EXTENSION_MAX_CONNECTIONS",
        "SECRETS_MANAGER_TTL", "SSM_PARAMETER_STORE_TTL", "SECRETS_MANAGER_TIMEOUT_MILLIS",
        "SSM_PARAMETER_STORE_TIMEOUT_MILLIS",
    ),
}  # fmt: skip
HEAD = "| variable | type | default | allowed | meaning |\n| --- | --- | --- | --- | --- |\n"


def settings(arguments: Sequence[str]) -> None:
    """Print all settings as Markdown, with one table for each topic."""
    parser = argparse.ArgumentParser(prog="telemetry-forwarder settings", description=settings.__doc__)
    parser.parse_args(arguments)
    print(markdown(), end="")


def markdown() -> str:
    """Return the settings as Markdown: the variables that each sink needs, then a heading and a table per topic."""
    needs = "\n".join(f"- `{sink}` needs {_needs(sink)}." for sink in BUILT_IN_SINKS)
    topics = (f"### {topic}\n\n{_table(BY_NAME[name] for name in names)}" for topic, names in TOPICS.items())
    return "\n".join((f"{needs}\n", *topics))


def _table(variables: Iterable[Variable]) -> str:
    return HEAD + "".join(f"{_row(variable)}\n" for variable in variables)


def _row(variable: Variable) -> str:
    kind = variable.kind
    cells = (f"`{variable.name}`", kind.label, _default(variable), kind.allowed, variable.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _needs(sink: str) -> str:
    return ", and ".join(" or ".join(f"`{name}`" for name in row) for row in NEEDS[sink])


def _default(variable: Variable) -> str:
    if variable.default in (None, ()):
        return "none"
    if isinstance(variable.default, bool):
        return f"`{str(variable.default).lower()}`"
    if isinstance(variable.default, tuple):
        return f"`{','.join(variable.default)}`"
    return f"`{variable.default}`"
