"""What `extensions/telemetry-forwarder` runs, its own file name as argument. The only reader of the environment."""

import os
import sys

from telemetry_forwarder.bootstrap import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "telemetry-forwarder", os.environ))
