"""An event loop for tests that moves its clock to the next timer instead of sleeping, so waiting takes no time."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class VirtualClock:
    """A `Clock` on a loop's virtual time. `epoch` is the wall time, in seconds, at which the loop's time is 0."""

    def __init__(self, loop: "_VirtualLoop", epoch: float = 1_800_000_000.0) -> None:
        self._loop = loop
        self._epoch = epoch

    def monotonic(self) -> float:
        return self._loop.time()

    def time(self) -> float:
        return self._epoch + self._loop.time()

    def epoch_ms(self, seconds_from_now: float = 0.0) -> int:
        return round((self.time() + seconds_from_now) * 1000)


class _Selector(selectors.DefaultSelector):
    """A selector that never waits: if nothing is ready, it moves the loop's time to the next timer."""

    loop: "_VirtualLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("the test waits for something that can never happen")
            self.loop.now += max(0.0, timeout)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a virtual clock, which starts at 1000 seconds.

    What a callback raises ends it, and is raised by `run`. asyncio would log it and go on as if the callback had been
    called: then the test judges a world in which a timer was lost. So it was with the alarm of pytest-timeout, which is
    raised in whatever runs when the time is up, and hardly ever in the same place again.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.failure: BaseException | None = None
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self.set_exception_handler(_end_by_failure)

    def time(self) -> float:
        return self.now


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` in virtual time and return its result. Raises what it raises, or what a callback raised."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, _VirtualLoop)
        try:
            return runner.run(main)
        finally:
            if loop.failure is not None:
                raise loop.failure


def _end_by_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, _VirtualLoop)
    error = context.get("exception")
    if "handle" in context and error is not None and loop.failure is None:
        loop.failure = error
        loop.stop()
    else:
        loop.default_exception_handler(context)


def in_virtual_time(test: Callable[Parameters, Coroutine[Any, Any, Result]]) -> Callable[Parameters, Result]:
    """Run the decorated asynchronous test in virtual time. Use it as the innermost decorator, below `given`."""

    @functools.wraps(test)
    def play(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return run(test(*args, **kwargs))

    return play


def freeze(seconds: float) -> None:
    """Advance the clock by `seconds` without running anything, as in a freeze; timers that were due fire late."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _VirtualLoop)
    loop.now += seconds


def clock() -> VirtualClock:
    """Return the clock of the running VirtualLoop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _VirtualLoop)
    return VirtualClock(loop)
