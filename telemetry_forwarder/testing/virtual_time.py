"""An event loop that moves its clock to the next timer instead of sleeping: two seconds take no time at all."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class VirtualClock:
    """A `Clock` on a loop's virtual time; `epoch` is what the wall clock showed at its start, in seconds."""

    def __init__(self, loop: "VirtualLoop", epoch: float = 1_800_000_000.0) -> None:
        self._loop = loop
        self._epoch = epoch

    def monotonic(self) -> float:
        return self._loop.time()

    def time(self) -> float:
        return self._epoch + self._loop.time()

    def epoch_ms(self, seconds_from_now: float = 0.0) -> int:
        return round((self.time() + seconds_from_now) * 1000)


class _Selector(selectors.DefaultSelector):
    """Never waits: where nothing is ready, time passes until the next timer."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("the test waits for something that can never happen")
            self.loop.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which starts at 1000 seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def in_virtual_time(test: Callable[Parameters, Coroutine[Any, Any, Result]]) -> Callable[Parameters, Result]:
    """Mark an asynchronous test that is to run in virtual time; it stands next to the test, below `given`."""

    @functools.wraps(test)
    def play(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return run(test(*args, **kwargs))

    return play


def freeze(seconds: float) -> None:
    """Let time pass while nothing runs, as in a frozen environment whose clock goes on: timers come late after it."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.now += seconds


def clock() -> VirtualClock:
    """Return the running loop's clock."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return VirtualClock(loop)
