"""The start of a Python function: /var/runtime/bootstrap.py. It runs AWS's runtime interface client.

It is started with -S, so that nothing that is installed beside the interpreter is seen: on Lambda a function finds its
own files first, then those of its layers, the standard library, and the runtime's packages last.
"""

import os
import site
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _set_search_path() -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    layers = os.environ.pop("_LOCAL_LAMBDA_OPT", "/opt")
    first = [
        os.environ["LAMBDA_TASK_ROOT"],
        os.path.join(layers, "python", "lib", version, "site-packages"),
        os.path.join(layers, "python"),
    ]
    scripts_own = {_HERE, os.path.dirname(os.path.realpath(__file__))}
    rest = [folder for folder in sys.path if folder not in scripts_own]
    sys.path[:] = [*first, *rest, _HERE]


def main() -> None:
    _set_search_path()
    # What -S left out and a program may expect: exit(), help() and a sitecustomize, which layers bring.
    site.setquit()
    site.setcopyright()
    site.sethelper()
    site.execsitecustomize()

    from awslambdaric.__main__ import main as run

    run([sys.argv[0], os.environ["_HANDLER"]])


if __name__ == "__main__":
    main()
