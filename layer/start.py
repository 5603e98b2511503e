"""The start program of a layer without an interpreter, run by the runtime's Python. `-m` would load runpy first."""

import marshal
import os
import sys

MODULES = f"{os.path.dirname(__file__)}/lib/python{sys.version_info[0]}.{sys.version_info[1]}"
sys.path.insert(0, MODULES)
# What imports the layer's modules is at the head of the file that holds them (layer/bundle.py).
file = os.open(f"{MODULES}/modules.bin", os.O_RDONLY)
importer, index = marshal.loads(os.read(file, int.from_bytes(os.read(file, 4), "little")))
exec(importer, {"__name__": "layer", "file": file, "index": index, "root": MODULES})

from telemetry_forwarder.bootstrap import main

sys.exit(main(sys.argv[1], os.environ))
