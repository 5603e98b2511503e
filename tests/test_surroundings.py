"""No test depends on who started the suite, and how."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import surroundings
from tests.layers import REPOSITORY

SHOW = """
import json, os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from tests.surroundings import make_plain
make_plain()
child = "from signal import *; import os; print(repr(getsignal(SIGINT)), repr(getsignal(SIGHUP)), sorted(os.environ))"
mask = os.umask(0)
os.umask(mask)
print(oct(mask), time.tzname[0], flush=True)
os.execv(sys.executable, [sys.executable, "-I", "-c", child])
"""
FOREIGN = {
    "AWS_PROFILE": "nosuch", "aws_region": "x", "DD_API_KEY": "x", "SPLUNK_HEC_URL": "x", "CLOUDWATCH_LOG_GROUP": "x",
    "TELEMETRY_FORWARDER_SINKS": "x", "HTTP_PROXY": "x", "https_proxy": "x", "SSL_CERT_FILE": "x", "TZ": "Asia/Tokyo",
    "LC_ALL": "tr_TR.UTF-8", "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT": "1",
}  # fmt: skip


def test_what_was_inherited_does_not_reach_what_a_test_starts() -> None:
    """As a background job of somebody with settings of his own: SIGINT and SIGHUP ignored, umask 077."""
    command = f"trap '' INT HUP; umask 077; exec '{sys.executable}' -c \"$SHOW\" '{REPOSITORY}'"
    given = {"PATH": os.environ["PATH"], "SHOW": SHOW, "HOME": "/kept", **FOREIGN}
    shown = subprocess.run(["sh", "-c", command], env=given, capture_output=True, text=True, check=True).stdout
    first, second = shown.splitlines()
    assert first == "0o22 UTC"
    assert "default_int_handler" in second
    assert "Handlers.SIG_DFL" in second
    assert "'HOME'" in second
    assert not [name for name in FOREIGN if f"'{name}'" in second]


def test_every_worker_runs_in_plain_surroundings() -> None:
    assert [name for name in os.environ if surroundings.heard(name)] == []


SOURCES = sorted(path for path in (REPOSITORY / "tests").rglob("*.py") if path != Path(__file__))
# Each is a default of the program: a test that binds it, or writes there, meets whoever else uses this machine.
BOUND = re.compile(r"""\b(?:bind|listen|create_server|start_server)\(\W*["'][^"']*["'],\s*(?:[1-9]\d*)\b""")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_test_has_a_port_of_its_own(path: Path) -> None:
    """Ports are asked for (0), or found by `free_port`."""
    assert not BOUND.search(path.read_text())
