"""What Lambda executes, as the layer has it: under a line that names the interpreter, for which this is read and compiled
at each start. So it is short: the docstring stays here (layer/build.py).
"""

import os
import sys

environ = os.environ
# The function's own, or its system's, OpenSSL settings: a provider that is not here would end every TLS context.
environ["OPENSSL_CONF"] = "/dev/null"
for name in ("OPENSSL_MODULES", "OPENSSL_ENGINES"):
    environ.pop(name, None)
if "SSL_CERT_FILE" not in environ and "SSL_CERT_DIR" not in environ:
    environ["SSL_CERT_FILE"] = CA_FILE  # noqa: F821 - written in by the builder

from telemetry_forwarder.bootstrap import main  # noqa: E402

sys.exit(main(sys.argv[0].rpartition("/")[2], environ))
