"""What `--page` and `--report` add to a run: what follows its environments, serves the page and writes the file."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local_lambda.errors import EmulatorError, InvalidSetting
from local_lambda.fleet import Fleet
from local_lambda.local_lambda import LocalLambda
from local_lambda.page.destinations import Destination, ReadLedger
from local_lambda.page.recorder import Recorder
from local_lambda.page.report import report
from local_lambda.page.server import PageServer
from local_lambda.results import Invocation


class Show:
    """An async context manager around a run.

    `port` is where the page is served (None: nowhere, 0: any free port), `file` is where the report is written when
    the context is left, however that happens. `event` is what the page offers to invoke with. Entering raises
    AddressInUse, or InvalidSetting if the file cannot be written.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        file: Path | None = None,
        event: Any = None,
        destinations: Sequence[Destination] = (),
        read_ledger: ReadLedger = lambda line: None,
    ) -> None:
        self._recorder = Recorder(destinations, read_ledger=read_ledger)
        self._server = None if port is None else PageServer(self._recorder, port=port, event=event)
        self._file = file

    async def __aenter__(self) -> Self:
        if self._file is not None:
            self._write(self._file)  # what cannot be written is said now, not when all is over
        if self._server is not None:
            await self._server.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._server is not None:
                await self._server.__aexit__(kind, error, trace)
        finally:
            self._recorder.refresh()
            if self._file is not None:
                self._write(self._file)

    @property
    def has_page(self) -> bool:
        return self._server is not None

    @property
    def url(self) -> str:
        """The address of the page. Raises ValueError if there is none."""
        if self._server is None:
            raise ValueError("no page is served")
        return self._server.url

    def act_on(self, fleet: Fleet) -> None:
        """Let the page's buttons act on `fleet` from now on."""
        if self._server is not None:
            self._server.fleet = fleet

    def follow(self, number: int, env: LocalLambda) -> None:
        """Show an environment; called with each new one."""
        self._recorder.follow(number, env)

    def invocation(self, invocation: Invocation) -> None:
        """Show what an invocation answered."""
        self._recorder.answered(invocation)

    def problem(self, error: EmulatorError) -> None:
        """Show what kept an environment from starting."""
        self._recorder.notice(str(error))

    def _write(self, file: Path) -> None:
        try:
            file.write_text(report(self._recorder.tables), encoding="utf-8")
        except OSError as error:
            raise InvalidSetting(f"The report {file} cannot be written: {error.strerror or error}.") from error
