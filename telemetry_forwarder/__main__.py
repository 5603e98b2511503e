"""The entry point: `extensions/telemetry-forwarder` runs it with its own file name as argument.

This is the only code that reads `os.environ`.
"""

import os
import sys

from telemetry_forwarder.bootstrap import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "telemetry-forwarder", os.environ))
