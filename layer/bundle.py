"""Puts the byte code of a layer's modules into one file, with an index: run by the layer's own Python.

    python3.X -I -S bundle.py LIBRARY

LIBRARY is lib/python3.X in the tree. Its `modules.bin` has the length of the head in 4 bytes, the head, and the
modules' code one after the other. The head is the importer (layer/finder.py) and the index, in Python's own format.
Where there is such a file already, the modules that were laid beside it since are added to it.
"""

import _imp
import importlib.machinery
import marshal
import os
import sys
from collections.abc import Iterator

NAME = "modules.bin"
_HEADER = 16  # bytes before the code in a .pyc
# Files that stay beside it. The interpreter reads them before it runs any code: the codecs, of which the locale
# chooses; and by `os` it finds its home.
_ALSO_FILES = ("encodings", "os")
# What a program begins with to import them, `root` being lib/python3.X; the launchers have it too.
OPENING = """
import marshal, os
file = os.open("{root}/modules.bin", os.O_RDONLY)
importer, index = marshal.loads(os.read(file, int.from_bytes(os.read(file, 4), "little")))
exec(importer, {{"__name__": "layer", "file": file, "index": index, "root": "{root}"}})
"""
Index = dict[str, tuple[int, int, bool] | str]


def main(library: str) -> None:
    index, codes = _made_before(os.path.join(library, NAME))
    for path in _files(library):
        name, ending = _module(path)
        if ending == ".pyc":
            with open(os.path.join(library, path), "rb") as file:
                code = file.read()[_HEADER:]
            if name not in index:
                index[name] = (len(codes), len(code), path.endswith("__init__.pyc"))
                codes += code
            if not _stays(name):
                os.remove(os.path.join(library, path))
        elif ending in importlib.machinery.EXTENSION_SUFFIXES or _is_for_other_processor(ending):
            index[name] = path  # comes before a module in Python with that name, as it does among files
    head = marshal.dumps((_importer(), index))  # type: ignore[arg-type]  # a code object is one that it takes
    # Not written over: this program's own modules may come from it.
    with open(os.path.join(library, f"{NAME}.new"), "wb") as file:
        file.write(len(head).to_bytes(4, "little") + head + codes)
    os.replace(os.path.join(library, f"{NAME}.new"), os.path.join(library, NAME))


def _made_before(bundle: str) -> tuple[Index, bytearray]:
    """Return the index and the modules' code of a file that is there; both empty if there is none."""
    if not os.path.exists(bundle):
        return {}, bytearray()
    with open(bundle, "rb") as file:
        _importer, index = marshal.loads(file.read(int.from_bytes(file.read(4), "little")))
        return index, bytearray(file.read())


def _files(library: str) -> Iterator[str]:
    """Yield the files in `library` as paths relative to it, always in the same order."""
    for directory, names, files in os.walk(library):
        names.sort()
        for name in sorted(files):
            yield os.path.relpath(os.path.join(directory, name), library)


def _module(path: str) -> tuple[str, str]:
    """Return the name of the module in the file `path`, and what follows it there: `.pyc`, `.cpython-315-….so`."""
    folder, _, file = path.removeprefix("lib-dynload/").rpartition("/")
    stem, dot, ending = file.partition(".")
    name = folder.replace("/", ".") if stem == "__init__" else f"{folder.replace('/', '.')}.{stem}".lstrip(".")
    return name, dot + ending


def _stays(name: str) -> bool:
    return name.partition(".")[0] in _ALSO_FILES or name in _imp._frozen_module_names()  # type: ignore[attr-defined]  # private


def _is_for_other_processor(ending: str) -> bool:
    return ending.startswith(f".{sys.implementation.cache_tag}-") and ending.endswith(".so")


def _importer() -> object:
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "finder.py")
    with open(source, "rb") as file:
        return compile(file.read(), f"<{NAME}>", "exec", dont_inherit=True, optimize=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
