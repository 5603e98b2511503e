"""The subjects of the benchmarks: executables as Lambda would start them, each in its own directory."""

import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from layer import bundle

ROOT = Path(__file__).parent.parent
PROGRAMS = Path(__file__).parent / "programs"
NOTHING = "no extension"
OURS = "telemetry-forwarder"
BEFORE = "telemetry-forwarder, before"
TUTORIAL = "requests, as in tutorials"
IDLE_PYTHON = "does nothing, Python"
IDLE_C = "does nothing, C"

# The start of a program run with `-I -S`: it finds the package and its dependencies where they are installed.
PROGRAM = """#!{python} -IS
import os, sys
sys.path[:0] = {paths!r}
from telemetry_forwarder.bootstrap import main
sys.exit(main(os.path.basename(sys.argv[0]), os.environ))
"""


@dataclass(frozen=True)
class Subject:
    """One way to have an extension, or none: Lambda starts `executable`."""

    name: str
    executable: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def executables(self) -> list[Path]:
        return [self.executable] if self.executable else []


def subjects(folder: Path, python: Path, layer: Path | None, before: Path | None) -> list[Subject]:
    """Create the executables in `folder`; what this machine cannot build (no C compiler, no `requests`) is left out."""
    carried = python if layer is None else interpreter_of(layer)
    site = next(path for path in sys.path if path.endswith("site-packages"))
    idle = f"#!{carried} -IS\n{(PROGRAMS / 'nothing.py').read_text()}"
    found = [Subject(NOTHING), Subject(IDLE_PYTHON, script(folder, "idle", idle))]
    if compiler := shutil.which("cc") or shutil.which("gcc"):
        path = folder / "idle-c" / "idle-c"
        path.parent.mkdir()
        subprocess.run([compiler, "-O2", "-o", str(path), str(PROGRAMS / "nothing.c")], check=True)
        found.append(Subject(IDLE_C, path))
    if layer is not None:
        found.append(Subject(OURS, layer / "extensions" / "telemetry-forwarder"))
    else:
        text = PROGRAM.format(python=python, paths=[str(ROOT), site])
        found.append(Subject(OURS, script(folder, "telemetry-forwarder", text)))
    if before is not None:
        # With its own packages, if it has some, which are for `python` and not for the layer's interpreter.
        own = next(iter(before.glob(".venv/lib/python3*/site-packages")), site)
        text = PROGRAM.format(python=python, paths=[str(before), str(own)])
        found.append(Subject(BEFORE, script(folder, "forwarder-before", text)))
    if (Path(site) / "requests").is_dir():
        tutorial = (PROGRAMS / "tutorial.py").read_text()
        # On the current interpreter: a layer's has only the modules that we need.
        text = f"#!{sys.executable} -IS\nimport sys\nsys.path[:0] = {[site]!r}\n{tutorial}"
        found.append(Subject(TUTORIAL, script(folder, "tutorial", text)))
    return found


def version_before(wanted: str | None) -> Path | None:
    """Return a directory with the version `wanted`: a checkout, or a git ref, of which one is made in build/before.

    None stands for the last release; without one, nothing is returned.
    """
    if wanted is not None and Path(wanted).is_dir():
        return Path(wanted)
    ref = wanted or _git("describe", "--tags", "--abbrev=0", check=False)
    if not ref:
        return None
    commit = _git("rev-parse", "--verify", f"{ref}^{{commit}}")
    home = ROOT / "build" / "before" / commit[:12]
    if not home.is_dir():
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
            _git("archive", "--format=tar", f"--output={scratch}/tree.tar", commit, "telemetry_forwarder")
            with tarfile.open(f"{scratch}/tree.tar") as archive:
                archive.extractall(f"{scratch}/tree", filter="data")
            Path(scratch, "tree").rename(home)
    return home


def _git(*words: str, check: bool = True) -> str:
    found = subprocess.run(["/usr/bin/env", "git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode and check:
        sys.exit(f"git {' '.join(words)}: {found.stderr.strip()}")
    return found.stdout.strip()


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / name / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def interpreter_of(layer: Path) -> Path:
    return next(layer.glob("telemetry-forwarder/bin/python3*"))


def opening(python: Path) -> str:
    """Return what a program begins with to import modules, if `python` is a layer's, which has them in one file."""
    found = [path.parent for path in python.parents[1].glob(f"lib/python3*/{bundle.NAME}")]
    return bundle.OPENING.format(root=found[0]) if found else ""


def enter_layer(layer: Path, module: str) -> None:
    """Mount the layer at /opt, where its interpreter expects to be.

    The mount is in a mount namespace of its own, in which the benchmark `module` is run anew.
    """
    if layer.resolve() != Path("/opt"):
        words = [word for word in sys.argv[1:] if word != "--layer" and Path(word) != layer]
        again = shlex.join([sys.executable, "-m", module, "--layer", "/opt", *words])
        command = f"mount --bind {shlex.quote(str(layer.resolve()))} /opt && exec {again}"
        words = ["/usr/bin/env", "unshare", "--mount", "sh", "-c", command]
        sys.exit(subprocess.run(words, check=False, cwd=ROOT).returncode)
