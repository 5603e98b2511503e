"""What answered in a destination's place is described in a few words that hold no secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.foreign import LONGEST_WORD, MOST_WORDS, first_words, is_page, what_answered

TOKEN = "4f0e9c6b2f1f6f0b7a115d0c2c7e8a51"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html><head><title> Sign in &amp; go </title></head><body>x</body>", "Sign in … go"),
        (b"<html><head><style>p{}</style></head><body><p>Please <b>log in</b> first.</p>", "Please log in first."),
        (b"<script>var a = 1</script>Welcome to nginx!", "Welcome to nginx!"),
        (b"OK", "OK"),
        (b"", ""),
        (b"   ", ""),
        (b"\xff\xfe\x00", ""),
        (b'{"authorization":"Splunk ' + TOKEN.encode() + b'"}', ""),
        (b"your key " + TOKEN.encode() + b" is fine", "your key … is fine"),
        (b"one two three four five six seven eight nine", "one two three four five six seven eight …"),
    ],
)
def test_the_first_words_are_quoted_cut_and_cleaned(body: bytes, words: str) -> None:
    assert first_words(body) == words


@given(st.binary(max_size=300), st.sampled_from(["text/html; charset=x", "application/json", "", "?!"]))
def test_nothing_that_could_be_a_token_or_break_a_line_is_quoted(body: bytes, kind: str) -> None:
    shown = first_words(TOKEN.encode() + body)
    assert TOKEN not in shown
    assert shown.isprintable()
    assert len(shown) <= (LONGEST_WORD + 1) * (MOST_WORDS + 1)
    assert what_answered(200, body, {"content-type": kind}).startswith("HTTP 200 with ")


@pytest.mark.parametrize(
    ("body", "kind", "answer"),
    [
        (b"<html>Sign in", "text/html; charset=utf-8", "HTTP 200 with text/html that begins “Sign in”"),
        (b"<html>Sign in", "", "HTTP 200 with HTML that begins “Sign in”"),
        (b"", "text/html", "HTTP 200 with an empty body"),
        (b"{}", "application/json", "HTTP 200 with application/json"),
        (b"...", "", "HTTP 200 with a body of no stated kind"),
    ],
)
def test_an_answer_is_described(body: bytes, kind: str, answer: str) -> None:
    assert what_answered(200, body, {"content-type": kind} if kind else {}) == answer


def test_a_page_is_known_by_its_bytes_or_its_kind() -> None:
    assert is_page(b" <!doctype html>", {})
    assert is_page(b"", {"content-type": "Text/HTML"})
    assert not is_page(b"{}", {"content-type": "application/json"})
