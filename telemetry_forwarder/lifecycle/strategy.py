"""When to flush: what an invocation is held for, what is sent beside it, what waits. Pure: time is an argument."""

from collections import deque
from enum import StrEnum

from telemetry_forwarder.lazy_dataclass import dataclass, field

# `adaptive` decides when it knows this many gaps between invocations, from the longest of the last ones.
ENOUGH_GAPS = 4
RECENT_GAPS = 8
# The longest that a record waits for the next invocation, so that none is held for it.
LONGEST_WAIT_S = 10.0


class Decision(StrEnum):
    """What to do with one invocation."""

    HOLD = "hold"  # wait for its end, deliver what it wrote, then ask for the next event
    BESIDE = "beside"  # deliver what is held while the function runs, then ask
    LATER = "later"  # ask at once
    BACKGROUND = "background"  # ask at once, and deliver at any time


class Mode(StrEnum):
    """The words of TELEMETRY_FORWARDER_FLUSH."""

    ADAPTIVE = "adaptive"
    END = "end"
    PERIODIC = "periodic"
    CONTINUOUS = "continuous"


@dataclass(frozen=True, slots=True)
class Strategy:
    """TELEMETRY_FORWARDER_FLUSH: `period_s` is the time between two deliveries where the mode has one."""

    mode: Mode = Mode.ADAPTIVE
    period_s: float = 1.0

    def decide(self, since_flush: float, recent_gaps: "Gaps") -> Decision:
        """Decide about an invocation that begins now, `since_flush` seconds after the last flush."""
        match self.mode:
            case Mode.END:
                return Decision.HOLD
            case Mode.CONTINUOUS:
                return Decision.BACKGROUND
            case Mode.PERIODIC:
                return Decision.LATER if since_flush < self.period_s else Decision.BESIDE
            case Mode.ADAPTIVE:
                return Decision.BACKGROUND if recent_gaps.are_short else Decision.HOLD


@dataclass(slots=True)
class Gaps:
    """How long nothing ran between two invocations, lately, by Lambda's own times. Lengths are seconds."""

    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_GAPS))
    _ended_ms: int | None = None

    @property
    def are_short(self) -> bool:
        """Say whether what is left over at the end of an invocation is soon sent beside the next one."""
        return len(self._recent) >= ENOUGH_GAPS and max(self._recent) <= LONGEST_WAIT_S

    def on_start(self, time_ms: int) -> None:
        """Note a `platform.start`."""
        if self._ended_ms is not None:
            self._recent.append(max(0.0, (time_ms - self._ended_ms) / 1000))
            self._ended_ms = None

    def on_end(self, time_ms: int) -> None:
        """Note a `platform.runtimeDone`."""
        self._ended_ms = time_ms
