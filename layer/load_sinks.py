"""Loads the sinks of other packages from a layer, as the extension does: `python3.X -IS load_sinks.py LIBRARY`."""

import sys
from importlib.metadata import entry_points

if sys.argv[1] not in sys.path:  # with the runtime's own interpreter
    sys.path.insert(0, sys.argv[1])

for entry in entry_points(group="telemetry_forwarder.sinks"):
    try:
        create = entry.load()
    except ImportError as error:
        name = ".".join(filter(None, (error.name, getattr(error, "name_from", None))))
        of_python = name.partition(".")[0] in sys.stdlib_module_names
        advice = f"; if the layer leaves it out, make layer LAYER_STDLIB={name} carries it" if of_python else ""
        sys.exit(f"{entry.value} was not imported ({type(error).__name__}: {error}{advice})")
    except Exception as error:  # noqa: BLE001 - importing what others wrote may raise anything
        sys.exit(f"{entry.value} was not imported ({type(error).__name__}: {error})")
    if not callable(create):
        sys.exit(f"{entry.value} is no function")
