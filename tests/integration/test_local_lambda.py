"""The main road of the local Lambda: init, invocations with freezes, shutdown; over real processes and sockets."""

from pathlib import Path

from tests.integration.local_lambda_probe import Probe, local_lambda


async def test_init_invoke_and_shutdown_with_a_real_runtime_and_a_real_extension(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    async with local_lambda(probe) as env:
        first = await env.invoke({"print": ["hello"]})
        second = await env.invoke({"print": ["again"]})
        end = await env.shutdown()
    assert first.json()["request_id"] == first.request_id
    assert (first.status, first.cold_start, second.cold_start) == ("success", True, False)
    assert first.json()["pid"] == second.json()["pid"]
    assert [note["eventType"] for note in probe.notes("event")] == ["INVOKE", "INVOKE", "SHUTDOWN"]
    assert end.extensions["probe"].exit_code == 0
    assert not end.extensions["probe"].killed
    env.transcript.assert_next_once_per_invocation()
