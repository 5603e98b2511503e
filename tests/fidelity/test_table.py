"""The table of fidelity is true: each statement has a test or a reason, and the page says what the data says."""

import re
from dataclasses import fields

from local_lambda import Function, Platform
from tests.fidelity.table import PAGE, load, marked_tests, page

STATEMENTS, QUESTIONS = load()
TESTS = marked_tests()


def test_each_statement_is_asserted_by_a_test_or_has_a_reason_and_never_both() -> None:
    bare = [statement.id for statement in STATEMENTS if not statement.reason and statement.id not in TESTS]
    both = [statement.id for statement in STATEMENTS if statement.reason and statement.id in TESTS]
    assert (bare, both) == ([], [])


def test_each_mark_names_a_statement() -> None:
    assert TESTS.keys() - {statement.id for statement in STATEMENTS} == set()


def test_statements_are_well_formed() -> None:
    for statement in STATEMENTS:
        assert re.fullmatch(r"[CSD]+", statement.basis), statement.id
        assert set(statement.basis) & set("CS"), statement.id
        assert re.match(r"(not yet|not here): |$", statement.reason), statement.id
        assert "|" not in statement.text + statement.reason, statement.id


def test_each_setting_that_answers_a_question_is_there() -> None:
    known = {f"{kind.__name__}.{field.name}" for kind in (Function, Platform) for field in fields(kind)}
    assert {question.setting for question in QUESTIONS} - {""} <= known


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(STATEMENTS, QUESTIONS, TESTS), "say make fidelity"
