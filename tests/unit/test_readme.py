"""The README promises what the code does."""

import re
from pathlib import Path

import pytest

from telemetry_forwarder.cli import main
from telemetry_forwarder.cli.settings import markdown
from telemetry_forwarder.variables import VARIABLES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_settings_table_is_the_one_that_the_code_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """To mend it: put what `telemetry-forwarder settings` prints between the two markers."""
    table = README.partition("<!-- settings: begin -->\n")[2].partition("<!-- settings: end -->")[0]
    assert table == markdown()
    main(["settings"])
    assert capsys.readouterr().out == markdown()


def test_every_variable_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"\b(?:TELEMETRY_FORWARDER|SPLUNK|DD|CLOUDWATCH)_[A-Z_]+\b", README))
    assert named <= {variable.name for variable in VARIABLES}


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z-]+)\b", README)) <= set(targets)
