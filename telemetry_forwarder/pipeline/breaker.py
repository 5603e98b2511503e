"""When to leave an unwell destination alone, so that it costs invocations nothing. Pure: time is an argument."""


class Breaker:
    """Opens when a flush ended in failure, for twice as long each time, from `first` to `longest` seconds.

    Times are seconds since the epoch: the monotonic clock of a frozen environment may not move.
    """

    def __init__(self, *, first: float = 1.0, longest: float = 30.0) -> None:
        self._first = first
        self._longest = longest
        self._failures = 0
        self._open_until = 0.0

    def is_open(self, now: float) -> bool:
        # A wall clock that was set back must not keep it open: no pause is longer than `longest`.
        return now < self._open_until <= now + self._longest

    def failed(self, now: float, after: float = 0.0) -> None:
        """Open; `after` is a wait that the destination asked for, which wins if it is longer (up to `longest`)."""
        pause = self._first * 2.0 ** min(self._failures, 16)
        self._failures += 1
        self._open_until = now + min(self._longest, max(pause, after))

    def succeeded(self) -> None:
        self._failures = 0
        self._open_until = 0.0
