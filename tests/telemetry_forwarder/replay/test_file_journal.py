"""What was sent is known after a kill at any byte, to one destination's replays alone, and to one of them at a time."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_forwarder.replay.file_journal import default_path, open_journal
from telemetry_forwarder.replay.journal import JournalError, runs

TO = "splunk https://splunk.example"


def test_what_was_noted_is_known_next_time(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.jsonl"
    with open_journal(path, TO) as journal:
        assert journal.sent("a") == frozenset()
        journal.note_sent("a", [3, 1, 2, 7])
        journal.note_sent("a", [8])
        journal.note_sent("b", [])
        journal.note_sent("c", [0])
        journal.note_done("c")
        assert journal.sent("a") == {1, 2, 3, 7, 8}
    with open_journal(path, TO) as journal:
        assert journal.sent("a") == {1, 2, 3, 7, 8}
        assert not journal.is_done("a")
        assert journal.is_done("c")
    assert len(path.read_bytes().splitlines()) == 5, "nothing is written for nothing"


@settings(deadline=None)
@given(st.integers(0, 400))
def test_a_kill_in_the_middle_of_a_line_costs_that_line_alone(cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.jsonl"
        with open_journal(path, TO) as journal:
            for number in range(10):
                journal.note_sent("a", [number])
        whole = path.read_bytes()
        path.write_bytes(whole[: max(0, len(whole) - cut)])
        lines = path.read_bytes().count(b"\n")
        with open_journal(path, TO) as journal:
            assert journal.sent("a") == set(range(max(0, lines - 1)))
            journal.note_sent("a", [99])
        with open_journal(path, TO) as journal:
            assert 99 in journal.sent("a")


@pytest.mark.parametrize(
    "content",
    [b"hello\n", b"[]\n", b"null\n", b'{"replay":2,"to":"x"}\n', b'{"replay":1}\n',
     b'{"replay":1,"to":"splunk https://splunk.example"}\n{"parcel":7,"done":true}\n',
     b'{"replay":1,"to":"splunk https://splunk.example"}\n{"parcel":"a","sent":7}\n',
     b'{"replay":1,"to":"splunk https://splunk.example"}\n{"parcel":"a","sent":[["x",1]]}\n'],
)  # fmt: skip
def test_file_that_is_none_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.jsonl"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="not a state file"), open_journal(path, TO):
        raise AssertionError
    assert path.read_bytes() == content


def test_another_destinations_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    with open_journal(path, TO):
        pass
    with pytest.raises(JournalError, match="another destination"), open_journal(path, "splunk https://other.example"):
        raise AssertionError


def test_two_replays_to_one_destination_do_not_run_at_once(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    with open_journal(path, TO), pytest.raises(JournalError, match="in use"), open_journal(path, TO):
        raise AssertionError
    with open_journal(path, TO):
        pass


def test_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be written to"), open_journal(tmp_path, TO):
        raise AssertionError


@settings(deadline=None)
@given(st.sets(st.integers(0, 60)))
def test_runs_hold_the_numbers_and_no_others(numbers: set[int]) -> None:
    found = runs(sorted(numbers))
    assert {one for first, last in found for one in range(first, last + 1)} == numbers
    assert all(second[0] > first[1] + 1 for first, second in itertools.pairwise(found))


def test_each_destination_has_a_file_of_its_own() -> None:
    paths = {default_path(to, "/state") for to in (TO, "splunk https://other.example", "datadog https://x")}
    assert len(paths) == 3
    assert all(path.parent == Path("/state/telemetry-forwarder") for path in paths)
    assert default_path(TO, None).is_relative_to(Path.home())
