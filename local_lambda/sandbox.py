"""The state of one execution environment, which its APIs and the phases of its lifecycle share."""

import asyncio
import signal
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from local_lambda.machine.executables import flaw_of
from local_lambda.machine.file_system import FileSystem
from local_lambda.machine.limits import Limits
from local_lambda.machine.processes import Launcher, OnMessage, Process
from local_lambda.results import Shutdown
from local_lambda.rules import environment
from local_lambda.rules import telemetry_events as events
from local_lambda.rules.extensions import Extensions
from local_lambda.rules.runtime import Runtime as RuntimeState
from local_lambda.runtimes import Runtime
from local_lambda.settings import Function, Platform
from local_lambda.telemetry.telemetry import Telemetry
from local_lambda.transcript import Exit, Period, Transcript
from local_lambda.watch import Condition, Watch

# Go's runtime uses these words, and Lambda's core is written in Go.
_SIGNALS = {int(signal.SIGABRT): "aborted", int(signal.SIGSEGV): "segmentation fault"}


@dataclass(frozen=True, slots=True)
class Fault:
    """The first failure that broke the environment: Lambda's name for it, and the message that callers read."""

    error_type: str
    message: str
    by: str  # the extension's name, or "runtime"


class Broken(Exception):
    """Raised when the environment broke during a wait."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Sandbox:
    """The state of one environment. It needs no locks, because everything runs on one event loop."""

    def __init__(
        self,
        function: Function,
        platform: Platform,
        executables: Sequence[Path],
        *,
        tasks: asyncio.TaskGroup,
        telemetry: Telemetry,
        transcript: Transcript,
        watch: Watch,
        limits: Limits,
        runtime: Runtime,
        files: FileSystem,
    ) -> None:
        self.function = function
        self.platform = platform
        self.executables = {path.name: path for path in executables}
        self.runtime_kind = runtime
        self.files = files
        self.limits = limits
        self.api = ""  # host:port; set once the server listens
        self.telemetry = telemetry
        self.transcript = transcript
        self.watch = watch
        self.instance_id = _log_stream_name(function.version)
        self.launcher = Launcher(max_line_bytes=platform.max_line_bytes)
        self.output: dict[str, list[str]] = {name: [] for name in self.executables}
        self.resets: list[Shutdown] = []  # the shutdowns of generations that ended during an invocation
        self.is_up = False  # the init has finished and its processes run
        self.is_frozen = False
        self.is_ending = False
        self.unreported_init_ms: float | None = None  # duration of a successful init that is not in a report yet
        self.repair = asyncio.Lock()  # only one of several invocations replaces a broken environment
        self._tasks = tasks
        self._freeze: Period | None = None  # the one that lasts
        self.renew()

    def renew(self) -> None:
        """Forget the processes of the last generation. The log stream, the subscriptions and /tmp are kept."""
        self.extensions = Extensions(self.executables, managed=self.function.is_managed)
        self.runtime = RuntimeState(concurrent=self.function.is_managed)
        self.processes: dict[str, Process] = {}
        self.runtime_process: Process | None = None
        self.fault: Fault | None = None
        self.is_up = self.is_ending = self.is_frozen = False

    # Waiting

    async def until(self, condition: Condition) -> None:
        """Wait for `condition`. Raises Broken if the environment breaks first."""
        await self.watch.until(lambda: self.fault is not None or condition())
        if self.fault is not None:
            raise Broken(self.fault)

    def break_(self, error_type: str, message: str, by: str) -> None:
        """Record what broke the environment. Only the first failure counts, and none during a shutdown."""
        if self.fault is None and not self.is_ending:
            self.fault = Fault(error_type, message, by)
        self.watch.notify()

    # Processes

    async def launch_extension(self, name: str) -> None:
        """Start an extension. If it exits outside a shutdown, the environment breaks."""
        extension = self.extensions[name]
        path = self.files.extension(name)
        try:
            process = await self.launcher.start(
                name,
                [str(path)],
                cwd=Path("/"),  # Lambda documents none; with / a wrong relative path fails
                variables=lambda _: {
                    **environment.for_extension(
                        self.function,
                        self.runtime_kind,
                        self.files.places,
                        api=self.api,
                        is_file=self.files.is_file(name),
                    ),
                    **self.platform.extension_variables,
                },
                on_message=self._on_extension_line(name),
            )
        except OSError as error:
            # Source: AWS's emulator, MapErrorToAgentInfoErrorType: this goes into platform.extension and the log.
            extension.launch_failed("PermissionDenied" if isinstance(error, PermissionError) else "UnknownError")
            why = self.flaw_of(name) or f"{error.strerror or error}."
            self.break_("Extension.LaunchError", f"{path} cannot be executed: {why}", name)
            return
        self.limits.admit(process)
        self.processes[name] = process
        self._tasks.create_task(process.wait(self._on_extension_exit))
        self.watch.notify()

    def flaw_of(self, name: str) -> str:
        """Return what keeps an extension's file from being executed, as the rest of a sentence; "" if nothing does."""
        return flaw_of(self.executables[name], opt=self.files.opt)

    async def launch_runtime(self) -> None:
        """Start the runtime, with a file descriptor for framed log messages."""
        argv = self.runtime_kind.argv(self.function, self.files.places)
        try:
            process = await self.launcher.start(
                "runtime",
                argv,
                cwd=self.files.places.task,
                variables=lambda log_fd: environment.for_runtime(
                    self.function,
                    self.runtime_kind,
                    self.files.places,
                    api=self.api,
                    log_stream=self.instance_id,
                    log_fd=log_fd,
                ),
                on_message=lambda text, at: self._on_line("function", text, at),
                framed=True,
            )
        except OSError as error:
            why = flaw_of(self.files.here(argv[0]), opt=self.files.opt) or f"{error.strerror or error}."
            self.break_("Runtime.InvalidEntrypoint", f"{argv[0]} cannot be executed: {why}", "runtime")
            return
        self.limits.admit(process)
        self.runtime_process = process
        self._tasks.create_task(process.wait(self._on_runtime_exit))
        self.watch.notify()

    def all_processes(self) -> list[Process]:
        own = [] if self.runtime_process is None else [self.runtime_process]
        return [*own, *self.processes.values()]

    @property
    def freezes(self) -> bool:
        """Whether the environment is frozen between invocations; never on Managed Instances."""
        return self.platform.freeze and not self.function.is_managed

    def freeze(self) -> None:
        """Pause the platform's telemetry sender and stop every process."""
        if self.is_frozen or not self.freezes:
            return
        self.is_frozen = True
        self.telemetry.pause()
        self.limits.freeze(self.all_processes())
        self._freeze = self.transcript.begin("frozen")
        self.watch.notify()

    def thaw(self) -> None:
        self.is_frozen = False
        self._end_freeze()
        self.limits.thaw(self.all_processes())
        self.telemetry.resume()
        self.watch.notify()

    def _end_freeze(self) -> None:
        if self._freeze is not None:
            self._freeze.ended, self._freeze = time.time(), None

    def kill(self) -> None:
        """Kill every running process at once."""
        self.is_ending = True
        self._end_freeze()
        for process in self.all_processes():
            process.kill()
        self.limits.thaw([])  # a frozen group dies only after it is thawed

    def memory_mb(self) -> int:
        """Return the peak memory of all processes together, in MB."""
        return self.limits.memory_mb(self.all_processes())

    # Output and exits

    def _on_line(self, stream: str, text: bytes, at: float | None) -> None:
        self.telemetry.publish(events.line(stream, text, is_json=self.function.is_json, at=at))

    def _on_extension_line(self, name: str) -> OnMessage:
        def on_message(text: bytes, at: float | None) -> None:
            self.output[name].append(text.decode("utf-8", "replace"))
            self._on_line("extension", text, at)

        return on_message

    def _on_extension_exit(self, process: Process, code: int) -> None:
        # An exit may be noticed after `renew`: a process of an earlier generation no longer counts.
        if self.processes.get(process.name) is not process:
            return
        extension = self.extensions[process.name]
        self.transcript.exits.append(
            Exit(
                name=extension.name,
                code=code,
                at=time.time(),
                generation=self.transcript.generation,
                killed=process.killed,
                in_shutdown=self.is_ending,
            )
        )
        extension.exited(code, in_shutdown=self.is_ending)
        # Source: captures. Code 0 reads "exit code 0", any other "exit status N".
        self.break_(
            extension.error_type or "Extension.Crash",
            f"exit code {code}" if code == 0 else _exit_words(code),
            extension.name,
        )

    def _on_runtime_exit(self, process: Process, code: int) -> None:
        if process is not self.runtime_process:
            return
        if self.runtime.init_error is not None or self.runtime.restore_error is not None:
            self.watch.notify()
            return
        error_type = self._oom_error_type() if self.limits.was_out_of_memory() else "Runtime.ExitError"
        self.break_(error_type, f"Runtime exited with error: {_exit_words(code)}", "runtime")

    def _oom_error_type(self) -> str:
        return "Runtime.OutOfMemory" if self.function.is_managed else self.platform.oom_error_type

    def any_running(self) -> bool:
        return any(process.is_running for process in self.all_processes())


def _exit_words(code: int) -> str:
    """Return how a process ended, in Lambda's words."""
    if code >= 0:
        return f"exit status {code}"
    return f"signal: {_SIGNALS.get(-code) or (signal.strsignal(-code) or str(-code)).lower()}"


def _log_stream_name(version: str) -> str:
    """Return a new log stream name, which is also the environment's id."""
    return f"{datetime.fromtimestamp(time.time(), UTC):%Y/%m/%d}/[{version}]{uuid.uuid4().hex}"
