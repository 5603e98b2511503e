"""What becomes of sources in a layer: patterns compiled by the builder, stars spelled out, all modules in one file."""

import ast
import importlib.util
import marshal
import re
import subprocess
import sys
from pathlib import Path

import pytest

from layer import bundle, patterns, stars

PATTERNS = r"""
import re
PART = "[a-z]"
WORDS = re.VERBOSE | re.IGNORECASE
one = re.compile(r"(?P<first>\d+)-(?P<second>[a-zé]+)", re.ASCII)
two = re.compile(rf"{PART}+ # words", flags=WORDS)
three = re.compile(b"\\xff" + b"[^\\x00-\\x1f]{2,}")
class Holder:
    four = re.compile("(a|b)*\\1$", re.M)
def later():
    return re.compile("later")
"""


def test_patterns_are_compiled_by_the_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    """At module level none is compiled any more, and each is equal to what `re.compile` makes of it."""
    wanted: dict[str, object] = {}
    exec(PATTERNS, wanted)
    made = compile(patterns.precompile(ast.parse(PATTERNS)), "made", "exec")
    found: dict[str, object] = {}
    with monkeypatch.context() as patch:
        patch.setattr(re, "compile", None)
        exec(made, found)
    for name in ("one", "two", "three"):
        assert found[name] == wanted[name], name
    ours, theirs = (vars(names["Holder"])["four"] for names in (found, wanted))  # type: ignore[call-overload]
    assert ours == theirs
    one = found["one"]
    assert isinstance(one, re.Pattern)
    assert one.groupindex == {"first": 1, "second": 2}
    matched = one.match("12-abc")
    assert matched is not None
    assert (matched["second"], matched.lastgroup) == ("abc", "second")
    assert found["later"]() == re.compile("later")  # type: ignore[operator]


@pytest.mark.parametrize(
    "source",
    [
        "import re\nx = 'a'\nx = 'b'\none = re.compile(x)",
        "import re\nimport sys\none = re.compile(sys.platform)",
        "import re\none = re.compile('a', int('2'))",
        "from mine import re\none = re.compile('a')",
        "import regex as re\none = re.compile('a')",
        "import re\nfor x in 'ab':\n    one = re.compile(x)",
        "import re\ndef f():\n    global x\n    x = 'b'\nx = 'a'\none = re.compile(x)",
    ],
)  # fmt: skip
def test_what_is_not_known_before_it_runs_stays(source: str) -> None:
    assert ast.unparse(patterns.precompile(ast.parse(source))) == ast.unparse(ast.parse(source))


def test_stars_are_spelled_out(tmp_path: Path) -> None:
    """A name for each that the part offers, and the part itself; what a package offers stays the same."""
    (tmp_path / "plain.py").write_text("__all__ = ('one', 'two')\none = two = three = 1\n")
    (tmp_path / "grown.py").write_text("__all__ = ('four',)\nif True:\n    __all__ += ('five',)\n")
    (tmp_path / "used.py").write_text("__all__ = ('six',)\n")
    package = ast.parse(
        "from .plain import *\nfrom .grown import *\nfrom .used import *\nfrom .missing import *\n"
        "__all__ = plain.__all__ + grown.__all__ + used.__all__\nprint(used)\ndef f():\n    return plain.three\n"
    )
    assert ast.unparse(stars.spell_out(package, str(tmp_path))) == (
        "from .plain import one, two\nfrom . import plain\nfrom .grown import *\nfrom .used import *\n"
        "from .missing import *\n__all__ = ('one', 'two') + grown.__all__ + used.__all__\nprint(used)\n\n"
        "def f():\n    return plain.three"
    )


