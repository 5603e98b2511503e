"""Prints which modules a layer has, as JSON: `python3.X -I -S names.py LIBRARY`, run by a Python of its minor version.

`packages` and `modules` are those in LIBRARY (lib/python3.X in the tree); `builtin` are in the interpreter itself; and
`stdlib` are all names of the standard library, whether the layer has them or not.
"""

import json
import marshal
import sys


def main(library: str) -> None:
    with open(f"{library}/modules.bin", "rb") as file:
        _importer, index = marshal.loads(file.read(int.from_bytes(file.read(4), "little")))
    packages = sorted(name for name, place in index.items() if not isinstance(place, str) and place[2])
    found = {
        "packages": packages,
        "modules": sorted(set(index) - set(packages)),
        "builtin": sorted(sys.builtin_module_names),
        "stdlib": sorted(sys.stdlib_module_names),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
