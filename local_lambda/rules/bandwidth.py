"""How fast a streamed response is let through. Pure.

Source: AWS docs "Response streaming for Lambda functions", bandwidth limits, and AWS's emulator.
"""


class Bandwidth:
    """A token bucket: `burst_bytes` at once, then `bytes_per_s`. Times are in seconds on any steady clock."""

    def __init__(self, burst_bytes: int, bytes_per_s: int, now: float) -> None:
        self._burst = burst_bytes
        self._rate = bytes_per_s
        self._left = float(burst_bytes)
        self._at = now

    def wait_for(self, size: int, now: float) -> float:
        """Take `size` bytes; return the seconds to wait before they are passed on."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - size
        self._at = now
        return max(0.0, -self._left / self._rate)
