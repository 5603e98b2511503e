"""Signs that the telemetry of the current invocation's end is lost. Pure: events in, one point in time out.

Later telemetry does not show that earlier telemetry was lost: `sequence-id` is opaque, so a gap in it cannot be seen.
But the loss itself is seen: Lambda reports what it dropped, a body or a record cannot be read, or a connection ends
within a body. Each may have contained `platform.runtimeDone`. Lambda sends in order, so a loss before a
`platform.start` does not concern that request; and a line of the function that comes after a loss was written before
the function's end.
"""


class Doubt:
    """Knows since when telemetry of the invocation's end is doubtful: `since_ms`, by Lambda's clock since the epoch.

    `since_ms` is None while there is no doubt. It moves on with each sign that the function still ran.
    """

    def __init__(self) -> None:
        self.since_ms: int | None = None
        self._is_passing = False

    def on_loss(self, time_ms: int) -> None:
        """Note that telemetry is lost for good."""
        self.since_ms = max(time_ms, self.since_ms or time_ms)
        self._is_passing = False

    def on_interruption(self, time_ms: int) -> None:
        """Note that a body was interrupted. Lambda sends it again, or gives it up."""
        if self.since_ms is None:
            self.since_ms, self._is_passing = time_ms, True

    def on_batch(self) -> None:
        """Note a complete body. After an interruption it is the interrupted one, because bodies come in order."""
        if self._is_passing:
            self.clear()

    def on_line(self, time_ms: int) -> None:
        """Note that the function wrote a line or was invoked at `time_ms`, so it had not ended then."""
        if self.since_ms is not None:
            self.since_ms = max(time_ms, self.since_ms)

    def clear(self) -> None:
        """Note a start: all losses so far came before it."""
        self.since_ms, self._is_passing = None, False
