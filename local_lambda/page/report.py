"""The page as one file that needs nothing else: what was on it, its style and its scripts, without its buttons.

The data are JSON in an element that no browser runs. The file's policy allows only the scripts and the style that are
in it, by their hashes, so nothing that was logged can become a part of the page.
"""

import base64
import hashlib
import re
import time
from collections.abc import Mapping
from importlib import resources

import orjson

from local_lambda.page.tables import Tables

# Path, file and type of what the page is made of.
FILES: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{f"/{name}.css": (f"{name}.css", "text/css") for name in ("colours", "page", "timeline")},
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript")
        for name in ("dom", "model", "timeline", "panels", "records", "controls", "main")
    },
}
# Nothing but what is named beside it; and text never becomes HTML, whatever a script does with it.
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

_STYLE = re.compile(r'<link rel="stylesheet" href="(.+)" />')
_SCRIPT = re.compile(r'<script src="(.+)"></script>')
_ICON = re.compile(r'\n *<link rel="icon".*/>')
_DATA = '<script type="application/json" id="data"></script>'
_HEAD = '<meta charset="utf-8" />'


def read_file(name: str) -> str:
    """Return the text of one of the page's files."""
    return resources.files("local_lambda.page").joinpath("static", name).read_text(encoding="utf-8")


def report(tables: Tables) -> str:
    """Return the file."""
    page = _ICON.sub("", read_file("index.html"))
    hashes: dict[str, list[str]] = {"style": [], "script": []}

    def inline(tag: str, name: str) -> str:
        text = read_file(name)
        digest = hashlib.sha256(text.encode()).digest()
        hashes[tag].append(f"'sha256-{base64.b64encode(digest).decode()}'")
        return f"<{tag}>{text}</{tag}>"

    page = _STYLE.sub(lambda found: inline("style", found[1]), page)
    page = _SCRIPT.sub(lambda found: inline("script", found[1]), page)
    policy = "; ".join([POLICY, *(f"{tag}-src {' '.join(found)}" for tag, found in hashes.items())])
    page = page.replace(_HEAD, f'{_HEAD}\n    <meta http-equiv="Content-Security-Policy" content="{policy}" />', 1)
    # In JSON `<` can stand in strings only, where it can be written otherwise; so no text ends the element.
    data = orjson.dumps({"now": time.time(), **tables.since(0)}).decode().replace("<", "\\u003c")
    return page.replace(_DATA, _DATA.replace("><", f">{data}<"), 1)
