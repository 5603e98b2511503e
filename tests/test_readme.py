"""The README and docs/ promise what the code does."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import telemetry_forwarder
from telemetry_forwarder import sinks
from telemetry_forwarder.cli import _COMMANDS as COMMANDS
from telemetry_forwarder.cli import main
from telemetry_forwarder.cli.settings import markdown
from telemetry_forwarder.interfaces import DropReason
from telemetry_forwarder.variables.advice import ALIASES
from telemetry_forwarder.variables.reading import BY_NAME
from telemetry_forwarder.variables.table import VARIABLES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
LONGEST_README = 150
# Names that are written only to say that nobody reads them.
WRONG_NAMES = frozenset(ALIASES)
each_document = pytest.mark.parametrize("name", DOCUMENTS)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST_README


# --- settings -------------------------------------------------------------------------------------------------------


def test_settings_tables_are_those_that_the_code_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """To mend it: put what `telemetry-forwarder settings` prints between the two markers."""
    settings = DOCUMENTS["docs/settings.md"]
    tables = settings.partition("<!-- settings: begin -->\n")[2].partition("<!-- settings: end -->")[0]
    assert tables == markdown()
    main(["settings"])
    assert capsys.readouterr().out == markdown()


def test_every_variable_is_in_the_tables_once() -> None:
    assert len({one.name for one in VARIABLES}) == len(VARIABLES)


@each_document
def test_every_variable_that_a_document_names_exists(name: str) -> None:
    named = set(re.findall(r"\b(?:TELEMETRY_FORWARDER|SPLUNK|DD|CLOUDWATCH)_[A-Z_]*[A-Z]\b", DOCUMENTS[name]))
    known = {*BY_NAME, *sinks.every_variable()} | WRONG_NAMES
    known |= {one.removesuffix("__SINK") for one in known}  # behind two underscores stands the name of a sink
    assert {one for one in named if one not in known and one.partition("__")[0] not in known} == set()


def test_the_bound_of_a_hold_that_is_promised_is_the_default() -> None:
    bound = f"{BY_NAME['TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS'].default} ms"
    assert f"at most {bound} by default" in README


def test_the_template_to_copy_is_sound_and_lets_its_function_read_the_secret() -> None:
    lint_all = pytest.importorskip("cfnlint.api", reason="cfn-lint is for Python 3.14 and older").lint_all
    loads = importlib.import_module("cfnlint.decode.cfn_yaml").loads
    text = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert text is not None
    template = re.sub(r"^ {3}", "", text[1], flags=re.MULTILINE)
    found = [f"{one.rule.id} {one.message}" for one in lint_all(template) if not one.rule.id.startswith("I")]
    assert found == []
    function = loads(template)["Resources"]["Orders"]["Properties"]
    variables = function["Environment"]["Variables"]
    assert set(variables) <= set(BY_NAME)
    (right,) = function["Policies"][0]["Statement"]
    assert right["Action"] == "secretsmanager:GetSecretValue"
    assert right["Resource"] == variables["SPLUNK_HEC_TOKEN_SECRET_ARN"]


# --- messages -------------------------------------------------------------------------------------------------------


def texts_of(folder: Path) -> str:
    """Return every text in the code below `folder` but docstrings, `…` in the place of what is put in."""
    found = []
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) in docstrings:
                continue
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_every_message_that_troubleshooting_explains_is_one_that_the_code_writes() -> None:
    known = texts_of(Path(telemetry_forwarder.__file__).parent)
    rows = re.findall(r"^\| (.*?) \|", DOCUMENTS["docs/troubleshooting.md"], re.MULTILINE)
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row) if " " in message]
    assert len(messages) > 50
    pieces = [piece.strip(" ()") for message in messages for piece in message.split("…")]
    assert [piece for piece in pieces if piece not in known] == []


def test_every_reason_for_a_drop_is_explained() -> None:
    explained = set(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", DOCUMENTS["docs/durability.md"], re.MULTILINE))
    assert {reason.value for reason in DropReason} <= set(re.findall(r"\w+", " ".join(explained)))


# --- where things are -----------------------------------------------------------------------------------------------


def test_every_place_that_the_architecture_names_is_there() -> None:
    """A path is one from the root, or from the extension's package."""
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.py)?|\w+\.py)`", DOCUMENTS["docs/architecture.md"]))
    assert len(named) > 30
    package = Path(telemetry_forwarder.__file__).parent
    assert sorted(place for place in named if not ((ROOT / place).exists() or (package / place).exists())) == []


# --- links and commands ---------------------------------------------------------------------------------------------


def anchors_in(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


@each_document
def test_every_link_leads_to_a_file_and_a_heading_that_exist(name: str) -> None:
    broken = []
    for file, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)", DOCUMENTS[name]):
        target = (ROOT / name).parent / file if file else ROOT / name
        if not target.exists() or (anchor and anchor not in anchors_in(target.read_text())):
            broken.append(f"{file}#{anchor}")
    assert broken == []


def test_the_readme_links_to_every_document() -> None:
    """The pages of single sinks are linked from the page on sinks."""
    linked = README + DOCUMENTS["docs/sinks.md"].replace("](sinks/", "](docs/sinks/")
    assert [name for name in DOCUMENTS if name != "README.md" and f"]({name})" not in linked] == []


@each_document
def test_every_make_target_that_a_document_names_exists(name: str) -> None:
    """In code: between backticks, and in blocks."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^ *)make ([a-z][\w-]*)", code_of(DOCUMENTS[name]), re.MULTILINE)) <= targets


@each_document
def test_every_command_that_a_document_names_exists(name: str) -> None:
    named = set(re.findall(r"(?:^ *|`|bin/)telemetry-forwarder (\w+)", code_of(DOCUMENTS[name]), re.MULTILINE))
    assert named - {"lost"} <= set(COMMANDS)  # the event `telemetry-forwarder lost …` is no command


def code_of(text: str) -> str:
    """Return what stands in a document as code: its blocks, and what is between backticks, with those."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^ {4}.*$", text, re.MULTILINE)
    spans = re.findall(r"`[^`\n]+`", text)
    return "\n".join([*blocks, *indented, *spans])
