"""Log-level filtering for the JSON log format. Pure.

Source: AWS docs "Log-level filtering"; docs/fidelity.md, section 6. AWS documents it for CloudWatch Logs. Whether it
also filters the telemetry is not known: `Platform.filter_telemetry`.
"""

from typing import Any

from local_lambda.settings import APPLICATION_LEVELS, SYSTEM_LEVELS, Function

_ALIASES = {"WARNING": "WARN", "CRITICAL": "FATAL"}  # Python's names
_DEBUG_UNLESS_FAILED = ("platform.initRuntimeDone", "platform.runtimeDone", "platform.restoreRuntimeDone")


def passes(function: Function, type_: str, record: Any) -> bool:
    """Whether an event reaches the function's log levels. Lines that are not JSON, and extensions' lines, always do."""
    if not function.is_json or type_ == "extension" or not isinstance(record, dict):
        return True
    if type_ == "function":
        levels, level, wanted = APPLICATION_LEVELS, _application_level(record), function.application_log_level
    else:
        levels, level, wanted = SYSTEM_LEVELS, _system_level(type_, record), function.system_log_level
    return levels.index(level) >= levels.index(wanted or "INFO")


def _application_level(record: dict[str, Any]) -> str:
    """Return the level of a function's record; without a known level it counts as INFO."""
    level = str(record.get("level") or record.get("log_level") or "INFO").upper()
    level = _ALIASES.get(level, level)
    return level if level in APPLICATION_LEVELS else "INFO"


def _system_level(type_: str, record: dict[str, Any]) -> str:
    """Return the level of a platform event."""
    failed = record.get("status") not in (None, "success")
    if type_ == "platform.logsDropped":
        return "WARN"
    if type_ in _DEBUG_UNLESS_FAILED:
        return "WARN" if failed else "DEBUG"
    if type_ == "platform.initReport":
        if failed:
            return "WARN"
        return "DEBUG" if record.get("initializationType") == "on-demand" else "INFO"
    if type_ == "platform.initStart":
        return "INFO" if record.get("runtimeVersion") else "DEBUG"
    return "INFO"
