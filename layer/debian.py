"""Fetches packages from Debian's archive, for either processor, without touching the system: CPython, and QEMU.

`apt-get` is given settings, lists, cache and state of its own, so an ordinary user may do this on any machine that has
apt. apt checks the archive's signature with Debian's keyring, and by it the hash of every package. The packages are
only unpacked, into a directory that then stands for `/` (layer/libraries.py, `root_of`); none of their scripts runs. A
small dpkg database in it records what was unpacked, for the bill of materials (layer/bill.py).
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from layer.commands import run, say
from layer.errors import Refused

MIRROR = "http://deb.debian.org/debian"  # HTTP is enough, because everything is verified by its signature
SUITE = "unstable"  # the only one that has the newest CPython all the time
PYTHON = "3.15"
# The package files that the layer was last tested with. The suite moves on, and what it has is taken; a build says what
# differs. `make lock` writes it anew.
LOCK = Path(__file__).with_name("debian.lock")
# The interpreter and its standard library; apt adds what they need, the C library among it.
_WANTED = (f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{ending}") for ending in ("pgp", "gpg"))
_INSTALL = ("--yes", "--no-install-recommends", "install")
_REMEDY = "Remove the directory build/python and build again"
_TOOLS = ("apt-get", "apt-config", "dpkg-deb", "dpkg-query")
# How this machine reaches an archive, and whether it believes its dates.
_KEPT_SETTINGS = re.compile(r"^Acquire::(?:https?|Check|Force|Max|Queue|Retries)\b.*", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An archive of Debian's, and the directory for what is fetched from it.

    `mirror` is its address; None: the one that this machine's apt uses, else Debian's own.
    """

    mirror: str | None = None
    suite: str = SUITE
    into: Path

    def fetch(self, arch: str) -> Path:
        """Return the directory of CPython for `arch` (with bin and lib), fetched anew only if the archive's is another.

        Raises Refused if apt or the keyring is missing, or if the archive cannot be reached or verified or lacks it.
        """
        home = self.into / f"debian-{_ARCHITECTURES[arch]}"
        with self._opened(home, arch, f"Python {PYTHON}", "name an interpreter with --python") as apt:
            names = apt.files_of(_WANTED)
            if found := changes(LOCK.read_text().split(), names):
                say(f"other packages than those in {LOCK.name}, with which it was tested: {', '.join(found)}")
            root, contents = home / "root", home / "contents"
            before = contents.read_text().split() if contents.is_file() else []
            if before != names:
                say(f"fetching {len(names)} packages of Debian {self.suite} for {arch} from {apt.mirror}")
                packages = apt.download(_WANTED, names)
                contents.unlink(missing_ok=True)
                shutil.rmtree(root, ignore_errors=True)
                _unpack(packages, root)
                contents.write_text("\n".join(names) + "\n")
        return root / "usr"

    def fetch_program(self, package: str, program: str, into: Path) -> None:
        """Write the file `program` of the `package` for this machine's processor as the executable `into`.

        Raises Refused as `fetch` does.
        """
        arch = platform.machine()
        with self._opened(self.into / "apt", arch, package, f"install {package}") as apt:
            say(f"fetching {package} of Debian {self.suite} from {apt.mirror}")
            names = [name for name in apt.files_of([package]) if name.startswith(f"{package}_")]
            (archive,) = apt.download([package], names)
            folder = into.with_name(f"{into.name}.part")
            run(["dpkg-deb", "--extract", str(archive), str(folder)], _REMEDY)
            found = folder / program
            if not found.is_file():
                shutil.rmtree(folder)
                raise Refused(
                    f"{archive.name} has no {program}", f"Name another archive with --mirror, or install {package}"
                )
            found.resolve().rename(into)
            shutil.rmtree(folder)
        shutil.rmtree(self.into / "apt")

    @contextmanager
    def _opened(self, home: Path, arch: str, what: str, otherwise: str) -> Iterator["_Apt"]:
        """Yield apt with its lists of this archive for `arch`, in `home`; others wait, because two builds may run."""
        keyring = _keyring(otherwise)
        home.mkdir(parents=True, exist_ok=True)
        mirror = self.mirror or _mirror_of_this_machine() or MIRROR
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            source = f"deb [signed-by={keyring}] {mirror} {self.suite} main"
            environ = _settings(home, _ARCHITECTURES[arch], source)
            apt = _Apt(environ=environ, home=home, mirror=mirror, what=what, otherwise=otherwise)
            apt.run("update", "--error-on=any")
            yield apt


@dataclass(frozen=True, slots=True, kw_only=True)
class _Apt:
    """apt-get in an environment that names its settings.

    For errors: `mirror` is the archive, `what` is to be had from there, and `otherwise` it is had in another way.
    """

    environ: dict[str, str]
    home: Path
    mirror: str
    what: str
    otherwise: str

    def files_of(self, packages: Sequence[str]) -> list[str]:
        """Return the names of the files of `packages` and of all that they need. Raises Refused."""
        # What is in the cache is not listed, so another one is named.
        listed = self.run(*_INSTALL, *packages, "--print-uris", "-o", "Dir::Cache::Archives=none")
        return sorted(re.findall(r"^'\S+' (\S+\.deb) \d+ ", listed, re.MULTILINE))

    def download(self, packages: Sequence[str], names: Sequence[str]) -> list[Path]:
        """Fetch `packages` and what they need, verified; return the files `names` of them. Raises Refused."""
        self.run(*_INSTALL, *packages, "--download-only")
        return [self.home / "cache" / "archives" / name for name in names]

    def run(self, *words: str) -> str:
        """Return what `apt-get words` prints. Raises Refused with its errors."""
        command = ["apt-get", "--quiet", *words]
        found = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)  # noqa: S603
        if found.returncode:
            errors = re.findall(r"^E: (.+?)\.?$", found.stderr, re.MULTILINE) or [f"exit code {found.returncode}"]
            raise Refused(
                f"{self.what} cannot be fetched from {self.mirror}: {errors[0]}",
                f"Name another archive with --mirror, or {self.otherwise}",
            )
        return found.stdout


