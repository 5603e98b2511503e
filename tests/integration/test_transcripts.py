"""The transcripts in docs/transcripts are what happens: each lane the same, however the lanes interleave."""

from pathlib import Path

import pytest

from tests.integration.transcripts import FOLDER, LIVES, lanes, tell


def written(name: str) -> str:
    return (FOLDER / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", [name for name in LIVES if name != "managed-instances"])
async def test_a_life_goes_as_written(name: str, tmp_path: Path) -> None:
    assert lanes(await tell(name, tmp_path)) == lanes(written(name)), "python -m tests.integration.transcripts"


async def test_eight_invocations_at_once_go_as_written_in_any_order(tmp_path: Path) -> None:
    told = await tell("managed-instances", tmp_path)
    for text in (told, written("managed-instances")):
        runtime = lanes(text)["runtime"]
        first_answer = next(i for i, what in enumerate(runtime) if what.startswith("POST"))
        assert runtime[:first_answer].count("is given an invocation") == 8, "all eight before the first is answered"
        assert not [what for what in lanes(text)["platform"] if what.startswith("platform.runtimeDone")]
    here, there = lanes(told), lanes(written("managed-instances"))
    assert {lane: sorted(what) for lane, what in here.items()} == {lane: sorted(what) for lane, what in there.items()}


def test_after_a_timeout_the_successor_is_sent_the_report_first() -> None:
    sent = lanes(written("timeout"))["telemetry"]
    assert sent.count("sent to probe: platform.report request-1 timeout") == 1
    at = sent.index("sent to probe: platform.report request-1 timeout")
    assert sent[at - 1] == "sent to probe: platform.runtimeDone request-1 timeout"
    assert sent[at + 1 : at + 3] == [
        "sent to probe: platform.start request-2",
        "sent to probe: platform.initStart invoke",
    ]
