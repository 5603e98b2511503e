"""The flush strategy: whether an invocation is held, records are sent while it runs, or later. Pure: no clock."""

from collections import deque
from enum import StrEnum

from msgspec import Struct, field

# `adaptive` decides by the longest of the last RECENT_GAPS gaps between invocations, once it knows ENOUGH_GAPS.
ENOUGH_GAPS = 4
_RECENT_GAPS = 8
# A record may wait this long for the next invocation. With longer gaps, invocations are held instead.
LONGEST_WAIT_S = 10.0


class Decision(StrEnum):
    """What to do with one invocation."""

    HOLD = "hold"  # wait for its end, deliver what it wrote, then ask for the next event
    BESIDE = "beside"  # deliver held records while the function runs, then ask for the next event
    LATER = "later"  # ask for the next event at once
    BACKGROUND = "background"  # ask for the next event at once, and deliver at any time


class Mode(StrEnum):
    """The modes that TELEMETRY_FORWARDER_FLUSH may name."""

    ADAPTIVE = "adaptive"
    END = "end"
    PERIODIC = "periodic"
    CONTINUOUS = "continuous"


class Strategy(Struct, frozen=True):
    """The value of TELEMETRY_FORWARDER_FLUSH. `period_s` is the time between two deliveries, if the mode has one."""

    mode: Mode = Mode.ADAPTIVE
    period_s: float = 1.0

    def decide(self, since_flush: float, recent_gaps: "Gaps") -> Decision:
        """Return the decision for an invocation that begins now, `since_flush` seconds after the last flush."""
        match self.mode:
            case Mode.END:
                return Decision.HOLD
            case Mode.CONTINUOUS:
                return Decision.BACKGROUND
            case Mode.PERIODIC:
                return Decision.LATER if since_flush < self.period_s else Decision.BESIDE
            case Mode.ADAPTIVE:
                return Decision.BACKGROUND if recent_gaps.are_short else Decision.HOLD


class Gaps(Struct):
    """The recent gaps between the end of one invocation and the start of the next, in seconds, by Lambda's times."""

    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_GAPS))
    _ended_ms: int | None = None

    @property
    def are_short(self) -> bool:
        """Whether the next invocation comes soon, so that records left over from one are sent during the next."""
        return len(self._recent) >= ENOUGH_GAPS and max(self._recent) <= LONGEST_WAIT_S

    def on_start(self, time_ms: int) -> None:
        """Note a `platform.start`."""
        if self._ended_ms is not None:
            self._recent.append(max(0.0, (time_ms - self._ended_ms) / 1000))
            self._ended_ms = None

    def on_end(self, time_ms: int) -> None:
        """Note a `platform.runtimeDone`."""
        self._ended_ms = time_ms
