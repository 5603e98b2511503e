"""Describe an answer that did not come from the destination: its status, content type and first words. Never a secret.

A captive portal, a proxy or a wrong site may answer with status 200, and its words help to identify it. But a body may
also echo the request with its credential. So only a title or a few first words are quoted, and never a word that could
be a token.
"""

import html
import re
from collections.abc import Mapping

LONGEST_WORD = 16
MOST_WORDS = 8
_READ_BYTES = 4096
_UNSEEN = re.compile(r"<(script|style|head)\b.*?(</\1\s*>|$)|<!--.*?(-->|$)", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>?", re.DOTALL)
# A word that may be quoted. Without digits among letters, `=` and `/`, it is never a key.
_WORD = re.compile(r"[A-Za-z'-]+[.,:;!?…]?|\d{1,4}[.,:;]?")
_KIND = re.compile(r"[a-z]+/[a-z0-9.+-]{1,40}", re.ASCII)


def is_page(body: bytes, headers: Mapping[str, str]) -> bool:
    """Return whether an answer is HTML or XML, by its first byte or its content type."""
    return body.lstrip()[:1] == b"<" or "html" in headers.get("content-type", "").lower()


def what_answered(status: int, body: bytes, headers: Mapping[str, str]) -> str:
    """Return a description like `HTTP 200 with text/html that begins “Sign in to …”`. Header names are lower-case."""
    kind = _KIND.match(headers.get("content-type", "").lower())
    if not body.strip():
        return f"HTTP {status} with an empty body"
    what = kind[0] if kind else ("HTML" if is_page(body, headers) else "a body of no stated kind")
    words = first_words(body)
    return f"HTTP {status} with {what}" + (f" that begins “{words}”" if words else "")


def first_words(body: bytes) -> str:
    """Return the title of a page or the first words of a text, cut and cleaned; "" if no word may be shown."""
    text = body[:_READ_BYTES].decode("utf-8", "replace")
    title = _TITLE.search(text)
    seen = html.unescape(title[1] if title else _TAG.sub(" ", _UNSEEN.sub(" ", text)))
    words = [word if _WORD.fullmatch(word) and len(word) <= LONGEST_WORD else "…" for word in seen.split()]
    shown = " ".join(words[:MOST_WORDS])
    return re.sub(r"…( …)+", "…", shown) + (" …" if len(words) > MOST_WORDS else "") if shown.strip("… ") else ""
