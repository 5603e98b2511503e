"""What says that the end of the invocation at hand may never be told. Pure: events in, one point in time out.

Telemetry is lost without a trace in what follows it: `sequence-id` is opaque, so that no gap shows in it. But losses
show by themselves: Lambda tells of what it dropped, a body or a record cannot be read, a connection ends within a body.
Any of them may have held `platform.runtimeDone`. Lambda sends in order, so what was lost before a `platform.start` is
not the end of that request; and a line of the function that comes after a loss was written before the end.
"""


class Doubt:
    """Since when, by Lambda's clock in ms since the epoch, the end is not expected to be told any more.

    `since_ms` is None as long as there is no reason to doubt. It moves on with each sign that the function still ran.
    """

    def __init__(self) -> None:
        self.since_ms: int | None = None
        self._is_passing = False

    def on_loss(self, time_ms: int) -> None:
        """Note that something is lost for good."""
        self.since_ms = max(time_ms, self.since_ms or time_ms)
        self._is_passing = False

    def on_interruption(self, time_ms: int) -> None:
        """Note that a body did not come whole: Lambda sends it again, or gives it up."""
        if self.since_ms is None:
            self.since_ms, self._is_passing = time_ms, True

    def on_batch(self) -> None:
        """Note that a body came whole: the one that was interrupted, as they come in order."""
        if self._is_passing:
            self.clear()

    def on_line(self, time_ms: int) -> None:
        """Note when the function wrote something, or was invoked: it had not ended then."""
        if self.since_ms is not None:
            self.since_ms = max(time_ms, self.since_ms)

    def clear(self) -> None:
        """Note a start: what was lost came before it."""
        self.since_ms, self._is_passing = None, False
