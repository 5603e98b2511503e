"""The bounded rows of the page, and what changed since it last asked."""

import asyncio

from local_lambda.page.tables import Tables


def test_a_reader_gets_what_changed_since_it_last_asked_and_no_more() -> None:
    tables = Tables({"records": 10})
    tables.put("records", "1", text="a")
    tables.put("records", "2", text="b")
    first = tables.since(0)
    assert first["rows"] == {"records": [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]}
    tables.put("records", "1", arrived=True)
    second = tables.since(first["number"])
    assert second["rows"] == {"records": [{"id": "1", "text": "a", "arrived": True}]}
    assert tables.since(second["number"])["rows"] == {"records": []}


def test_what_changes_nothing_is_no_change() -> None:
    tables = Tables({"records": 10})
    tables.put("records", "1", text="a", arrived=None)
    number = tables.number
    tables.put("records", "1", text="a")
    assert tables.number == number
    tables.put("records", "1", spare=None)  # a member that was not there
    assert tables.number > number


def test_the_oldest_rows_go_and_the_reader_learns_which_is_the_first() -> None:
    tables = Tables({"records": 3, "spans": 1})
    for number in range(5):
        tables.put("records", str(number))
    news = tables.since(0)
    assert [row["id"] for row in news["rows"]["records"]] == ["2", "3", "4"]
    assert news["first"] == {"records": "2", "spans": None}
    assert (news["totals"]["records"], news["limits"]["records"]) == (5, 3)
    assert tables.get("records", "1") is None


async def test_a_reader_waits_for_the_next_change() -> None:
    tables = Tables({"records": 3})
    waiting = asyncio.get_running_loop().create_task(tables.change(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    tables.put("records", "1")
    await waiting
    await tables.change(0)  # it was there already
