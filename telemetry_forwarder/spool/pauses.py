"""Count the spool's failures; decide when it works without its disk, and log that."""

from msgspec import Struct, field

from telemetry_forwarder.clock import Clock, Moment
from telemetry_forwarder.log import Log

# The time without disk after a failure (full, read-only, slow), until the next attempt.
PAUSE_S = 30.0
# A write into the page cache takes a tenth of a millisecond. A single slow one may be due to missing CPU time.
SLOW_S = 0.25
SLOW_WRITES = 3


class Counts(Struct):
    """The spool's counts in the ledger line."""

    bodies: int = 0  # written
    peak_bytes: int = 0
    failures: int = 0  # disk errors
    lost_segments: int = 0  # removed or cut by another process
    torn_bytes: int = 0  # cut off the ends of segments of earlier generations
    unclaimed: dict[str, int] = field(default_factory=dict)  # records by sink that is no longer configured


class Pauses:
    """Tracks failures of the disk: counts them in `counts`, and logs a warning once for each cause."""

    def __init__(self, counts: Counts, clock: Clock, log: Log) -> None:
        self._counts = counts
        self._clock = clock
        self._log = log
        self._paused: Moment | None = None
        self._is_troubled = False
        self._was_well_again = False
        self._said: set[str] = set()  # the failures that were logged as a warning
        self._slow = 0

    @property
    def is_paused(self) -> bool:
        """Whether the spool works without its disk for now."""
        return self._paused is not None and self._paused.age(self._clock) < PAUSE_S

    def pause(self, what: str) -> None:
        """Stop using the disk for `PAUSE_S`, and log the failure `what`."""
        self._paused = Moment.now(self._clock)
        self.say(f"The spool {what}. Records are held in memory alone; at its bound the oldest are dropped.")
        self._is_troubled = True

    def say(self, what: str) -> None:
        """Count and log a failure: as a warning the first time, then as info, because it may come and go."""
        self._counts.failures += 1
        say = self._log.info if what in self._said else self._log.warning
        self._said.add(what)
        say(what)

    def judge_speed(self, seconds: float) -> None:
        """Note how long a successful write took, in seconds."""
        self._slow = self._slow + 1 if seconds > SLOW_S else 0
        if self._slow >= SLOW_WRITES:
            self._slow = 0
            self.pause(f"is too slow ({SLOW_WRITES} writes in a row took more than {SLOW_S:g} s each)")
        elif self._is_troubled and not self._slow:
            self._is_troubled = False
            say = self._log.info if self._was_well_again else self._log.warning  # the level of the failure it ends
            self._was_well_again = True
            say("The spool is written again.")
