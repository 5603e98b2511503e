"""The executable that Lambda starts; the builder adds a first line that names the interpreter.

It is compiled at each start, so it is short. The builder leaves out this docstring and the comments (layer/build.py).
"""

import marshal
import os
import sys

CA_FILE = MODULES = ""  # the builder fills them in

environ = os.environ
# OpenSSL settings of the function or of its system: they may name a provider that the layer lacks, and then no TLS
# context can be made.
environ["OPENSSL_CONF"] = "/dev/null"
for name in ("OPENSSL_MODULES", "OPENSSL_ENGINES"):
    environ.pop(name, None)
if "SSL_CERT_FILE" not in environ and "SSL_CERT_DIR" not in environ:
    environ["SSL_CERT_FILE"] = CA_FILE

# What imports the layer's modules is at the head of the file that holds them (layer/bundle.py).
file = os.open(f"{MODULES}/modules.bin", os.O_RDONLY)
importer, index = marshal.loads(os.read(file, int.from_bytes(os.read(file, 4), "little")))
exec(importer, {"__name__": "layer", "file": file, "index": index, "root": MODULES})

from telemetry_forwarder.bootstrap import main

sys.exit(main(sys.argv[0].rpartition("/")[2], environ))
