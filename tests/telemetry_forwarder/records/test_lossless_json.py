"""JSON for whatever a function may have written."""

import math

import orjson
import pytest
from hypothesis import given

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.records.lossless_json import DEEPEST, clean, exact_json, parse_json, to_json
from telemetry_forwarder.sinks.truncate import grouped, present
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


@pytest.mark.parametrize("depth", [DEEPEST + 1, 254, 255, 400, 1_000, 1_024, 100_000])
def test_what_is_nested_too_deep_becomes_its_json_text(depth):
    """However deep: orjson reads more levels than it, or `json` on a stack that is in use, can write."""
    found = orjson.loads(to_json(nested(depth)))
    if depth <= 254:
        return
    for _ in range(DEEPEST):
        (found,) = found
    assert found == "[" * (depth - DEEPEST) + "1" + "]" * (depth - DEEPEST)


@pytest.mark.parametrize(
    "value", [{}, [], {"a": [], "b": {}, "c": [{}, "x", None]}, {'ä"': [1, {"b": "\n"}]}, nested(300)]
)
def test_what_orjson_refuses_is_written_exactly_all_the_same(value):
    with_large = [2**70, value]
    assert parse_json(exact_json(with_large)) == with_large


def test_any_depth_is_written_exactly():
    assert exact_json([nested(5_000)]) == b"[" * 5_001 + b"1" + b"]" * 5_001


@pytest.mark.parametrize("value", [object(), {"a": b"bytes"}, {1, 2}, [10**5000], [{"x": object()}]])
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
