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


FAILING = """
from hypothesis import given, strategies as st

@given(st.integers(0, 10**9))
def test_it(number):
    print("tried", number)
    assert number < 1000
"""


def test_a_property_that_fails_keeps_and_prints_its_example(tmp_path: Path) -> None:
    """So that whoever reads the log of a run elsewhere can repeat it, and the next run here tries it first."""
    (tmp_path / "conftest.py").write_text(
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\nimport tests.conftest\nfrom hypothesis import settings\n"
        "from hypothesis.database import DirectoryBasedExampleDatabase\n"
        "assert settings().database is not None\n"
        "kept = settings(database=DirectoryBasedExampleDatabase('kept'))\n"
        "settings.register_profile('here', parent=kept); settings.load_profile('here')\n"
    )
    (tmp_path / "test_it.py").write_text(FAILING)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    assert "number=1000" in first
    assert "@reproduce_failure(" in first
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    assert re.findall(r"tried (\d+)", again)[0] == "1000"
