"""JSON for whatever a function may have written."""

import math

import orjson
import pytest
from hypothesis import given

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.wire_json import DEEPEST, clean, grouped, present, to_json
from tests.sink_records import json_values


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, None, True, "ä"]}, '{"a":[1,null,true,"ä"]}'),
        (2**64 - 1, "18446744073709551615"),
        (2**64, '"18446744073709551616"'),
        (-(2**63) - 1, '"-9223372036854775809"'),
        ([2**70, "x"], '["1180591620717411303424","x"]'),
        ([math.nan, math.inf, -math.inf], "[null,null,null]"),
        ("a\ud800b", '"a\ufffdb"'),
        ("\ud83d\ude00", '"\U0001f600"'),
        ({"\udfff": "\udfff"}, '{"\ufffd":"\ufffd"}'),
        ({1: 2}, '{"1":2}'),
    ],
)
def test_written(value, text):
    assert to_json(value).decode() == text


def test_what_is_nested_too_deep_becomes_its_json_text():
    found = orjson.loads(to_json(nested(400)))
    for _ in range(DEEPEST):
        (found,) = found
    assert found == "[" * (400 - DEEPEST) + "1" + "]" * (400 - DEEPEST)


@pytest.mark.parametrize("value", [object(), {"a": b"bytes"}, {1, 2}, [10**5000], nested(100_000), [{"x": object()}]])
def test_what_is_no_json_cannot_be_expressed(value):
    with pytest.raises(EncodeError):
        to_json(value)


@given(json_values)
def test_any_json_value_is_written_and_is_utf_8(value):
    orjson.loads(to_json(value).decode())


def test_clean_leaves_sound_text_alone():
    assert clean("ä😀\x00") == "ä😀\x00"


def test_present_leaves_out_what_is_unknown_and_no_more():
    assert present({"a": None, "b": {}, "c": 0, "d": False, "e": ""}) == {"c": 0, "d": False, "e": ""}


def test_grouped_keeps_every_value_of_a_key():
    assert grouped((("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"))) == {"a": ["1", "3", "4"], "b": "2"}
