"""The importer of a layer's modules, at the head of the file that holds them all: `modules.bin` (layer/bundle.py).

To find and to read some 250 files takes an eighth of what loading takes, and most of it is searching. Here a name is
looked up in a dict, and a module read with one call. What is no module stays in files beside it, and the modules have
the paths that they would have there: for tracebacks, and for packages that read data from their own directory.

The launcher runs it: `exec(code, {"file": …, "index": …, "root": …})`.
"""

import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader, SourcelessFileLoader
from marshal import loads
from posix import lseek, pread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

# The open file; its modules by name: offset, length, and whether it is a package; or a compiled module's file; the
# directory of all.
file: int
index: "dict[str, tuple[int, int, bool] | str]"
root: str
_start = lseek(file, 0, 1)  # behind the head, which was just read


class Loader(SourcelessFileLoader):
    """Loads one module from the file; all but its code it finds as a loader of files does."""

    def get_code(self, fullname: str) -> "CodeType":
        place = index[fullname]
        assert not isinstance(place, str)
        code: CodeType = loads(pread(file, place[1], _start + place[0]))
        return code


class Finder:
    """Finds the modules in the file, and the compiled ones beside it. What is in neither, others look for."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        place = index.get(name)
        if place is None:
            return None
        if isinstance(place, str):
            origin = f"{root}/{place}"
            spec = ModuleSpec(name, ExtensionFileLoader(name, origin), origin=origin)
        else:
            origin = f"{root}/{name.replace('.', '/')}{'/__init__' if place[2] else ''}.pyc"
            spec = ModuleSpec(name, Loader(name, origin), origin=origin, is_package=place[2])
            if spec.submodule_search_locations is not None:
                spec.submodule_search_locations.append(origin.rpartition("/")[0])
        spec.has_location = True
        return spec


sys.meta_path.insert(
    -1, Finder
)  # behind what is built in or frozen, which takes no reading, and before the file system
