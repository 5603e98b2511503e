"""The executable of a checkout, and of a layer that carries no interpreter, with every kind of Python around it."""

import json
import py_compile
import queue
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
LAUNCHER = REPOSITORY / "extensions" / "telemetry-forwarder"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHON = f"python{HERE}"
IDENTIFIER = "0f0b6a0e-5a1c-4c7e-9d3b-8a1f5e7c2d11"
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
PROBE = """
import json, os, sys
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "isolated": sys.flags.isolated, "no_site": sys.flags.no_site,
    "prefix": sys.prefix, "executable": sys.executable, "library_path": os.environ.get("LD_LIBRARY_PATH"),
}))
"""


class ExtensionsApi(ThreadingHTTPServer):
    """The Extensions API as far as an extension that wants no event sees it; each request is put in `requests`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: queue.Queue[tuple[str, str, dict[str, str], bytes]] = queue.Queue()
        self.register_status = 200
        self.closing = threading.Event()

    def next_request(self) -> tuple[str, str, dict[str, str], bytes]:
        return self.requests.get(timeout=10)


class _Handler(BaseHTTPRequestHandler):
    server: ExtensionsApi
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.take()
        status = self.server.register_status if self.path.endswith("/register") else 202
        body = b'{"functionName":"orders","functionVersion":"$LATEST","handler":"app.handler"}\n'
        self.send_response(status)
        self.send_header("X-Empty", "")
        if status == 200:
            self.send_header("Lambda-Extension-Identifier", IDENTIFIER)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.take()
        self.server.closing.wait(30)  # no event ever comes
        self.close_connection = True

    def take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.put((self.command, self.path, headers, body))

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[ExtensionsApi]:
    server = ExtensionsApi()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def opt(tmp_path: Path) -> Path:
    """A layer for the runtime's own Python as it lies in /opt, with a package that only tells how it was started."""
    root = tmp_path / "opt"
    (root / "extensions").mkdir(parents=True)
    shutil.copy2(LAUNCHER, root / "extensions" / "telemetry-forwarder")
    private = root / "telemetry-forwarder"
    private.mkdir()
    (tmp_path / "probe.py").write_text(PROBE)
    py_compile.compile(str(tmp_path / "probe.py"), str(private / "start.pyc"))
    (private / "python-version").write_text(f"{HERE}\n")
    return root


def bin_with(directory: Path, *programs: str, **links: str) -> str:
    """Make a directory for PATH that holds these programs of ours, and `links` (name to target) besides."""
    directory.mkdir()
    for program in programs:
        found = shutil.which(program)
        assert found, f"{program} is not on this machine"
        (directory / program).symlink_to(found)
    for name, target in links.items():
        (directory / name).symlink_to(target)
    return str(directory)


def run(executable: Path | str, path: str, **environ: str) -> dict[str, Any]:
    found = subprocess.run(
        [executable], env={"PATH": path, **environ}, capture_output=True, timeout=30, check=True, text=True, cwd="/"
    )
    assert found.stderr == ""
    told: dict[str, Any] = json.loads(found.stdout)
    return told


def idle(
    executable: Path, path: str, api: ExtensionsApi, shell: str | None = None, **environ: str
) -> subprocess.Popen[str]:
    command: list[str | Path] = [shutil.which(shell) or shell, executable] if shell else [executable]
    environ = {"PATH": path, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_port}", **environ}
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")


def test_file_is_what_lambda_executes() -> None:
    """Lambda wants mode 0755, and a shebang line without a carriage return."""
    assert stat.S_IMODE(LAUNCHER.stat().st_mode) == 0o755
    assert b"\r\n" not in LAUNCHER.read_bytes()
    assert sorted(entry.name for entry in LAUNCHER.parent.iterdir()) == ["telemetry-forwarder"]


def test_layer_runs_isolated_on_the_python_of_the_runtime(opt: Path, tmp_path: Path) -> None:
    """The function's PYTHONPATH and PYTHONHOME do not reach us."""
    path = bin_with(tmp_path / "bin", **{PYTHON: sys.executable})
    hostile = {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "/nowhere", "LD_LIBRARY_PATH": "/x"}
    told = run(opt / "extensions" / "telemetry-forwarder", path, **hostile)
    assert told["argv"] == [str(opt / "telemetry-forwarder" / "start.pyc"), "telemetry-forwarder"]
    assert (told["isolated"], told["no_site"]) == (1, 1)
    assert not [entry for entry in told["path"] if "nowhere" in entry or "site-packages" in entry]
    assert told["library_path"] == "/x"


def test_registered_name_is_the_file_name(opt: Path, tmp_path: Path) -> None:
    """Whoever renames the file in their own layer still registers under the name that Lambda knows."""
    (opt / "extensions" / "telemetry-forwarder").rename(opt / "extensions" / "zz forwarder.sh")
    told = run(opt / "extensions" / "zz forwarder.sh", bin_with(tmp_path / "bin", **{PYTHON: sys.executable}))
    assert told["argv"][1:] == ["zz forwarder.sh"]


