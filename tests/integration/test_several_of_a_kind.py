"""Two Splunks in one environment, and what one sink takes, with the real executable."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

from local_backends import Answer, Hang, SplunkHec
from tests.integration.test_end_to_end import numbered_lines
from tests.integration.world import assert_balanced, world

AUDIT = {
    "TELEMETRY_FORWARDER_SINKS": "splunk,splunk:audit,datadog",
    "SPLUNK_HEC_TOKEN__AUDIT": "audit-token",
    "SPLUNK_INDEX__AUDIT": "audit",
    "TELEMETRY_FORWARDER_TYPES__AUDIT": "platform.report",
    "TELEMETRY_FORWARDER_LEVEL__DATADOG": "error",
}


async def test_a_second_splunk_gets_what_it_takes_and_the_first_everything() -> None:
    async with AsyncExitStack() as stack:
        audit = await stack.enter_async_context(SplunkHec(token="audit-token", indexes={"audit"}))
        w = await stack.enter_async_context(world(environment={**AUDIT, "SPLUNK_HEC_URL__AUDIT": audit.url}))
        ids = await numbered_lines(w, 3, 5)
        json_id = (await w.env.invoke({"lines": 0, "json": 2})).request_id
        await w.env.shutdown()
        assert w.numbers("splunk") == Counter(range(15))
        assert Counter(event.fields["request_id"] for event in audit.events) == Counter([*ids, json_id])
        assert {(event.fields["type"], event.index) for event in audit.events} == {("platform.report", "audit")}
        # Lines of text name no level: they may be of a crash. Those of JSON are errors.
        assert w.numbers("datadog") == Counter(range(15))
        (ledger,) = w.ledgers
        assert_balanced(ledger)
        sinks, received = ledger["sinks"], ledger["door"]["received"]
        assert sinks["splunk"]["delivered"] == received
        assert sinks["splunk:audit"]["dropped"] == {"filtered": received - 4}
        assert sinks["splunk:audit"]["delivered"] == 4
        assert ledger["level"] == "INFO", "what is left out on purpose is no loss"
        assert not any(line["level"] in ("WARNING", "ERROR") for line in w.said)


async def test_what_a_sink_does_not_take_holds_no_invocation() -> None:
    """The audit's Splunk hangs, but nothing for it comes before the first report, with the second invocation."""
    async with AsyncExitStack() as stack:
        audit = await stack.enter_async_context(SplunkHec(token="audit-token"))
        audit.faults.always(Hang(), on="event")
        quiet = {**AUDIT, "TELEMETRY_FORWARDER_SINKS": "splunk:audit", "TELEMETRY_FORWARDER_FLUSH": "end"}
        w = await stack.enter_async_context(world(environment={**quiet, "SPLUNK_HEC_URL__AUDIT": audit.url}))
        first = await w.env.invoke({"lines": 3})
        assert first.status == "success"
        assert not [each for each in audit.requests if each.operation == "event"]
        audit.faults.clear()
        await w.env.shutdown()


async def test_a_reset_neither_repeats_nor_forgets_what_is_left_out() -> None:
    async with AsyncExitStack() as stack:
        audit = await stack.enter_async_context(SplunkHec(token="audit-token"))
        w = await stack.enter_async_context(
            world(environment={**AUDIT, "SPLUNK_HEC_URL__AUDIT": audit.url}, timeout_s=1)
        )
        audit.faults.script(Answer(503, times=3), on="event")
        ids = await numbered_lines(w, 2, 5)
        late = await w.env.invoke({"lines": 2, "sleep": 30})
        assert late.status == "timeout"
        ids += [late.request_id, *await numbered_lines(w, 2, 5)]
        await asyncio.sleep(0.1)
        await w.env.shutdown()
        assert Counter(event.fields["request_id"] for event in audit.events) == Counter(ids)
        assert len(w.ledgers) == 2
        for ledger in w.ledgers:
            assert_balanced(ledger)
