"""What Lambda executes, under a line that names the interpreter. It is compiled at each start, so it is short; this
docstring and the comments stay behind (layer/build.py).
"""

import os
import sys

CA_FILE = ""  # written in by the builder

environ = os.environ
# The function's own, or its system's, OpenSSL settings: a provider that is not here would end every TLS context.
environ["OPENSSL_CONF"] = "/dev/null"
for name in ("OPENSSL_MODULES", "OPENSSL_ENGINES"):
    environ.pop(name, None)
if "SSL_CERT_FILE" not in environ and "SSL_CERT_DIR" not in environ:
    environ["SSL_CERT_FILE"] = CA_FILE

from telemetry_forwarder.bootstrap import main

sys.exit(main(sys.argv[0].rpartition("/")[2], environ))
