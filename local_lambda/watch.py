"""Wait for a state instead of sleeping: those who change something say so, those who wait state a condition."""

import asyncio
from collections.abc import Callable

Condition = Callable[[], bool]


class Watch:
    """The one place where waits end. Conditions are cheap, pure and evaluated at each `notify`."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], Condition] = {}
        self._observers: list[Callable[[], None]] = []

    def notify(self) -> None:
        """Say that something changed, and wake those whose condition holds now."""
        for future, condition in list(self._waiting.items()):
            if not future.done() and condition():
                future.set_result(None)
        for observer in self._observers:
            observer()

    def observe(self, observer: Callable[[], None]) -> None:
        """Call `observer` at each `notify`. It must be quick and must not raise."""
        self._observers.append(observer)

    async def until(self, condition: Condition) -> None:
        """Return when `condition` was seen to hold; it may have ceased to when the caller runs again."""
        if condition():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = condition
        try:
            await future
        finally:
            del self._waiting[future]
