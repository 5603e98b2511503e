"""The program of the layer, laid beside the package. A directory or `-m` would load runpy first, which takes 4 ms."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))  # -I leaves out a program's own directory

from telemetry_forwarder.bootstrap import main

sys.exit(main(sys.argv[1], os.environ))
