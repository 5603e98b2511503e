"""What a telemetry record is here, and the one place where bytes become records."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What is known of the environment that a record comes from; shared by its records. Unknown members are None."""

    function_name: str
    function_version: str | None = None
    function_arn: str | None = None  # unqualified
    region: str | None = None
    account_id: str | None = None
    memory_mb: int | None = None
    instance_id: str | None = None  # also the name of the log stream
    init_type: str | None = None  # on-demand, provisioned-concurrency, snap-start, lambda-managed-instances
    service: str | None = None
    env: str | None = None
    version: str | None = None  # of the user's application
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One telemetry item with what is known about it. Immutable: every sink holds the same object.

    `body` is the item's `record` member as it came (text, or any JSON value), with one trailing newline removed
    from text. `fields` is the JSON object that `body` is, or that its text holds (a JSON log line under the text
    format arrives as text); None where it is neither. `size_bytes` is its share of the body it came in.
    """

    id: str  # the same in every retry and in every sink
    time_ms: int  # since the epoch, UTC
    type: str  # "function", "extension", "platform.report", …
    body: Any
    fields: Mapping[str, Any] | None
    origin: Origin
    request_id: str | None
    cold_start: bool | None  # None where it cannot be known
    level: str | None  # debug, info, warn, error, critical; None where the record names none
    size_bytes: int

    @property
    def is_platform(self) -> bool:
        return self.type.startswith("platform.")