def changes(tested: Sequence[str], found: Sequence[str]) -> list[str]:
    """Name the packages of which `found`, names of package files, has other versions than `tested`, or which are new.

    Those without code for a processor (`all`: time zones, lists of protocols) do not count: the layer has none of them.
    """
    versions = {(name, arch): version for name, version, arch in map(_parts, tested)}
    return [
        f"{name} {version} ({f'was {versions[name, arch]}' if (name, arch) in versions else 'new'})"
        for name, version, arch in map(_parts, found)
        if arch != "all" and versions.get((name, arch)) != version
    ]


def _parts(file: str) -> tuple[str, str, str]:
    """Return name, version and processor of a package from the name of its file: libc6_2.42-1_amd64.deb."""
    name, version, arch = file.removesuffix(".deb").split("_")
    return name, version.replace("%3a", ":"), arch


def write_lock(archive: Archive) -> None:
    """Write down the packages that `archive` has now, for both processors. Raises Refused."""
    names: set[str] = set()
    for arch in _ARCHITECTURES:
        names.update((archive.fetch(arch).parents[1] / "contents").read_text().split())
    LOCK.write_text("".join(f"{name}\n" for name in sorted(names) if not name.endswith("_all.deb")))


def _keyring(otherwise: str) -> Path:
    """Return Debian's keyring. Raises Refused if that or a tool is missing on this machine."""
    missing = [name for name in _TOOLS if shutil.which(name) is None]
    keyring = next((path for path in _KEYRINGS if path.is_file()), None)
    if missing or keyring is None:
        raise Refused(
            f"Debian's packages cannot be fetched here: {', '.join(missing) or _KEYRINGS[-1]} is not on this machine",
            f"Install apt, dpkg and debian-archive-keyring, or {otherwise}",
        )
    return keyring


def _mirror_of_this_machine() -> str | None:
    """Return the address of Debian's archive in this machine's own settings; None if its packages are another's."""
    command = ["apt-get", "indextargets", "--format", "$(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - apt of PATH
    match = re.search(r"^main (https?://\S+/debian)/?$", found.stdout, re.MULTILINE)
    return match[1] if found.returncode == 0 and match else None


def _settings(home: Path, architecture: str, source: str) -> dict[str, str]:
    """Write apt's settings, with `source`, into `home`; return the environment in which apt reads those alone.

    What the system says of proxies, certificates and time limits is kept. Its hooks, which may clean its own cache, are
    not.
    """
    for folder in ("cache/archives/partial", "cache/none/partial", "lists/partial", "state"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "sources.list").write_text(f"{source}\n")
    (home / "status").touch()  # nothing is installed, so apt lists all that is needed
    own = {
        "Dir::Etc::Main": "/dev/null",
        "Dir::Etc::Parts": "/dev/null",
        "Dir::Etc::SourceList": home / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State": home / "state",
        "Dir::State::Lists": home / "lists",
        "Dir::State::Status": home / "status",
        "Dir::Cache": home / "cache",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",  # another user could not write here
        "APT::Get::AllowUnauthenticated": "false",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::AllowWeakRepositories": "false",
        "Acquire::Languages": "none",
    }
    kept = _KEPT_SETTINGS.findall(run(["apt-config", "dump"], "Name an interpreter with --python"))
    lines = [*kept, *(f'{name} "{value}";' for name, value in own.items())]
    (home / "apt.conf").write_text("\n".join(lines) + "\n")
    return _plain(os.environ) | {"APT_CONFIG": str(home / "apt.conf"), "LC_ALL": "C.UTF-8"}


def _plain(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith(("APT_", "DPKG_"))}


def _unpack(packages: list[Path], root: Path) -> None:
    """Unpack `packages` into `root`, with a dpkg database of them. Each has the hash of its file as a field SHA256."""
    database = root / "var/lib/dpkg"
    (database / "info").mkdir(parents=True)
    (database / "info" / "format").write_text("1\n")
    for name in ("lib", "lib64"):  # as the package base-files has them
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    stanzas = []
    for package in packages:
        files = run(["dpkg-deb", "--vextract", str(package), str(root)], _REMEDY)
        stanza = run(["dpkg-deb", "--field", str(package)], _REMEDY)
        fields = dict(re.findall(r"^(Package|Architecture|Multi-Arch): (.+)$", stanza, re.MULTILINE))
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        stanzas.append(f"{stanza.rstrip()}\nStatus: install ok installed\nSHA256: {digest}\n")
        same = f":{fields['Architecture']}" if fields.get("Multi-Arch") == "same" else ""
        listed = [name.removeprefix(".").rstrip("/") or "/." for name in files.splitlines()]
        (database / "info" / f"{fields['Package']}{same}.list").write_text("\n".join(listed) + "\n")
    (database / "status").write_text("\n".join(stanzas))
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc" / "os-release").write_text('ID="debian"\n')


if __name__ == "__main__":
    write_lock(Archive(into=Path(__file__).resolve().parents[1] / "build" / "python"))
