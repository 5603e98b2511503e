"""What of CPython's standard library the layer carries: found by tracing real runs (tests/integration/test_layer_trace.py
repeats that), plus what comes into play only on a bad day.
"""

import shutil
from pathlib import Path

from layer.interpreter import Interpreter

# Modules and packages by their names, compiled ones included; what one version of Python does not have is passed over.
KEPT = frozenset(
    """
    __future__ _abc _ast _asyncio _bisect _blake2 _codecs _collections _collections_abc _colorize _compat_pickle
    _compression _contextvars _csv _datetime _decimal _elementtree _functools _hashlib _heapq _imp _io _json _locale
    _markupbase _md5 _opcode _opcode_metadata _operator _pickle _posixsubprocess _pydatetime _queue _random _sha1 _sha2
    _sha256 _sha3 _sha512 _signal _socket _sre _ssl _stat _string _struct _suggestions _sysconfig _thread _tokenize
    _typing _warnings _weakref _weakrefset abc argparse array ast asyncio atexit base64 binascii bisect builtins
    calendar codecs collections concurrent configparser contextlib contextvars copy copyreg csv dataclasses datetime
    decimal dis email encodings enum errno fcntl fnmatch functools genericpath getpass gettext grp gzip hashlib heapq
    hmac html http importlib inspect io ipaddress itertools json keyword linecache locale logging marshal math
    mimetypes netrc ntpath numbers opcode operator os pathlib pickle pkgutil platform posix posixpath pwd pyexpat queue
    quopri random re reprlib resource select selectors shlex shutil signal socket ssl stat string struct subprocess sys
    tempfile termios textwrap threading time token tokenize traceback types typing unicodedata urllib uuid warnings
    weakref xml zipfile zipimport zlib

    _strptime pprint stringprep faulthandler gc
    """.split()
)

# Parts of those packages that serve other systems, tools, or formats that nobody here reads.
NOT_KEPT = (
    "asyncio/__main__.py", "asyncio/proactor_events.py", "asyncio/windows_events.py", "asyncio/windows_utils.py",
    "concurrent/futures/process.py", "ctypes", "email/architecture.rst", "http/cookiejar.py", "http/server.py",
    "importlib/simple.py", "json/tool.py", "logging/config.py", "re/_casefix.py.in", "urllib/robotparser.py",
    "xml/dom", "xml/sax", "zipfile/__main__.py", "__pycache__", "test", "tests",
)  # fmt: skip

# Of 120 codecs those that a header, a host name, a certificate or a log line can ask for.
CODECS = frozenset(
    """
    __init__ aliases ascii charmap cp1252 cp437 idna iso8859_1 iso8859_15 latin_1 punycode raw_unicode_escape
    unicode_escape utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le utf_8 utf_8_sig
    """.split()
)


def copy(python: Interpreter, into: Path) -> None:
    """Copy what is kept `into` lib/python3.X: modules, and compiled ones beside them in lib-dynload."""
    for name in sorted(KEPT):
        if (module := python.stdlib / f"{name}.py").is_file():
            shutil.copyfile(module, into / module.name)
        elif (package := python.stdlib / name).is_dir():
            shutil.copytree(package, into / name, ignore=_superfluous(python.stdlib))
    # The interpreter knows its platform's directory by this name, and warns at each start where it is missing.
    dynload = into / "lib-dynload"
    dynload.mkdir()
    (dynload / "README").write_text("Compiled modules of the standard library.\n")
    for module in sorted(python.dynload.glob("*.so")) if python.dynload else []:
        if module.name.split(".")[0] in KEPT:
            shutil.copyfile(module, dynload / module.name)


def _superfluous(stdlib: Path):  # noqa: ANN202
    def ignored(directory: str, names: list[str]) -> set[str]:
        here = Path(directory).relative_to(stdlib).as_posix()
        of_codecs = here == "encodings"
        return {
            name
            for name in names
            if f"{here}/{name}" in NOT_KEPT
            or name in NOT_KEPT
            or (of_codecs and name.removesuffix(".py") not in CODECS)
            or not (name.endswith(".py") or (Path(directory) / name).is_dir())
        }

    return ignored
