"""Makes the tests independent of how they were started and of the user's environment.

A background job (`make test &`) or nohup passes on ignored signals, a shell its variables, a login its umask. All of
them reach the extension, the functions and the commands that tests start, so they are reset before any test.
"""

import os
import re
import signal
import time
from collections.abc import Mapping

# Variables that the extension, the SDKs, HTTP clients, Python or C read.
_HEARD = re.compile(
    r"(AWS|DD|DATADOG|SPLUNK|CLOUDWATCH|TELEMETRY_FORWARDER|PARAMETERS_SECRETS|SECRETS_MANAGER|SSM_PARAMETER|LAMBDA|BOTO|SAM)_.*"
    r"|_HANDLER|_X_AMZN_TRACE_ID|(HTTP|HTTPS|ALL|NO)_PROXY|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|TZ|LANG|LANGUAGE|LC_.*|COLUMNS|LINES|(NO|FORCE|PY)_?COLORS?|CLICOLOR.*|NODE_OPTIONS|NODE_EXTRA_CA_CERTS"
    r"|PYTHON(STARTUP|OPTIMIZE|UNBUFFERED|WARNINGS|DEVMODE|ASYNCIODEBUG|UTF8|IOENCODING|DONTWRITEBYTECODE)",
    re.IGNORECASE,
)
_SIGNALS = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
)

# The settings to reach a package index, for the tests that build a layer.
NETWORK: Mapping[str, str] = {
    name: value for name, value in os.environ.items()
    if re.fullmatch(r"(HTTP|HTTPS|ALL|NO)_PROXY|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE", name, re.IGNORECASE)
}  # fmt: skip


def heard(name: str) -> bool:
    """Whether a variable would change the behaviour of the tested programs."""
    return _HEARD.fullmatch(name) is not None


def make_plain() -> None:
    """Reset the inherited variables, umask and signals. Programs started later inherit the reset state."""
    for name in [name for name in os.environ if heard(name)]:
        del os.environ[name]
    time.tzset()
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
