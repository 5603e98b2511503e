"""Waiting for a condition, without sleeping: code that changes state calls `notify`, code that waits calls `until`."""

import asyncio
from collections.abc import Callable

Condition = Callable[[], bool]


class Watch:
    """Holds all waits of one environment. Conditions must be cheap and pure: each `notify` evaluates them all."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], Condition] = {}
        self._observers: list[Callable[[], None]] = []

    def notify(self) -> None:
        """Announce a change: wake the waiters whose condition now holds, and call the observers."""
        for future, condition in list(self._waiting.items()):
            if not future.done() and condition():
                future.set_result(None)
        for observer in self._observers:
            observer()

    def observe(self, observer: Callable[[], None]) -> None:
        """Call `observer` at each `notify`. It must be quick and must not raise."""
        self._observers.append(observer)

    async def until(self, condition: Condition) -> None:
        """Return after `condition` held once. It may no longer hold when the caller resumes."""
        if condition():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = condition
        try:
            await future
        finally:
            del self._waiting[future]
