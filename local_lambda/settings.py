"""The settings of the local Lambda: the function to run, and how the platform behaves."""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from local_lambda.errors import FunctionNotFound, InvalidSetting
from local_lambda.rules.configuration import check_identity, check_variables, partition_of

_LogFormat = Literal["Text", "JSON"]
_InitType = Literal["on-demand", "provisioned-concurrency", "snap-start", "lambda-managed-instances"]
_OnInitFailure = Literal["raise", "retry"]
SchemaReading = Literal["captured", "documented"]
_TcpConnect = Literal["subscribe", "first-batch"]
_FileSystem = Literal["auto", "own", "shared"]
_FreezeWith = Literal["auto", "cgroup", "signal"]
_Enforce = Literal["auto", "cgroup", "off"]
_OomErrorType = Literal["Runtime.ExitError", "Runtime.OutOfMemory"]

APPLICATION_LEVELS: Sequence[str] = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")  # from low to high
SYSTEM_LEVELS: Sequence[str] = ("DEBUG", "INFO", "WARN")
SCHEMAS = ("2022-07-01", "2022-12-13", "2025-01-29")
MANAGED_SCHEMAS = ("2025-01-29",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A Lambda function, with the same settings as its configuration in AWS.

    `code` is the directory that stands for /var/task. `runtime` is an identifier such as python3.13, nodejs22.x or
    provided.al2023; without one it follows from the files: a `bootstrap`, or that of the handler. `command` is any
    other program that speaks the Runtime API. `python` is the interpreter of a Python function, by default that of this
    tool; of the tool's own packages the function sees none, but boto3 with `boto3`. `ephemeral_mb` is the size of /tmp.
    `environment` holds the user's variables, which the function and the extensions both see. The log levels need the
    log format JSON (None means INFO). On Managed Instances the runtime may serve `max_concurrency` invocations at once;
    awslambdaric starts one worker for each.
    Raises InvalidSetting or FunctionNotFound.
    """

    code: Path
    handler: str = "app.handler"
    runtime: str | None = None
    command: Sequence[str] | None = None
    python: Path | None = None
    boto3: bool = False
    name: str = "local-function"
    version: str = "$LATEST"
    memory_mb: int = 512
    ephemeral_mb: int = 512
    timeout_s: float = 3.0
    region: str = "us-east-1"
    account_id: str = "123456789012"
    environment: Mapping[str, str] = field(default_factory=dict)
    log_format: _LogFormat = "Text"
    application_log_level: str | None = None
    system_log_level: str | None = None
    init_type: _InitType = "on-demand"
    max_concurrency: int = 8

    def __post_init__(self) -> None:
        # Source: Lambda quotas (memory 128-10240 MB, /tmp 512-10240 MB, timeout up to 900 s).
        if not 128 <= self.memory_mb <= 10240:
            raise InvalidSetting(f"Memory is {self.memory_mb} MB; Lambda allows 128 to 10240.")
        if not 512 <= self.ephemeral_mb <= 10240:
            raise InvalidSetting(f"Ephemeral storage is {self.ephemeral_mb} MB; Lambda allows 512 to 10240.")
        if not 0 < self.timeout_s <= 900:
            raise InvalidSetting(f"The timeout is {self.timeout_s} s; Lambda allows up to 900, and it must be above 0.")
        if self.log_format not in get_args(_LogFormat):
            raise InvalidSetting(f"The log format {self.log_format!r} is none of Text, JSON.")
        if self.init_type not in get_args(_InitType):
            raise InvalidSetting(f"The init type {self.init_type!r} is none of {', '.join(get_args(_InitType))}.")
        if not 1 <= self.max_concurrency <= 1600:
            raise InvalidSetting(f"The concurrency is {self.max_concurrency}; Lambda allows 1 to 1600.")
        self._check_level("application", self.application_log_level, APPLICATION_LEVELS)
        self._check_level("system", self.system_log_level, SYSTEM_LEVELS)
        check_identity(name=self.name, version=self.version, region=self.region, account_id=self.account_id)
        check_variables(self.environment)
        if self.command is not None and not self.command:
            raise InvalidSetting("The function's command is empty.")
        if not self.code.is_dir():
            raise FunctionNotFound(f"The function's code directory {self.code} does not exist.")

    def _check_level(self, kind: str, level: str | None, levels: Sequence[str]) -> None:
        if level is None:
            return
        if level not in levels:
            raise InvalidSetting(f"The {kind} log level {level!r} is none of {', '.join(levels)}.")
        if not self.is_json:
            raise InvalidSetting(f"The {kind} log level {level} needs the log format JSON.")

    @property
    def arn(self) -> str:
        """The function's ARN without a qualifier."""
        return f"arn:{partition_of(self.region)}:lambda:{self.region}:{self.account_id}:function:{self.name}"

    @property
    def is_managed(self) -> bool:
        """Whether the function runs on Lambda Managed Instances."""
        return self.init_type == "lambda-managed-instances"

    @property
    def is_snap_start(self) -> bool:
        """Whether the function starts from a snapshot."""
        return self.init_type == "snap-start"

    @property
    def is_json(self) -> bool:
        """Whether the log format is JSON; on Managed Instances it always is."""
        return self.is_managed or self.log_format == "JSON"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How the platform retries a telemetry batch that was not answered with 2xx. Times are in seconds.

    AWS documents that it retries with backoff, but not how often or how long, so these values are chosen. After
    `attempts` the batch is dropped and counted in `platform.logsDropped`. Time spent frozen does not count.
    """

    first_s: float = 0.05
    factor: float = 2.0
    longest_s: float = 1.0
    attempts: int = 20
    attempt_timeout_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """How the platform behaves. Times are in seconds.

    - `file_system`: "own" gives the environment a mount namespace with Lambda's file system: /opt, /var/task, a private
      /tmp, an /etc/hosts, and all else of this machine to read only; raises LimitsUnavailable where the system does not
      allow it. "shared" leaves it this machine's; "auto": its own if the system allows it.
    - `shared_paths`: what an environment with a file system of its own may read and write at its own place on this
      machine; /tmp among them makes it the machine's.
    - `own_ports`: whether what an environment with a file system of its own binds, at all addresses or at localhost, is
      kept apart from other environments, so that many can have one fixed port. From outside it is then found at
      `LocalLambda.telemetry_host`. A fleet of several environments sets it.
    - `telemetry_host`: the address of `sandbox.localdomain`. It is a loopback address other than 127.0.0.1, so that a
      listener which Lambda could not reach is not reached here either (macOS needs `ifconfig lo0 alias 127.0.0.2`).
      None: one that is the environment's alone, where its /etc/hosts can tell it; else 127.0.0.2.
    - `schemas`: the telemetry schemas accepted; remove one to test an extension's fallback. `schema_reading`: how older
      schemas differ, as "captured" on real Lambda (hardly) or as "documented".
    - `telemetry_supported`: if False, the Telemetry API answers 202, as AWS's emulator does.
    - `tcp_connect`: when to connect to a TCP destination. "subscribe": at once, and if nobody listens the answer is
      400, as with AWS's emulator of Managed Instances; "first-batch": for the first batch.
    - `filter_telemetry`: whether the function's log levels filter the telemetry as they filter CloudWatch Logs.
    - `buffer_bytes`: the limit of the records held for each subscription.
    - `spoil`, a fault for tests: it gets the records of each batch as JSON and returns those to send instead. If it
      returns none, nothing is sent and nobody is told.
    - `extension_variables`, another fault: environment variables for extensions that Lambda does not give them.
    - `on_init_failure`: "raise" raises `InitFailed` from `async with`; "retry" repeats the init once in the first
      invocation, as Lambda does. `fresh_deadline_after_reinit`: whether the function's timeout restarts after such an
      init.
    - `freeze_with`, `memory_limit`, `cpu_quota`: whether to use a control group. "auto": if the system allows it;
      "cgroup": always, or raise LimitsUnavailable; "signal" and "off": never. `LocalLambda.limits` shows the result.
      The CPU quota is off by default, as this machine's processors are not Lambda's.
    - `oom_error_type`: the error type of a runtime that ran out of memory; always Runtime.OutOfMemory on Managed
      Instances.

    AWS does not document these, so they are chosen: `buffer_bytes`, `retry`, `fresh_deadline_after_reinit`,
    `max_line_bytes`, `tcp_connect`, `filter_telemetry`.
    """

    file_system: _FileSystem = "auto"
    shared_paths: Sequence[Path] = ()
    own_ports: bool = False
    telemetry_host: str | None = None
    api_port: int = 0  # 0: any free one
    init_limit_s: float = 10.0
    long_init_limit_s: float = 130.0  # provisioned concurrency, SnapStart, Managed Instances; the timeout if longer
    restore_limit_s: float = 10.0  # SnapStart's hooks after a restore
    shutdown_s: float = 2.0  # with an external extension
    internal_shutdown_s: float = 0.5  # with internal extensions only; 0 without any
    runtime_share_s: float = 0.3  # part of the above; AWS's docs say 0.3, its source code 0.6
    managed_runtime_share_s: float = 0.6  # the same on Managed Instances; only the source code says so
    freeze: bool = True
    freeze_with: _FreezeWith = "auto"
    memory_limit: _Enforce = "auto"
    cpu_quota: _Enforce = "off"
    oom_error_type: _OomErrorType = "Runtime.ExitError"
    on_init_failure: _OnInitFailure = "raise"
    schemas: Sequence[str] = SCHEMAS
    schema_reading: SchemaReading = "captured"
    telemetry_supported: bool = True
    tcp_connect: _TcpConnect = "subscribe"
    filter_telemetry: bool = False
    fresh_deadline_after_reinit: bool = True
    buffer_bytes: int = 8 * 1024 * 1024
    max_line_bytes: int = 256 * 1024
    stream_burst_bytes: int = 6 * 1024 * 1024  # of a streamed response at once, and then a second
    stream_bytes_per_s: int = 2 * 1024 * 1024
    retry: Retry = field(default_factory=Retry)
    spoil: Callable[[Sequence[bytes]], Sequence[bytes]] | None = None
    extension_variables: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file_system not in get_args(_FileSystem):
            raise InvalidSetting(f"The file system {self.file_system!r} is none of {', '.join(get_args(_FileSystem))}.")
        for path in self.shared_paths:
            if not path.is_absolute() or not path.exists():
                raise InvalidSetting(f"The shared path {path} is not an absolute path of something that exists.")
        if self.telemetry_host is not None:
            self._check_host(self.telemetry_host)
        if not 0 <= self.api_port <= 65535:
            raise InvalidSetting(f"The API port {self.api_port} is not between 0 and 65535.")
        if not 0 <= self.runtime_share_s <= self.shutdown_s:
            raise InvalidSetting(
                f"The runtime's share of the shutdown, {self.runtime_share_s} s, is not within {self.shutdown_s} s."
            )
        if self.managed_runtime_share_s < 0:
            raise InvalidSetting("The runtime's share of the shutdown on Managed Instances is below 0.")
        if unknown := set(self.schemas) - set(SCHEMAS):
            raise InvalidSetting(f"Unknown telemetry schema {', '.join(sorted(unknown))}.")

    def _check_host(self, host: str) -> None:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise InvalidSetting(f"The telemetry host {host!r} is not an IP address.") from None
        if not address.is_loopback:
            raise InvalidSetting(f"The telemetry host {host} is not a loopback address.")
