"""Environments with Lambda's file system: what is written for Lambda runs in them untouched.

The extensions here have the habits of public ones: files at fixed places in /opt, a listener that is bound by Lambda's
name, a fixed port, the Logs API, a wrapper script, a runtime in a layer.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from local_lambda import Fleet, Function, LocalLambda, Platform
from local_lambda.errors import LimitsUnavailable
from local_lambda.machine import file_system, rooms
from tests.integration.local_lambda_probe import FUNCTIONS
from tests.integration.ordinary_user import live_as_ordinary_user, needs_another_user

HERE = Path(__file__).parent
OWN = Platform(file_system="own")
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
LINES = Function(code=FUNCTIONS, handler="app.handler", timeout_s=10.0)

pytestmark = pytest.mark.skipif(bool(rooms.why_not()), reason=f"no mount namespaces here: {rooms.why_not()}")


def layer_with_listener(folder: Path, name: str = "listener") -> Path:
    """Make a layer as AWS's samples are: a script in extensions/ that runs a program in a directory of its own."""
    (folder / "extensions").mkdir(parents=True)
    (folder / name).mkdir()
    shutil.copy(HERE / "rooms" / "listener.py", folder / name / "extension.py")
    start = folder / "extensions" / name
    start.write_text(f'#!/bin/sh\nexport EXTENSION_NAME="${{0##*/}}"\nexec /opt/{name}/extension.py\n')
    start.chmod(0o755)
    (folder / name / "extension.py").chmod(0o755)
    return folder


def function_of(folder: Path, text: str, **settings: object) -> Function:
    folder.mkdir()
    (folder / "app.py").write_text(text)
    return Function(**{"code": folder, "timeout_s": 10.0, **settings})  # type: ignore[arg-type]


async def answer(function: Function, **env: object) -> object:
    async with LocalLambda(function, platform=OWN, **env) as place:  # type: ignore[arg-type]
        result = await place.invoke({})
        assert result.function_error is None, result.payload
        return result.json()


@pytest.mark.parametrize("api", ["telemetry", "logs"])
async def test_fixed_paths_in_opt_and_a_listener_bound_by_name(tmp_path: Path, api: str) -> None:
    layer = layer_with_listener(tmp_path / "layer")
    function = Function(code=FUNCTIONS, environment={"EXTENSION_API": api}, timeout_s=10.0)
    async with LocalLambda(function, layers=[layer], platform=OWN) as env:
        await env.invoke({"print": ["one line"]})
        end = await env.shutdown()
    assert end.extensions["listener"].exit_code == 0
    said = env.extension_output("listener")
    assert said[0] == ('subscribed "OK"\n')
    assert "one line" in "".join(json.loads(said[-1].removeprefix("seen ")))


async def test_ten_environments_of_an_extension_with_a_fixed_port(tmp_path: Path) -> None:
    layer = layer_with_listener(tmp_path / "layer")
    async with Fleet(LINES, layers=[layer], concurrency=10, platform=OWN) as fleet:
        await fleet.provision(10)
        environments = dict(fleet.environments)
        await asyncio.gather(*(fleet.invoke({"print": [f"line {number}"]}) for number in range(10)))
    seen = [env.extension_output("listener")[-1] for env in environments.values()]
    lines = sorted(line for one in seen for line in json.loads(one.removeprefix("seen ")) if line.startswith("line"))
    assert lines == sorted(f"line {number}\n" for number in range(10))
    assert len({env.telemetry_host for env in environments.values()}) == 10


ASKS = """
import os, urllib.request
def handler(event, context):
    print("line", event)
    own = os.environ["AWS_LAMBDA_RUNTIME_API"]
    places = ("localhost:2773", "127.0.0.1:4243", "sandbox:4243")
    return [urllib.request.urlopen(f"http://{place}").read().decode() == own for place in places]
"""