def test_asyncio_offers_what_it_did() -> None:
    """The one package that gains by it: its `__all__` as it was, and each of the names is there, and each part."""
    script = (
        "import ast, importlib.util, sys, types; sys.path.append(sys.argv[1]); import stars\n"
        "found = importlib.util.find_spec('asyncio')\n"
        "with open(found.origin) as file: plain = ast.parse(file.read())\n"
        "spelled = stars.spell_out(ast.parse(ast.unparse(plain)), found.submodule_search_locations[0])\n"
        "assert 'from .locks import Lock' in ast.unparse(spelled)\n"
        "made = sys.modules['asyncio'] = importlib.util.module_from_spec(found)\n"
        "exec(compile({'plain': plain, 'spelled': spelled}[sys.argv[2]], found.origin, 'exec'), vars(made))\n"
        "print(made.__all__, [type(getattr(made, name)) for name in made.__all__])\n"
        "print([name for name, value in vars(made).items() if isinstance(value, types.ModuleType)])\n"
    )
    command = [sys.executable, "-I", "-c", script, str(Path(stars.__file__).parent)]
    plain, spelled = (
        subprocess.run([*command, which], check=True, timeout=30, capture_output=True, text=True).stdout.splitlines()
        for which in ("plain", "spelled")
    )
    assert spelled[0] == plain[0]
    assert set(ast.literal_eval(plain[1])) == set(ast.literal_eval(spelled[1]))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """lib/python3.X with a package that has data, one module outside, and a codec, bundled."""
    sources = {
        "mine/__init__.py": "from mine import part\n",
        "mine/part.py": "def fail():\n    raise ValueError('here')\n",
        "single.py": "import mine.part\n",
        "encodings/klingon.py": "",
    }
    root = tmp_path / "lib"
    for name, text in sources.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".pyc").write_bytes(written(text, f"/opt/lib/{name}"))
    (root / "mine" / "data.txt").write_text("data")
    subprocess.run([sys.executable, "-IS", bundle.__file__, str(root)], check=True, timeout=30)
    return root


def written(text: str, shown: str) -> bytes:
    """Return what a .pyc holds for a source."""
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(compile(text, shown, "exec"))


def told(library: Path, script: str) -> str:
    opening = bundle.OPENING.format(root=library)
    ended = subprocess.run([sys.executable, "-IS", "-c", opening + script], capture_output=True, text=True, timeout=30)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_modules_lie_in_one_file(library: Path) -> None:
    """Only what the interpreter reads before any program, its codecs, and data are files."""
    left = sorted(str(path.relative_to(library)) for path in library.rglob("*") if path.is_file())
    assert left == ["encodings/klingon.pyc", "mine/data.txt", "modules.bin"]


def test_modules_of_the_file_are_as_those_of_files(library: Path) -> None:
    """Path, package and loader are what they would be; a package finds its data; what is missing is missing."""
    script = (
        "import importlib.util, pkgutil, single, sys, mine\n"
        "print(single.__file__, mine.__file__, mine.__path__, mine.part.__package__)\n"
        "print(pkgutil.get_data('mine', 'data.txt'), mine.__spec__.loader.is_package('mine'))\n"
        "from importlib import resources, reload\n"
        "print(resources.files('mine').joinpath('data.txt').read_text(), reload(mine) is mine)\n"
        "print(importlib.util.find_spec('mine.missing'), importlib.util.find_spec('nothing'))\n"
    )
    assert told(library, script).splitlines() == [
        f"{library}/single.pyc {library}/mine/__init__.pyc ['{library}/mine'] mine",
        "b'data' True",
        "data True",
        "None None",
    ]


def test_tracebacks_name_file_and_line(library: Path) -> None:
    script = (
        "import mine, traceback\ntry:\n    mine.part.fail()\nexcept ValueError:\n    print(traceback.format_exc())\n"
    )
    assert 'File "/opt/lib/mine/part.py", line 2, in fail' in told(library, script)


def test_a_compiled_module_is_loaded_from_its_own_file(library: Path) -> None:
    """It comes before a module in Python of the same name, as among files, and lib-dynload is no package."""
    compiled = importlib.util.find_spec("_queue")
    if compiled is None or compiled.origin is None or not compiled.origin.endswith(".so"):
        pytest.skip("this Python has `_queue` built in")
    own = library / "lib-dynload" / Path(compiled.origin).name
    own.parent.mkdir()
    own.write_bytes(Path(compiled.origin).read_bytes())
    (library / "_queue.pyc").write_bytes(written("raise OSError", "x"))
    subprocess.run([sys.executable, "-IS", bundle.__file__, str(library)], check=True, timeout=30)
    assert told(library, "import _queue\nprint(_queue.__file__)").strip() == str(own)
