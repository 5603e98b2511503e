"""The executable that Lambda starts; the builder adds a first line that names the interpreter.

It is compiled at each start, so it is short. The builder leaves out this docstring and the comments (layer/build.py).
"""

import os
import sys

CA_FILE = ""  # the builder fills it in

environ = os.environ
# OpenSSL settings of the function or of its system: they may name a provider that the layer lacks, and then no TLS
# context can be made.
environ["OPENSSL_CONF"] = "/dev/null"
for name in ("OPENSSL_MODULES", "OPENSSL_ENGINES"):
    environ.pop(name, None)
if "SSL_CERT_FILE" not in environ and "SSL_CERT_DIR" not in environ:
    environ["SSL_CERT_FILE"] = CA_FILE

from telemetry_forwarder.bootstrap import main

sys.exit(main(sys.argv[0].rpartition("/")[2], environ))
