"""The real executable under AWS's own emulator, both of its cores."""

import asyncio
import time
from collections import Counter
from pathlib import Path

from tests.integration.rie import emulator_is_here, rie_world
from tests.integration.world import SINKS, assert_balanced

__all__ = ["emulator_is_here"]


async def test_classic_core_tries_it(tmp_path: Path) -> None:
    async with rie_world(tmp_path) as w:
        began = time.monotonic()
        print(await w.env.invoke({"lines": 2}), time.monotonic() - began)
        for n in range(3):
            began = time.monotonic()
            print(await w.env.invoke({"lines": 2}), time.monotonic() - began)
        print("EXIT", await w.env.terminate())
        print("\n".join(w.env.output))


async def test_managed_core_tries_it(tmp_path: Path) -> None:
    async with rie_world(tmp_path, managed=True) as w:
        began = time.monotonic()
        print(await asyncio.gather(*(w.env.invoke({"first": n * 10, "lines": 10}) for n in range(2))), time.monotonic() - began)
        for n in range(2, 5):
            began = time.monotonic()
            print(await w.env.invoke({"first": n * 10, "lines": 10}), time.monotonic() - began)
        print("EXIT", await w.env.terminate())
        print("\n".join(w.env.output))
        for sink in SINKS:
            assert w.numbers(sink) == Counter(range(50))
        assert_balanced(w.ledgers[0])