@pytest.mark.parametrize("binds", ["0.0.0.0", "::"])
async def test_ports_bound_at_all_addresses_and_at_localhost_are_each_environments_own(
    tmp_path: Path, binds: str
) -> None:
    """The function finds its own extension, the platform as well, and nobody is told that an address is in use."""
    layer = layer_with_listener(tmp_path / "layer")
    function = function_of(tmp_path / "code", ASKS, environment={"EXTENSION_BINDS": binds})
    async with Fleet(function, layers=[layer], concurrency=10, platform=OWN) as fleet:
        await fleet.provision(10)
        environments = dict(fleet.environments)
        answers = await asyncio.gather(*(fleet.invoke(number) for number in range(10)))
    assert [answer.json() for answer in answers] == [[True] * 3] * 10
    seen = [env.extension_output("listener")[-1] for env in environments.values()]
    lines = sorted(line for one in seen for line in json.loads(one.removeprefix("seen ")))
    assert lines == [f"line {number}\n" for number in range(10)]


async def test_a_listener_at_localhost_is_not_what_the_platform_reaches(tmp_path: Path) -> None:
    layer = layer_with_listener(tmp_path / "layer")
    function = Function(code=FUNCTIONS, environment={"EXTENSION_BINDS": "127.0.0.1"}, timeout_s=10.0)
    async with Fleet(function, layers=[layer], concurrency=2, platform=OWN) as fleet:
        await fleet.invoke({"print": ["unheard"]})
        (env,) = fleet.environments.values()
    assert env.extension_output("listener")[-1] == "seen []\n"


async def test_only_tmp_can_be_written_and_it_has_its_size(tmp_path: Path) -> None:
    text = """
import errno, os
def handler(event, context):
    open("/tmp/mine", "w").write("x")
    refused = []
    for place in ("/var/task/x", "/opt/x", "/etc/x", "/x", "/usr/x", "/dev/shm/x", os.path.expanduser("~root/x")):
        try:
            open(place, "w")
        except OSError as error:
            refused.append(errno.errorcode[error.errno])
    space = os.statvfs("/tmp")
    return [sorted(set(refused)), len(refused), space.f_blocks * space.f_frsize, sorted(os.listdir("/tmp"))]
"""
    seen = await answer(function_of(tmp_path / "code", text, ephemeral_mb=1024))
    refused = ["EACCES", "EROFS"] if os.geteuid() else ["EROFS"]
    assert seen[0] in (refused, ["EROFS"])  # type: ignore[index]
    assert seen[1:] == [7, 1024 * 1024 * 1024, ["mine"]]  # type: ignore[index]
    assert "mine" not in os.listdir(tempfile.gettempdir())


async def test_tmp_outlives_a_reset_and_is_nobody_elses(tmp_path: Path) -> None:
    text = """
import os, time
def handler(event, context):
    if event:
        open("/tmp/" + event, "w").close()
        time.sleep(60)
    return os.listdir("/tmp")
"""
    function = function_of(tmp_path / "code", text, timeout_s=0.5)
    async with LocalLambda(function, platform=OWN) as one, LocalLambda(function, platform=OWN) as other:
        assert (await one.invoke("kept")).error_type == "Sandbox.Timedout"
        assert (await one.invoke("")).json() == ["kept"]
        assert (await other.invoke("")).json() == []


async def test_a_function_sees_its_own_files_and_no_package_of_this_tool(tmp_path: Path) -> None:
    text = """
import importlib.util, sys
def handler(event, context):
    found = [name for name in ("aiohttp", "orjson", "click", "boto3", "pip") if importlib.util.find_spec(name)]
    return [found, sys.path[0], sys.path[-1], sys.prefix, exit.__class__.__name__]
"""
    function = function_of(tmp_path / "code", text)
    assert await answer(function) == [[], "/var/task", "/var/runtime", "/var/lang", "Quitter"]


