"""The faults of a backend, under the names of the matrix's rows, and whether they make delivery ambiguous.

Delivery is ambiguous if a backend has stored a request but the extension never reads the answer. The extension may then
send the records again (at least once), or report them as lost although they arrived.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from local_backends import (
    Answer,
    Backend,
    BadEvent,
    Fault,
    HalfAnswer,
    Hang,
    RejectEvents,
    Reset,
    Slow,
    Throttle,
    TooLarge,
    Withhold,
)

NEVER_S = 3600.0


@dataclass(frozen=True, slots=True)
class Wrong:
    """One kind of fault, described by `what`. `play` is the fault for every delivery, by sink if they differ.

    `door` is the state of the listener, before any request is sent. `stores`: some requests are stored during the
    fault. `is_well_again`: the fault ends by itself before the environment does, so no record may be lost.
    `why_ambiguous` says how a request may be stored and its answer not be read; "" if that cannot happen.
    """

    what: str
    play: Fault | Mapping[str, Fault] | None = None
    door: Literal["open", "closed", "untrusted"] = "open"
    stores: bool = False
    is_well_again: bool = False
    why_ambiguous: str = ""

    @property
    def is_ambiguous(self) -> bool:
        return bool(self.why_ambiguous)

    @property
    def needs_tls(self) -> bool:
        return self.door == "untrusted"

    def fault(self, sink: str) -> Fault | None:
        """Return the fault for the deliveries of `sink`; where they differ, other vendors fail as Datadog does."""
        return self.play.get(sink, self.play["datadog"]) if isinstance(self.play, Mapping) else self.play

    def can_be_withheld(self, sink: str) -> bool:
        """Return whether a request gets a result, which can then be withheld."""
        return self.door == "open" and not isinstance(self.fault(sink), Hang)

    async def begin(self, sink: str, backend: Backend, *, untrusted: ssl.SSLContext | None, is_withheld: bool) -> None:
        """Start the fault; with `is_withheld` the next delivery first waits for `Faults.release`."""
        fault = self.fault(sink)
        if self.door != "open":
            await backend.stop_listening()
        if self.door == "untrusted":
            await backend.listen_again(untrusted)
        if is_withheld and self.can_be_withheld(sink):
            backend.faults.script(Withhold(fault))
        if fault is not None:
            backend.faults.script(fault)

    async def end(self, backend: Backend) -> None:
        """End the fault. Requests that hang continue to hang."""
        backend.faults.clear()
        if self.door == "untrusted":
            await backend.stop_listening()
        if self.door != "open":
            await backend.listen_again()


FOR_EVER = None  # value of `times`: until the fault ends

WRONGS: Mapping[str, Wrong] = {
    "ok": Wrong("nothing: the row to compare with", stores=True),
    "slow 200 ms": Wrong("stored at once, answered after 200 ms", Slow(0.2, FOR_EVER), stores=True),
    "slow 1 s": Wrong(
        "stored at once, answered after 1 s",
        Slow(1.0, FOR_EVER),
        stores=True,
        why_ambiguous="the shutdown window may end before the answer comes",
    ),
    "slow 10 s": Wrong(
        "stored at once, answered after 10 s",
        Slow(10.0, FOR_EVER),
        stores=True,
        why_ambiguous="the shutdown window ends before the answer comes",
    ),
    "refuse": Wrong("nobody listens: connections are refused", door="closed"),
    "reset": Wrong("the connection is reset in place of an answer; nothing is stored", Reset(times=FOR_EVER)),
    "reset, stored": Wrong(
        "stored, and the connection is reset in place of an answer",
        Reset(stored=True, times=FOR_EVER),
        stores=True,
        why_ambiguous="no answer comes",
    ),
    "hang": Wrong("never answered, never stored", Hang(None, FOR_EVER)),
    "hang, stored": Wrong(
        "stored, never answered", Slow(NEVER_S, FOR_EVER), stores=True, why_ambiguous="no answer comes"
    ),
    "hang, then well": Wrong(
        "two requests hang and are not stored, then all is well", Hang(times=2), is_well_again=True
    ),
    "400, then well": Wrong(
        "four requests are refused with 400, whatever is in them, then all is well",
        {
            "splunk": Answer(400, times=4),
            "datadog": Answer(400, times=4),
            "cloudwatch": Answer(400, times=4, code="InvalidParameterException"),
        },
        is_well_again=True,
    ),
    "503 + 30 s, then well": Wrong(
        "one 503 with `Retry-After: 30`, longer than the environment lives, then all is well",
        Answer(503, retry_after=30),
        is_well_again=True,
    ),
    "429": Wrong("throttled (CloudWatch Logs: 400 `ThrottlingException`)", Throttle(times=FOR_EVER)),
    "500": Wrong("answered 500", Answer(500, FOR_EVER)),
    "503": Wrong("answered 503", Answer(503, FOR_EVER)),
    "401": Wrong(
        "the credential is refused with 401 (CloudWatch Logs: 400 `UnrecognizedClientException`)",
        {
            "splunk": Answer(401, FOR_EVER),
            "datadog": Answer(401, FOR_EVER),
            "cloudwatch": Answer(400, FOR_EVER, code="UnrecognizedClientException"),
        },
    ),
    "403": Wrong("the credential is refused with 403", Answer(403, FOR_EVER)),
    "partial": Wrong(
        "Splunk finds the second event of each request bad, CloudWatch Logs the first too old; Datadog, which takes "
        "all or nothing, finds two requests too large",
        {
            "splunk": BadEvent(at=1, times=FOR_EVER),
            "datadog": TooLarge(times=2),
            "cloudwatch": RejectEvents(too_old_end=1, times=FOR_EVER),
        },
        stores=True,
    ),
    "TLS error": Wrong("its certificate is one that is not trusted: the handshake fails", door="untrusted"),
    "half answer": Wrong(
        "stored, and the connection ends in the middle of the answer's body",
        HalfAnswer(FOR_EVER),
        stores=True,
        why_ambiguous="half of an answer is none",
    ),
}
