"""An extension that asks for its first event before it is loaded loses nothing, and costs nobody his timeout."""

import asyncio
from collections import Counter

import pytest

from local_lambda import InitFailed, Platform
from tests.integration.world import EXTENSION, assert_balanced, world

ONE_SINK: dict[str, str | None] = {"TELEMETRY_FORWARDER_SINKS": "splunk", "TELEMETRY_FORWARDER_INIT_BUDGET_MS": "0"}


async def test_an_invocation_that_arrives_while_loading_is_delivered_like_any_other() -> None:
    async with world(environment=ONE_SINK, timeout_s=30.0) as w:
        ids = [(await w.env.invoke({"first": number * 10, "lines": 10})).request_id for number in range(3)]
        end = await w.env.shutdown()
        assert end.extensions[EXTENSION.name].exit_code == 0
        assert w.numbers("splunk") == Counter(range(30))
        assert w.reports("splunk") == Counter(ids)
        assert_balanced(w.ledgers[0])
        w.env.transcript.assert_next_once_per_invocation()


async def test_what_a_long_first_invocation_writes_is_sent_while_it_runs_though_it_was_not_held() -> None:
    """In the background, too, nothing is sent before an invocation allows it."""
    async with world(environment={**ONE_SINK, "TELEMETRY_FORWARDER_FLUSH": "continuous,0.2"}, timeout_s=30.0) as w:
        running = asyncio.ensure_future(w.env.invoke({"lines": 5, "sleep": 4.0}))
        async with asyncio.timeout(20):
            for _ in range(200):
                if len(w.numbers("splunk")) == 5:
                    break
                await asyncio.sleep(0.1)
        assert w.numbers("splunk") == Counter(range(5))
        assert not running.done()
        await running
        await w.env.shutdown()


async def test_a_shutdown_that_arrives_while_loading_is_served() -> None:
    async with world(environment=ONE_SINK) as w:
        end = await w.env.shutdown()
        assert end.extensions[EXTENSION.name].exit_code == 0
        assert not end.extensions[EXTENSION.name].killed
        assert_balanced(w.ledgers[0])


async def test_a_function_is_never_timed_out_by_what_is_still_loading() -> None:
    """With botocore among it, on a fraction of a processor."""
    slow: dict[str, str | None] = {"TELEMETRY_FORWARDER_INIT_BUDGET_MS": "0"}
    platform = Platform(cpu_quota="auto")
    async with world(environment=slow, platform=platform, timeout_s=1.0, memory_mb=256, handler="lines.handler") as w:
        results = [await w.env.invoke({"first": number, "lines": 1}) for number in range(4)]
        assert [result.function_error for result in results] == [None] * 4
        await w.env.shutdown()


async def test_an_older_schema_and_an_early_event_go_together() -> None:
    async with world(environment=ONE_SINK, platform=Platform(schemas=("2022-12-13",)), timeout_s=30.0) as w:
        await w.env.invoke({"lines": 5})
        await w.env.shutdown()
        assert w.numbers("splunk") == Counter(range(5))


async def test_strict_mode_judges_before_it_asks() -> None:
    wrong: dict[str, str | None] = {"TELEMETRY_FORWARDER_STRICT": "true", "DD_SITE": "not a site"}
    with pytest.raises(InitFailed, match=r"Extension\.CannotRun|Extension\.InitError"):
        async with world(environment={"TELEMETRY_FORWARDER_INIT_BUDGET_MS": "0", **wrong}):
            pass
