"""Ask Lambda for the first event while the rest of the extension is still loading.

The caller of a cold function waits for INIT, and INIT waits until every extension has asked for its first event. So
after `TELEMETRY_FORWARDER_INIT_BUDGET_MS` of INIT a timer's signal asks for the first event, between two byte codes of
the running import. The answer waits in its socket until asyncio takes it over, and telemetry waits in the kernel until
it is served.

If records are to leave at the end of an invocation, one that arrives meanwhile is held like any other. It is held no
longer than others may be, nor into the function's own timeout. After that the next event is asked for, and the records
leave later. The invocation's end is not seen here, so the hold counts from its start.

Like `bootstrap`, this imports nothing that takes time.
"""

import _signal  # type: ignore[import-not-found]  # typeshed leaves it out
import _socket
from time import monotonic, time

from telemetry_forwarder.variables import reading
from telemetry_forwarder.variables.table import SNAP_START

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# The seconds between attempts to ask for one event. The first attempt may meet a connection that a freeze has killed.
# Giving up means to crash the function, so the attempts last as long as a passing failure may.
PAUSES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 1.0, 2.0, 2.0, 3.0)

NEXT = "/2020-01-01/extension/event/next"

# How long INIT waits by default; docs/performance.md has the measurements. INIT has two processors whatever the size,
# so a ms of CPU that loading takes there is a ms that is billed, and that the caller waits for. Behind INIT it takes
# 1769 MB divided by the function's memory: the first invocation is held and billed for that, though in its first 28 ms
# it would be held for telemetry anyway. All in all the two ways cost the same with two fifths of a processor. With
# less, everything is loaded in INIT, if it takes no longer than WHOLE_BUDGET_MS. Otherwise the environment might also
# end before everything is loaded, and with it the output of a function that crashes in its first invocation.
#
# Two kinds of functions wait that long whatever their size. If secrets are served, the handler waits for the first of
# them, so for the loading. If INIT comes ahead of any invocation, nobody waits for it.
_TWO_FIFTHS_OF_A_PROCESSOR_MB = 708
WHOLE_BUDGET_MS = 300
SHORT_BUDGET_MS = 10
_AHEAD = ("provisioned-concurrency", SNAP_START)

# How often to check whether an invocation has come, while loading continues after INIT.
TICK_S = 0.01


def budget_ms(values: reading.Values) -> int:
    """Return how many ms after registration INIT may wait for the first `/event/next`: as set, else by size and use."""
    given: int | None = values["TELEMETRY_FORWARDER_INIT_BUDGET_MS"]
    if given is not None:
        return given
    memory_mb: int | None = values["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
    is_whole = (
        (memory_mb is not None and memory_mb < _TWO_FIFTHS_OF_A_PROCESSOR_MB)
        or values["TELEMETRY_FORWARDER_SECRETS"] != "off"
        or values.given("AWS_LAMBDA_INITIALIZATION_TYPE") in _AHEAD
    )
    return WHOLE_BUDGET_MS if is_whole else SHORT_BUDGET_MS


class Early:
    """The first `/event/next` of the extension `identifier`, asked for in time.

    `send(runtime_api, method, path, head, body)` sends a request and returns its connection. `hold_s` is how long an
    invocation that arrives meanwhile is held at most. `given_up` is the answer with the last invocation that was let
    go.
    """

    def __init__(
        self, runtime_api: str, identifier: str, values: reading.Values, send: "Callable[..., _socket.socket]"
    ) -> None:
        self._runtime_api = runtime_api
        self._send = send
        self._head = f"Lambda-Extension-Identifier: {identifier}\r\n"
        holds = values["TELEMETRY_FORWARDER_FLUSH"][0] in reading.HOLDING
        self.hold_s = values["TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS"] / 1000 if holds else 0.0
        self._margin_s = values["TELEMETRY_FORWARDER_DEADLINE_MARGIN_MS"] / 1000
        self._asked: _socket.socket | None = None
        self._answered = b""  # what was read of the answer so far
        self.given_up = b""
        self._give_up_at: float | None = None
        self._is_over = False

    def start(self, budget_s: float) -> None:
        """Start the timer that asks for the first event in `budget_s` seconds, unless `hand_over` is called before."""
        _signal.signal(_signal.SIGALRM, self._on_alarm)
        _signal.setitimer(_signal.ITIMER_REAL, max(0.0001, budget_s))

    @property
    def has_asked(self) -> bool:
        """Whether the first event was asked for, so that INIT no longer waits."""
        return self._asked is not None

    def hand_over(self) -> "tuple[_socket.socket, bytes] | None":
        """Stop, and return the connection on which the next event was asked for, with what was read of the answer.

        Return None if no event was asked for yet. From now on the caller asks. A second call returns None.
        """
        self._is_over = True  # the timer does nothing from now on
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        asked, self._asked = self._asked, None
        return None if asked is None else (asked, self._answered)

    def _on_alarm(self, signal: int, frame: object) -> None:
        if self._is_over:
            return
        try:
            if self._asked is None:
                self._ask()
                goes_on = True
            else:
                goes_on = self._look(self._asked)
        except (OSError, ValueError):  # the next owner will meet the error again, and can report it
            return
        # Started again each time instead of as an interval, because a second signal could interrupt this function.
        if goes_on:
            _signal.setitimer(_signal.ITIMER_REAL, TICK_S)

    def _ask(self) -> None:
        asked = self._send(self._runtime_api, "GET", NEXT, self._head, "")
        asked.setblocking(False)
        self._asked, self._answered, self._give_up_at = asked, b"", None

    def _look(self, asked: _socket.socket) -> bool:
        """Read what has come, and give an invocation up after its hold. Return whether to check again.

        An answer may come in any number of packets, so it is read further until somebody else takes over.
        """
        if self._give_up_at is None:
            goes_on = self._read(asked)
            self._give_up_at = self._held_until()
            # Closed, or SHUTDOWN: no time must be lost with checks.
            return self._give_up_at is not None or (goes_on and b'"SHUTDOWN"' not in self._answered)
        try:
            self._read(asked)
        except OSError:  # enough of the invocation is known to end its hold
            self._give_up_at = min(self._give_up_at, monotonic())
        if monotonic() >= self._give_up_at:
            self.given_up = self._answered
            asked.close()
            self._ask()
        return True

    def _read(self, asked: _socket.socket) -> bool:
        """Read what has come of the answer. Return False if no more will come. Raises OSError."""
        try:
            news = asked.recv(65536)
        except BlockingIOError:
            return True
        self._answered += news
        return bool(news)

    def _held_until(self) -> "float | None":
        """Return the end of the hold on the monotonic clock; None if no invocation is known yet."""
        deadline_ms = number_after(self._answered, b'"deadlineMs":')
        if deadline_ms is None or b'"INVOKE"' not in self._answered:
            return None
        left_s: float = deadline_ms / 1000 - time() - self._margin_s
        return monotonic() + max(0.0, min(self.hold_s, left_s))


def number_after(text: bytes, name: bytes) -> "int | None":
    """Return the whole number that follows `name` in `text`; None if there is none, or if more digits may follow."""
    rest = text.partition(name)[2].lstrip()
    digits = len(rest) - len(rest.lstrip(b"0123456789"))
    return int(rest[:digits]) if 0 < digits < len(rest) and digits < 20 else None
