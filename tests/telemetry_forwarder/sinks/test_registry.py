"""Sinks by name: built-in ones, installed ones, and those that cannot be had."""

import subprocess
import sys
import textwrap

import pytest

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import Destination
from telemetry_forwarder.sinks import GROUP, load
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.table import BUILT_IN_SINKS

MODULE = """
from msgspec.structs import replace
from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import Destination, HttpDelivery
from telemetry_forwarder.sinks.datadog import Datadog
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.table import Problem

def create(environ):
    if environ.get("MINE") == "raise":
        raise RuntimeError("the key is " + environ["KEY"])
    if environ.get("MINE") == "none":
        return None
    if environ.get("MINE") == "problem":
        raise ConfigError([Problem("MINE", "unsound", "anything else", "It does not run.")])
    from telemetry_forwarder.sinks.datadog import create
    fine = create(read_all({"DD_API_KEY": "k"}))
    if environ.get("MINE") in CHANGES:
        return replace(fine, **CHANGES[environ["MINE"]])
    return fine

class Faulty(Datadog):
    @property
    def limits(self):
        raise RuntimeError("boom")

class Nameless(Datadog):
    name = None

class Unlimited(Datadog):
    limits = None

CHANGES = {
    "faulty": {"sink": Faulty(url="x")}, "nameless": {"sink": Nameless(url="x")},
    "unlimited": {"sink": Unlimited(url="x")},
    "no problems": {"problems": None}, "odd problems": {"problems": ("odd",)},
}
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution with four entry points: one that works and three that cannot be loaded."""
    (tmp_path / "fine_sink.py").write_text(MODULE)
    (tmp_path / "broken_sink.py").write_text("raise RuntimeError('boom')")
    metadata = tmp_path / "third_party-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        textwrap.dedent(f"""\
        [{GROUP}]
        Mine = fine_sink:create
        broken = broken_sink:create
        missing = no_such_module_of_ours:create
        nothing = fine_sink:no_such_function
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("fine_sink", "broken_sink"):
        sys.modules.pop(name, None)


# What every built-in sink needs, to be made.
ENVIRON = {
    "SPLUNK_HEC_URL": "https://h", "SPLUNK_HEC_TOKEN": "t", "DD_API_KEY": "k", "CLOUDWATCH_LOG_GROUP": "g",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "https://h",
    "LOKI_ADDR": "https://h", "ELASTICSEARCH_URL": "https://h", "OPENSEARCH_URL": "https://h",
    "AXIOM_TOKEN": "t", "AXIOM_DATASET": "d", "HONEYCOMB_API_KEY": "k", "HONEYCOMB_DATASET": "d",
    "SUMO_HTTP_ENDPOINT": "https://h/receiver/v1/http/t", "NEW_RELIC_LICENSE_KEY": "k",
    "TELEMETRY_FORWARDER_HTTP_URL": "https://h",
    "AWS_REGION": "eu-west-1", "FIREHOSE_STREAM_NAME": "s", "KINESIS_STREAM_NAME": "s",
    "S3_LOGS_URI": "s3://logs",
}  # fmt: skip
# The files of a sink beside its own, by its name.
STREAMS = ["streams", "json_lines", "line_formats", "aws_services"]
PARTS = {
    "axiom": ["json_objects"],
    "honeycomb": ["json_objects"],
    "sumologic": ["json_objects"],
    "newrelic": ["newrelic_metrics"],
    "http": ["json_objects", "json_requests", "login"],
    "elasticsearch": ["bulk", "login"],
    "opensearch": ["bulk", "login"],
    "loki": ["loki_push", "login"],
    "firehose": STREAMS,
    "kinesis": STREAMS,
    "s3": ["json_lines", "aws_services"],
}


def problem_of(caught):
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("name", BUILT_IN_SINKS)
def test_a_built_in_sink_is_named_as_it_is_chosen(name):
    assert load(name)(read_all(ENVIRON)).sink.name == name


@pytest.mark.parametrize("name", BUILT_IN_SINKS)
def test_nothing_of_a_sink_is_imported_that_is_not_asked_for(name):
    """Reading all that the environment says, and making the settings of another sink, loads no file of it."""
    others = {"datadog": "splunk"}.get(name, "datadog")
    # A setting with our own prefix is explained, with all sinks at hand, if its sink is not named.
    given = {key: text for key, text in ENVIRON.items() if not key.startswith("TELEMETRY_FORWARDER_")}
    modules = {f"telemetry_forwarder.sinks.{module}" for module in (BUILT_IN_SINKS[name], *PARTS.get(name, ()))}
    code = f"""
import sys
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.variables.reading import read_all
found = Settings.from_values(read_all({given | {"TELEMETRY_FORWARDER_SINKS": others}!r}))
assert [one.sink.name for one in found.destinations] == [{others!r}], found.problems
assert not {modules!r} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-S", "-c", SITE + code], check=True, timeout=60)


def test_only_the_sink_that_is_asked_for_is_imported():
    """And no metadata is read for a built-in one: a cold start would wait for it."""
    code = """
import sys
from telemetry_forwarder.sinks import load
load("splunk")
loaded = set(sys.modules)
assert "telemetry_forwarder.sinks.splunk_hec" in loaded
unwanted = {"telemetry_forwarder.sinks.datadog", "telemetry_forwarder.sinks.cloudwatch_logs", "importlib.metadata",
            "aiohttp", "botocore", "aiobotocore"}
assert not loaded & unwanted, loaded & unwanted
"""
    subprocess.run([sys.executable, "-S", "-c", SITE + code], check=True, timeout=60)


# -S, since what `site` runs for editable installs may import anything; so the paths are handed over.
SITE = f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}\n"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["mine", "Mine"])
def test_an_installed_sink_is_found_by_its_entry_point(name):
    assert isinstance(load(name)(read_all({})), Destination)


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(ConfigError) as caught:
        load("splank")
    problem = problem_of(caught)
    assert (problem.variable, problem.given) == ("TELEMETRY_FORWARDER_SINKS", "'splank'")
    assert "`splunk`, `datadog`, `cloudwatch`" in problem.allowed


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "said"),
    [("broken", "RuntimeError"), ("missing", "no_such_module_of_ours"), ("nothing", "no_such_function")],
)
def test_a_module_that_cannot_be_imported_is_a_problem_of_the_setting(name, said):
    with pytest.raises(ConfigError) as caught:
        load(name)
    assert problem_of(caught).variable == "TELEMETRY_FORWARDER_SINKS"
    assert said in str(caught.value)


@pytest.mark.usefixtures("installed")
def test_what_its_function_raises_is_a_problem_too_and_tells_no_secret():
    with pytest.raises(ConfigError) as caught:
        load("mine")(read_all({"MINE": "raise", "KEY": "not-a-real-key"}))
    assert "RuntimeError" in str(caught.value)
    assert "not-a-real-key" not in str(caught.value)
    with pytest.raises(ConfigError, match="NoneType"):
        load("mine")(read_all({"MINE": "none"}))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("fault", ["faulty", "nameless", "unlimited", "no problems", "odd problems"])
def test_a_destination_that_nobody_could_use_is_a_problem_of_the_setting(fault):
    """What everybody reads of it is read where its own sink alone is left out."""
    with pytest.raises(ConfigError, match=r"create\(environ\) (failed|returned)"):
        load("mine")(read_all({"MINE": fault}))


@pytest.mark.usefixtures("installed")
def test_its_own_config_error_passes_unchanged():
    with pytest.raises(ConfigError) as caught:
        load("mine")(read_all({"MINE": "problem"}))
    assert problem_of(caught).variable == "MINE"