async def test_boto3_is_there_if_it_was_asked_for(tmp_path: Path) -> None:
    text = "import boto3\ndef handler(event, context):\n    return boto3.client('s3').meta.region_name\n"
    assert await answer(function_of(tmp_path / "code", text, boto3=True, region="eu-west-1")) == "eu-west-1"


async def test_a_package_in_the_code_hides_the_runtimes(tmp_path: Path) -> None:
    function = function_of(
        tmp_path / "code", "import six\ndef handler(event, context):\n    return six.mine\n", boto3=True
    )
    (tmp_path / "code" / "six.py").write_text("mine = 'my own'\n")
    assert await answer(function) == "my own"


async def test_layers_bring_modules_libraries_and_programs(tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    packages = layer / f"python/lib/{PYTHON}/site-packages"
    packages.mkdir(parents=True)
    (packages / "deep.py").write_text("word = 'deep'\n")
    (layer / "python" / "flat.py").write_text("word = 'flat'\n")
    (layer / "bin").mkdir()
    (layer / "bin" / "tool").write_text("#!/bin/sh\necho from $0\n")
    (layer / "bin" / "tool").chmod(0o755)
    text = """
import subprocess, deep, flat
def handler(event, context):
    return [deep.word, flat.word, subprocess.run(["tool"], capture_output=True, text=True).stdout]
"""
    assert await answer(function_of(tmp_path / "code", text), layers=[layer]) == [
        "deep",
        "flat",
        "from /opt/bin/tool\n",
    ]


async def test_the_handler_may_be_in_a_layer(tmp_path: Path) -> None:
    (tmp_path / "layer" / "python").mkdir(parents=True)
    (tmp_path / "layer" / "python" / "wrapping.py").write_text("def handler(event, context):\n    return 'wrapped'\n")
    function = function_of(tmp_path / "code", "", handler="wrapping.handler")
    assert await answer(function, layers=[tmp_path / "layer"]) == "wrapped"


async def test_an_exec_wrapper_starts_the_runtime(tmp_path: Path) -> None:
    layer = wrapper_of(tmp_path / "layer", 'export WRAPPED="$#"\nexec "$@"')
    text = "import os\ndef handler(event, context):\n    return os.environ['WRAPPED']\n"
    given = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}
    for place in ("own", "shared"):
        function = function_of(tmp_path / place, text, environment=given)
        platform = Platform(file_system=place)  # type: ignore[arg-type]
        async with LocalLambda(function, layers=[layer], platform=platform) as env:
            assert (await env.invoke({})).json() == "3"  # the interpreter, its option, the bootstrap


def wrapper_of(folder: Path, text: str) -> Path:
    """Make a layer with a wrapper."""
    folder.mkdir()
    (folder / "wrapper").write_text(f"#!/bin/bash\n{text}\n")
    (folder / "wrapper").chmod(0o755)
    return folder


async def test_a_wrapper_may_add_an_option_before_the_last_word_and_name_another_handler(tmp_path: Path) -> None:
    """As AWS's documentation does it, and as wrappers of observability vendors do."""
    start = 'args=("$@")\nexec "${args[@]:0:$#-1}" -X dev "${args[@]: -1}"'
    layer = wrapper_of(tmp_path / "layer", f"export _HANDLER=other.handler\n{start}")
    (layer / "python").mkdir()
    other = "import sys\ndef handler(event, context):\n    return sys.flags.dev_mode\n"
    (layer / "python" / "other.py").write_text(other)
    given = {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}
    function = function_of(tmp_path / "code", "", environment=given)
    assert await answer(function, layers=[layer]) is True
    named = function_of(tmp_path / "named", "", environment=given, runtime=PYTHON, handler="run.sh")
    assert await answer(named, layers=[layer]) is True, "what it starts is its own affair"