def test_relative_start(opt: Path, tmp_path: Path) -> None:
    path = bin_with(tmp_path / "bin", **{PYTHON: sys.executable})
    started = subprocess.run(
        ["./telemetry-forwarder"],
        cwd=opt / "extensions",
        env={"PATH": path},
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert json.loads(started.stdout)["argv"][1:] == ["telemetry-forwarder"]


def test_layer_takes_the_minor_version_it_was_built_for(opt: Path, tmp_path: Path) -> None:
    """`python3` may be of another version, in which compiled modules do not load."""
    (opt / "telemetry-forwarder" / "python-version").write_text("3.77\n")
    path = bin_with(tmp_path / "bin", "false", **{"python3.77": sys.executable})
    (tmp_path / "bin" / "python3").symlink_to(tmp_path / "bin" / "false")
    told = run(opt / "extensions" / "telemetry-forwarder", path)
    assert told["executable"].endswith("/python3.77")


def test_checkout_runs_the_installed_package(tmp_path: Path) -> None:
    """Beside no layer, python3 of PATH runs the package by name, isolated too."""
    (tmp_path / "extensions").mkdir()
    shutil.copy2(LAUNCHER, tmp_path / "extensions" / "telemetry-forwarder")
    spy = tmp_path / "bin" / "python3"
    spy.parent.mkdir()
    spy.write_text(f'#!{sys.executable} -I\nimport json, sys\nprint(json.dumps({{"argv": sys.argv[1:]}}))\n')
    spy.chmod(0o755)
    told = run(tmp_path / "extensions" / "telemetry-forwarder", str(spy.parent))
    assert told["argv"] == ["-I", "-m", "telemetry_forwarder", "telemetry-forwarder"]


@pytest.mark.parametrize("shell", SHELLS)
def test_without_python_it_idles_and_says_so(shell: str, opt: Path, tmp_path: Path, api: ExtensionsApi) -> None:
    """Registered for no event it waits in /event/next: neither INIT, nor an invocation, nor SHUTDOWN waits for it."""
    executable = opt / "extensions" / "telemetry-forwarder"
    with idle(executable, bin_with(tmp_path / "bin", "bash"), api, shell) as process:
        try:
            method, path, headers, body = api.next_request()
            assert (method, path) == ("POST", "/2020-01-01/extension/register")
            assert headers["lambda-extension-name"] == "telemetry-forwarder"
            assert json.loads(body) == {"events": []}
            method, path, headers, body = api.next_request()
            assert (method, path) == ("GET", "/2020-01-01/extension/event/next")
            assert headers["lambda-extension-identifier"] == IDENTIFIER
            assert process.poll() is None
        finally:
            process.kill()
            said, complaints = process.communicate(timeout=10)
    assert complaints == ""
    (line,) = said.splitlines()
    assert line.startswith('{"telemetry_forwarder":')  # how the package knows its own lines
    told = json.loads(line)
    assert told["level"] == "ERROR"
    assert PYTHON in told["message"]
    assert told["timestamp"].endswith("Z")


def test_wrong_python_counts_as_none(opt: Path, tmp_path: Path, api: ExtensionsApi) -> None:
    (opt / "telemetry-forwarder" / "python-version").write_text("3.77\n")
    path = bin_with(tmp_path / "bin", "bash", python3=sys.executable)
    with idle(opt / "extensions" / "telemetry-forwarder", path, api) as process:
        try:
            assert api.next_request()[1].endswith("/register")
            assert api.next_request()[1].endswith("/event/next")
        finally:
            process.kill()
            said, _ = process.communicate(timeout=10)
    assert "python3.77" in json.loads(said)["message"]


def test_strict_fails_the_start(opt: Path, tmp_path: Path, api: ExtensionsApi) -> None:
    """TELEMETRY_FORWARDER_STRICT asks for a failed INIT in place of an extension that only idles."""
    executable = opt / "extensions" / "telemetry-forwarder"
    path = bin_with(tmp_path / "bin", "bash")
    with idle(executable, path, api, TELEMETRY_FORWARDER_STRICT="True") as process:
        process.communicate(timeout=10)
    api.next_request()
    method, path, headers, _ = api.next_request()
    assert (method, path) == ("POST", "/2020-01-01/extension/init/error")
    assert headers["lambda-extension-identifier"] == IDENTIFIER
    assert headers["lambda-extension-function-error-type"] == "Extension.NoInterpreter"
    assert process.returncode == 1


def test_refused_registration_is_said(opt: Path, tmp_path: Path, api: ExtensionsApi) -> None:
    api.register_status = 403
    with idle(opt / "extensions" / "telemetry-forwarder", bin_with(tmp_path / "bin", "bash"), api) as process:
        said, _ = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "403" in json.loads(said.splitlines()[-1])["message"]


def test_outside_lambda_it_ends(opt: Path, tmp_path: Path) -> None:
    """Without the Extensions API, or without any program at all, it says why and ends; it never hangs."""
    for path in (bin_with(tmp_path / "bin", "bash"), bin_with(tmp_path / "none")):
        ended = subprocess.run(
            [opt / "extensions" / "telemetry-forwarder"], env={"PATH": path}, capture_output=True, timeout=30, text=True
        )
        assert ended.returncode == 1
        assert all(json.loads(line)["level"] == "ERROR" for line in ended.stdout.splitlines())
        assert ended.stdout
        assert ended.stderr == ""
