"""What is said to Lambda while the rest of the extension is still loading.

The caller of a cold function waits for INIT, and INIT waits until every extension has asked for its first event. So
when INIT has waited for `TELEMETRY_FORWARDER_INIT_BUDGET_MS`, the first event is asked for, from a timer's signal
between two byte codes of whatever is being imported. The answer waits in its socket until asyncio takes it over, and
telemetry waits in the kernel until it is served.

An invocation that arrives meanwhile is held like any other where records are to leave at its end; but not for longer
than any other may be, nor into the function's own timeout: then the next event is asked for, and the records leave
later. Its end is not seen here, so what it may be held for counts from its beginning.

Like `bootstrap`, this imports nothing that takes time.
"""

import _signal  # type: ignore[import-not-found]  # typeshed leaves it out
import _socket
from time import monotonic, time

from telemetry_forwarder.variables import reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# What lies between attempts to ask for one event, in seconds: the first may be a connection that a freeze has killed.
# To end means to crash the function, so it is asked for as long as something that passes may take.
PAUSES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 1.0, 2.0, 2.0, 3.0)

NEXT = "/2020-01-01/extension/event/next"

# How long INIT waits by default; the measurements behind it are in docs/performance.md. A function of one processor and
# more soon makes up for what is loaded behind its first handler. A smaller one pays for each ms of CPU several times
# over once INIT, which has two processors whatever the size, is done; so there more of it is spent before.
#
# The smallest load all of it in INIT, if that takes no longer than this: behind it, a fourteenth of a processor for the
# hold of one invocation and for the shutdown window is less than loading takes, and what a function wrote that crashed
# in its first invocation would be lost.
BIG_MB = 1024
BIG_BUDGET_MS = 10
SMALL_MB = 256
SMALL_BUDGET_MS = 20
SMALLEST_BUDGET_MS = 300

# How often is looked whether an invocation has come, while loading goes on behind INIT.
TICK_S = 0.01


def budget_ms(values: reading.Values) -> int:
    """Return how long INIT may wait for the first `/event/next` after registration: as set, else by memory size."""
    given: int | None = values["TELEMETRY_FORWARDER_INIT_BUDGET_MS"]
    if given is not None:
        return given
    memory_mb: int = values["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] or SMALL_MB
    if memory_mb >= BIG_MB:
        return BIG_BUDGET_MS
    return SMALL_BUDGET_MS if memory_mb >= SMALL_MB else SMALLEST_BUDGET_MS


class Early:
    """The first `/event/next` of an extension that registered as `identifier`, asked for in time.

    `send(runtime_api, method, path, head, body)` returns the connection on which it sent a request. `hold_s` is for
    how long an invocation that arrives meanwhile is held, at most; `given_up` the last answer with one that was not.
    """

    __slots__ = (
        "_answered",
        "_asked",
        "_give_up_at",
        "_head",
        "_is_over",
        "_margin_s",
        "_runtime_api",
        "_send",
        "given_up",
        "hold_s",
    )  # fmt: skip

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
        self._answered = b""  # what was read of the answer
        self.given_up = b""
        self._give_up_at: float | None = None
        self._is_over = False

    def start(self, budget_s: float) -> None:
        """Ask for the first event in `budget_s` seconds, if nobody has by then."""
        _signal.signal(_signal.SIGALRM, self._on_alarm)
        _signal.setitimer(_signal.ITIMER_REAL, max(0.0001, budget_s))

    @property
    def has_asked(self) -> bool:
        """Say whether the first event was asked for, so that INIT waits no longer."""
        return self._asked is not None

    def hand_over(self) -> "tuple[_socket.socket, bytes] | None":
        """Stop, and return the connection on which the next event was asked for, with what was read of the answer.

        None where nobody has asked yet. From here on the caller does. A second call returns None.
        """
        self._is_over = True  # what the timer does from here on
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
        except (OSError, ValueError):  # whoever takes over will meet it again, and has words for it
            return
        # Set anew each time and not once as an interval: a second signal could interrupt what this one does.
        if goes_on:
            _signal.setitimer(_signal.ITIMER_REAL, TICK_S)

    def _ask(self) -> None:
        asked = self._send(self._runtime_api, "GET", NEXT, self._head, "")
        asked.setblocking(False)
        self._asked, self._answered, self._give_up_at = asked, b"", None

    def _look(self, asked: _socket.socket) -> bool:
        """Read what has come; give an invocation up where it was held for long enough. Say whether to look again.

        An answer may come in any number of packets, so it is read on for as long as nobody else does.
        """
        if self._give_up_at is None:
            goes_on = self._read(asked)
            self._give_up_at = self._held_until()
            # Closed, or SHUTDOWN: there is no time to lose with looking.
            return self._give_up_at is not None or (goes_on and b'"SHUTDOWN"' not in self._answered)
        try:
            self._read(asked)
        except OSError:  # what is known of the invocation is enough to end it
            self._give_up_at = min(self._give_up_at, monotonic())
        if monotonic() >= self._give_up_at:
            self.given_up = self._answered
            asked.close()
            self._ask()
        return True

    def _read(self, asked: _socket.socket) -> bool:
        """Take what has come of the answer; return False where no more will come. Raises OSError."""
        try:
            news = asked.recv(65536)
        except BlockingIOError:
            return True
        self._answered += news
        return bool(news)

    def _held_until(self) -> "float | None":
        """Return the end of the hold, on the monotonic clock; None as long as no invocation is known of."""
        deadline_ms = number_after(self._answered, b'"deadlineMs":')
        if deadline_ms is None or b'"INVOKE"' not in self._answered:
            return None
        left_s: float = deadline_ms / 1000 - time() - self._margin_s
        return monotonic() + max(0.0, min(self.hold_s, left_s))


def number_after(text: bytes, name: bytes) -> "int | None":
    """Return the whole number that follows `name` in `text`; None where there is none, or more of it may come."""
    rest = text.partition(name)[2].lstrip()
    digits = len(rest) - len(rest.lstrip(b"0123456789"))
    return int(rest[:digits]) if 0 < digits < len(rest) and digits < 20 else None
