"""Which emitted record was seen at a destination, and how often."""

from typing import Any

import pytest

from local_lambda.page.destinations import Sighting
from local_lambda.page.sightings import Arrivals, Recognizer, is_lambdas


def seen(id_: str, content: Any = "a line", *, time_ms: int = 1000, type_: str = "function") -> Sighting:
    return Sighting(id=id_, time_ms=time_ms, type=type_, content=content)


def test_a_record_is_recognized_by_its_time_and_type_and_then_by_its_id() -> None:
    recognizer = Recognizer(100)
    recognizer.emitted("row 1", 1000, "function", "a line\n")
    assert recognizer.recognize(seen("id 1")) == "row 1"
    assert recognizer.recognize(seen("id 1", "another form of it", time_ms=0)) == "row 1"
    assert recognizer.recognize(seen("id 2")) is None  # the only such record has an id


@pytest.mark.parametrize(
    ("emitted", "content"),
    [
        ("the second\n", "the second"),
        ('{"order": 17}', {"order": 17}),
        ('2026-11-28T08:17:40.264Z\tabc\tINFO\t{"order": 17}', {"order": 17}),
        ({"requestId": "abc"}, {"requestId": "abc"}),
    ],
)
def test_of_records_of_one_millisecond_the_one_with_the_content_is_meant(emitted: Any, content: Any) -> None:
    recognizer = Recognizer(100)
    for number, record in enumerate(["the first", "{ no JSON", emitted, "the last"]):
        recognizer.emitted(f"row {number}", 1000, "function", record)
    assert recognizer.recognize(seen("id", content)) == "row 2"


def test_equal_records_are_recognized_in_the_order_in_which_they_were_emitted() -> None:
    recognizer = Recognizer(100)
    for number in range(3):
        recognizer.emitted(f"row {number}", 1000, "function", "the same")
    assert [recognizer.recognize(seen(f"id {number}", "the same")) for number in range(4)] == [
        "row 0", "row 1", "row 2", None,
    ]  # fmt: skip


def test_what_is_known_by_no_content_is_the_first_of_its_time() -> None:
    recognizer = Recognizer(100)
    recognizer.emitted("row 0", 1000, "function", "cut by the sink")
    recognizer.emitted("row 1", 1000, "function", "the second")
    assert recognizer.recognize(seen("id", "cut by…")) == "row 0"


@pytest.mark.parametrize("apart_ms", [0, 1])
def test_only_so_many_records_are_remembered(apart_ms: int) -> None:
    recognizer = Recognizer(3)
    for number in range(5):
        recognizer.emitted(f"row {number}", number * apart_ms, "function", f"line {number}")
    sightings = [seen(f"id {number}", f"line {number}", time_ms=number * apart_ms) for number in (2, 3, 4, 0, 1)]
    assert [recognizer.recognize(one) for one in sightings] == ["row 2", "row 3", "row 4", None, None]


def test_a_repeat_is_counted_as_one() -> None:
    arrivals = Arrivals()
    assert [arrivals.add(seen(id_)) for id_ in ("a", "b", "a")] == [True, True, False]
    assert (arrivals.distinct, arrivals.repeats) == (2, 1)


def test_what_the_extension_made_is_none_of_lambdas() -> None:
    assert is_lambdas(seen("a", type_="platform.report"))
    assert not is_lambdas(seen("b", type_="forwarder.recordsLost"))