async def test_a_bootstrap_in_a_layer_is_not_for_a_function_with_a_handler(tmp_path: Path) -> None:
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer" / "bootstrap").write_text("#!/bin/sh\nexit 1\n")
    function = function_of(tmp_path / "code", "def handler(event, context):\n    return 'python'\n")
    assert await answer(function, layers=[tmp_path / "layer"]) == "python"


async def test_an_extension_in_a_layer_finds_python_and_nothing_that_is_installed_here(tmp_path: Path) -> None:
    folder = tmp_path / "layer" / "extensions"
    folder.mkdir(parents=True)
    (folder / "mine").write_text("#!/bin/sh\nexec python -u /opt/mine.py\n")
    (folder / "mine").chmod(0o755)
    program = """
import http.client, json, os, sys, pkgutil
def call(method, path, headers, body=None):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.headers
me = call("POST", "/2020-01-01/extension/register", {"Lambda-Extension-Name": "mine"}, '{"events": ["SHUTDOWN"]}')
places = [path for path in sys.path if path.startswith("/var/lang") and "packages" in path]
print(sys.prefix, [one.name for one in pkgutil.iter_modules(places)])
call("GET", "/2020-01-01/extension/event/next", {"Lambda-Extension-Identifier": me["Lambda-Extension-Identifier"]})
"""
    (tmp_path / "layer" / "mine.py").write_text(program)
    async with LocalLambda(LINES, layers=[tmp_path / "layer"], platform=OWN) as env:
        await env.shutdown()
    assert env.extension_output("mine") == ["/var/lang []\n"]


@pytest.mark.parametrize("place", ["code", "layer"])
async def test_a_bootstrap_is_the_runtime(tmp_path: Path, place: str) -> None:
    code, layer = tmp_path / "code", tmp_path / "layer"
    for folder in (code, layer):
        folder.mkdir()
    bootstrap = (tmp_path / place) / "bootstrap"
    bootstrap.write_text(f"#!{sys.executable}\n" + (FUNCTIONS / "bootstrap.py").read_text())
    bootstrap.chmod(0o755)
    (code / "hello.txt").write_text("hi")
    function = Function(code=code, handler="whatever", timeout_s=10.0)
    async with LocalLambda(function, layers=[layer], platform=OWN) as env:
        assert (await env.invoke({"n": 1})).json()["echo"] == {"n": 1}
        assert env.telemetry[0]["record"]["runtimeVersion"] == "provided:al2023.v0"


async def test_what_lies_in_this_machines_opt_is_never_found(tmp_path: Path) -> None:
    text = "import os\ndef handler(event, context):\n    return os.listdir('/opt')\n"
    assert await answer(function_of(tmp_path / "code", text)) == ["extensions"]


def test_where_ports_cannot_be_kept_apart_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_system, "why_no_ports", lambda: "seccomp is off")
    (remark,) = LocalLambda(LINES, platform=Platform(own_ports=True)).remarks
    assert remark.startswith("Environments share ports (seccomp is off): ")
    assert LocalLambda(LINES).remarks == [], "one alone needs none"


async def test_where_there_are_no_namespaces_it_is_said_and_the_rest_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_system, "why_not", lambda: "the system says no")
    function = function_of(tmp_path / "code", "def handler(event, context):\n    return 'ran'\n")
    async with LocalLambda(function) as env:
        assert (await env.invoke({})).json() == "ran"
        assert env.limits is not None
        assert env.limits.file_system == "shared: the system says no"
        assert env.telemetry_host == "127.0.0.2"
        assert env.remarks == [
            "The environment shares this machine's files (the system says no): nothing lies at /opt, and"
            " sandbox.localdomain is no name."
        ]
    with pytest.raises(LimitsUnavailable, match="cannot be had: the system says no"):
        LocalLambda(function, platform=OWN)


@needs_another_user
async def test_an_ordinary_user_has_them_too(tmp_path: Path) -> None:
    layer = layer_with_listener(tmp_path / "layer")
    said = await live_as_ordinary_user(layer, "listener", {})
    assert "as somebody" in said[-1]
