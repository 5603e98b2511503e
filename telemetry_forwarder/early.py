"""What is said to Lambda while the rest of the extension is still loading.

The caller of a cold function waits for INIT, and INIT waits until every extension has asked for its first event. So the
subscription is made right after `/register` (what Lambda sends waits in the kernel until it is served), and when INIT
has waited for `TELEMETRY_FORWARDER_INIT_BUDGET_MS`, the first event is asked for too, from a timer's signal between two
byte codes of whatever is being imported. The answer waits in its socket until asyncio takes it over.

An invocation that arrives meanwhile is held like any other, so that its records leave with it; but not beyond
`LONGEST_HOLD_S`, nor into the function's own timeout: then the next event is asked for, and the records leave later.

Like `bootstrap`, this imports nothing that takes time.
"""

import _signal  # type: ignore[import-not-found]  # typeshed leaves it out
import _socket
from time import monotonic, time

from telemetry_forwarder import variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TELEMETRY = "/2022-07-01/telemetry"  # the path's version is fixed; the schema's goes into the body
NEXT = "/2020-01-01/extension/event/next"
SCHEMAS = ("2025-01-29", "2022-12-13")

# How long INIT waits by default; the measurements behind it are in docs/performance.md. A function of one processor and
# more soon makes up for what is loaded behind its first handler. A smaller one pays for each ms of CPU several times
# over once INIT, which has two processors whatever the size, is done; so there more of it is spent before.
BIG_MB = 1024
BIG_BUDGET_MS = 10
SMALL_BUDGET_MS = 40

# How often is looked whether an invocation has come, while loading goes on behind INIT.
TICK_S = 0.01
# The same bounds as in `budget`, which is not loaded yet.
LONGEST_HOLD_S = 2.0
LEAST_MARGIN_S = 0.1
MOST_MARGIN_S = 0.5
MARGIN_SHARE = 0.1


def budget_ms(environ: "Mapping[str, str]") -> int:
    """Return how long INIT may wait for the first `/event/next` after registration: as set, else by memory size."""
    given: int | None = variables.read("TELEMETRY_FORWARDER_INIT_BUDGET_MS", environ)
    if given is not None:
        return given
    memory = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    return BIG_BUDGET_MS if memory.isascii() and memory.isdigit() and int(memory) >= BIG_MB else SMALL_BUDGET_MS


def subscription(schema: str, environ: "Mapping[str, str]") -> str:
    """Return the body of a subscription. The same one after a reset: a different one would be a second subscription."""
    # `platform` always, whatever is forwarded: the end of each invocation is seen in it.
    types = dict.fromkeys(("platform", *variables.read("TELEMETRY_FORWARDER_TYPES", environ)))
    listed = ",".join(f'"{word}"' for word in types)
    items, size, timeout, port = (
        variables.read(f"TELEMETRY_FORWARDER_{name}", environ)
        for name in ("BUFFERING_MAX_ITEMS", "BUFFERING_MAX_BYTES", "BUFFERING_TIMEOUT_MS", "PORT")
    )
    return (
        f'{{"schemaVersion":"{schema}","types":[{listed}],'
        f'"buffering":{{"maxItems":{items},"maxBytes":{size},"timeoutMs":{timeout}}},'
        f'"destination":{{"protocol":"HTTP","URI":"http://sandbox.localdomain:{port}"}}}}'
    )


class Early:
    """The subscription, and the first `/event/next`, of an extension that registered as `identifier`.

    `subscribed` is the schema that Lambda took, `status` its answer: 200, or 202 from a stand-in for Lambda that does
    not support telemetry. None and 0 where it was not asked, or refused: then the application asks, and tells.
    """

    __slots__ = (
        "_give_up_at",
        "_is_over",
        "_runtime_api",
        "_send",
        "answered",
        "asked",
        "head",
        "status",
        "subscribed",
    )

    def __init__(self, runtime_api: str, identifier: str, send: "Callable[..., _socket.socket]") -> None:
        self._runtime_api = runtime_api
        self._send = send
        self.head = f"Lambda-Extension-Identifier: {identifier}\r\n"
        self.subscribed: str | None = None
        self.status = 0
        self.asked: _socket.socket | None = None
        self.answered = b""  # what was read of the answer
        self._give_up_at: float | None = None
        self._is_over = False

    def subscribe(self, environ: "Mapping[str, str]", call: "Callable[..., tuple[int, dict[str, str], bytes]]") -> None:
        """Ask for telemetry, with the newest schema that Lambda takes."""
        for schema in SCHEMAS:
            body = subscription(schema, environ)
            status, _, _ = call(self._runtime_api, "PUT", TELEMETRY, self.head, body)
            if status in (200, 202):
                self.subscribed, self.status = schema, status
            if status not in (400, 404):
                return

    def start(self, budget_s: float) -> None:
        """Ask for the first event in `budget_s` seconds, if nobody has by then."""
        _signal.signal(_signal.SIGALRM, self._on_alarm)
        _signal.setitimer(_signal.ITIMER_REAL, max(0.0001, budget_s))

    def hand_over(self) -> "tuple[_socket.socket, bytes] | None":
        """Stop, and return the connection on which the next event was asked for, with what was read of the answer.

        None where nobody has asked yet. From here on the caller does. A second call returns None.
        """
        self._is_over = True  # what the timer does from here on
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        asked, self.asked = self.asked, None
        return None if asked is None else (asked, self.answered)

    def _on_alarm(self, signal: int, frame: object) -> None:
        if self._is_over:
            return
        try:
            if self.asked is None:
                self._ask()
                goes_on = True
            else:
                goes_on = self._look(self.asked)
        except (OSError, ValueError):  # whoever takes over will meet it again, and has words for it
            return
        # Set anew each time and not once as an interval: a second signal could interrupt what this one does.
        if goes_on:
            _signal.setitimer(_signal.ITIMER_REAL, TICK_S)

    def _ask(self) -> None:
        asked = self._send(self._runtime_api, "GET", NEXT, self.head, "")
        asked.setblocking(False)
        self.asked, self.answered, self._give_up_at = asked, b"", None

    def _look(self, asked: _socket.socket) -> bool:
        """Read what has come; give an invocation up where it was held for long enough. Say whether to look again."""
        if self._give_up_at is not None:
            if monotonic() >= self._give_up_at:
                asked.close()
                self._ask()
            return True
        try:
            news = asked.recv(65536)
        except BlockingIOError:
            return True
        self.answered += news
        deadline_ms = number_after(self.answered, b'"deadlineMs":')
        if deadline_ms is not None and b'"INVOKE"' in self.answered:
            self._give_up_at = give_up_at(deadline_ms / 1000 - time())
            return True
        # Closed, or SHUTDOWN: there is no time to lose with looking. Else the rest of the answer is on its way.
        return bool(news) and deadline_ms is None


def give_up_at(left_s: float) -> float:
    """Return until when an invocation is held that has `left_s` seconds left, on the monotonic clock."""
    margin = min(MOST_MARGIN_S, max(LEAST_MARGIN_S, left_s * MARGIN_SHARE))
    return monotonic() + max(0.0, min(LONGEST_HOLD_S, left_s - margin))


def number_after(text: bytes, name: bytes) -> "int | None":
    """Return the whole number that follows `name` in `text`; None where there is none, or more of it may come."""
    rest = text.partition(name)[2].lstrip()
    digits = len(rest) - len(rest.lstrip(b"0123456789"))
    return int(rest[:digits]) if 0 < digits < len(rest) and digits < 20 else None
