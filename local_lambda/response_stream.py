"""A streamed response on its way from the runtime to the caller."""

from collections import deque
from collections.abc import AsyncIterator

from local_lambda.watch import Watch

_HELD_BYTES = 256 * 1024  # what may wait for the caller before the runtime waits


class ResponseStream:
    """What the function streams, piece by piece: written by the Runtime API, read by one caller.

    A caller that lags behind slows the runtime down; one that leaves does not.
    """

    def __init__(self) -> None:
        self.content_type = ""
        self.is_complete = False  # it ended as the function meant it to
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._has_begun = False
        self._has_ended = False
        self._is_abandoned = False
        self._watch = Watch()

    # The runtime's side

    def begin(self, content_type: str) -> None:
        self.content_type, self._has_begun = content_type, True
        self._watch.notify()

    async def write(self, data: bytes) -> None:
        """Pass `data` on; wait while the caller has not read what came before."""
        if self._is_abandoned:
            return
        self._chunks.append(data)
        self._held += len(data)
        self._watch.notify()
        await self._watch.until(lambda: self._held < _HELD_BYTES or self._is_abandoned)

    def end(self, *, is_complete: bool = False) -> None:
        """End it; only the first call counts."""
        if not self._has_ended:
            self._has_ended, self.is_complete = True, is_complete
            self._watch.notify()

    # The caller's side

    async def has_begun(self) -> bool:
        """Wait until the function streams, or has ended without that; say which."""
        await self._watch.until(lambda: self._has_begun or self._has_ended)
        return self._has_begun

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await self._watch.until(lambda: bool(self._chunks) or self._has_ended)
            if not self._chunks:
                return
            chunk = self._chunks.popleft()
            self._held -= len(chunk)
            self._watch.notify()
            yield chunk

    def leave(self) -> None:
        """Read no more: the rest is thrown away."""
        self._is_abandoned = True
        self._chunks.clear()
        self._watch.notify()
