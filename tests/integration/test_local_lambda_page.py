"""What docs/local-lambda.md tells people to run runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/local-lambda.md").read_text()
STAYS = {"--serve", "--url", "--page"}
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    # What serves stays until Ctrl-C, and has tests of its own.
    if line.startswith("telemetry-forwarder") and not STAYS.intersection(line.split())
]
PROGRAMS = [
    block
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    if "boto3" not in block  # needs that endpoint: tests/integration/test_local_lambda_fleet.py
]
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60)


@needs_node
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_ends_well(command: str) -> None:
    words = shlex.split(command)
    ended = run(sys.executable, "-c", "from telemetry_forwarder.cli import main; main()", *words[1:])
    assert ended.returncode == 0, ended.stderr
    # A note is no complaint; in a checkout in which nothing was built there is one about the template's layer.
    assert [line for line in ended.stderr.splitlines() if not line.startswith("Note: ")] == []


@needs_node
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_of_the_page_runs(number: int, tmp_path: Path) -> None:
    file = tmp_path / "test_page.py"
    file.write_text(PROGRAMS[number])
    if "def test_" in PROGRAMS[number]:
        options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-o", "asyncio_mode=auto"]
        ended = run(sys.executable, "-m", "pytest", *options, str(file))
    else:
        ended = run(sys.executable, str(file))
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_page_was_read() -> None:
    assert len(COMMANDS) == 5
    assert len(PROGRAMS) == 3


def test_every_option_and_setting_of_the_page_exists() -> None:
    from local_lambda import Platform
    from local_lambda.cli.local import local

    options = {name for parameter in local.params for name in parameter.opts}
    table = PAGE.partition("| option | meaning |")[2].partition("\n\n")[0]
    named = set(re.findall(r"--[a-z][a-z0-9-]*", table))
    assert named == options
    settings = PAGE.partition("| setting | default |")[2]
    for name in re.findall(r"^\| `([a-z_]+)`", settings, re.MULTILINE):
        assert hasattr(Platform(), name)
