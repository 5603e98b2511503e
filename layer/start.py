"""The start program of a layer without an interpreter, run by the runtime's Python. `-m` would load runpy first."""

import os
import sys

sys.path.insert(0, f"{os.path.dirname(__file__)}/lib/python{sys.version_info[0]}.{sys.version_info[1]}")

from telemetry_forwarder.bootstrap import main

sys.exit(main(sys.argv[1], os.environ))
