"""Fetches CPython and its libraries from Debian's archive, for either processor, without touching the system.

`apt-get` is given settings, lists, cache and state of its own, so an ordinary user may do this on any machine that has
apt. apt checks the archive's signature with Debian's keyring, and by it the hash of every package. The packages are
only unpacked, into a directory that then stands for `/` (layer/libraries.py, `root_of`); none of their scripts runs. A
small dpkg database in it records what was unpacked, for the bill of materials (layer/bill.py).
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from layer.commands import run, say
from layer.errors import Refused

MIRROR = "http://deb.debian.org/debian"  # HTTP is enough, because everything is verified by its signature
SUITE = "unstable"  # the only one that has the newest CPython all the time
PYTHON = "3.15"
# The interpreter and its standard library; apt adds what they need, the C library among it.
_WANTED = (f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{ending}") for ending in ("pgp", "gpg"))
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
        keyring = _keyring()
        home = self.into / f"debian-{_ARCHITECTURES[arch]}"
        home.mkdir(parents=True, exist_ok=True)
        mirror = self.mirror or _mirror_of_this_machine() or MIRROR
        with (home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two builds may run at once
            source = f"deb [signed-by={keyring}] {mirror} {self.suite} main"
            apt = _Apt(_settings(home, _ARCHITECTURES[arch], source), mirror)
            apt.run("update", "--error-on=any")
            install = ("--yes", "--no-install-recommends", "install", *_WANTED)
            # What is in the cache is not listed, so another one is named.
            listed = apt.run(*install, "--print-uris", "-o", "Dir::Cache::Archives=none")
            names = sorted(re.findall(r"^'\S+' (\S+\.deb) \d+ ", listed, re.MULTILINE))
            root, contents = home / "root", home / "contents"
            if not contents.is_file() or contents.read_text().split() != names:
                say(f"fetching {len(names)} packages of Debian {self.suite} for {arch} from {mirror}")
                apt.run(*install, "--download-only")
                contents.unlink(missing_ok=True)
                shutil.rmtree(root, ignore_errors=True)
                _unpack([home / "cache" / "archives" / name for name in names], root)
                contents.write_text("\n".join(names) + "\n")
        return root / "usr"


@dataclass(frozen=True, slots=True)
class _Apt:
    """apt-get in an environment that names its settings; `mirror` is the archive, for errors."""

    environ: dict[str, str]
    mirror: str

    def run(self, *words: str) -> str:
        """Return what `apt-get words` prints. Raises Refused with its errors."""
        command = ["apt-get", "--quiet", *words]
        found = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)  # noqa: S603
        if found.returncode:
            errors = re.findall(r"^E: (.+?)\.?$", found.stderr, re.MULTILINE) or [f"exit code {found.returncode}"]
            raise Refused(
                f"Python {PYTHON} cannot be fetched from {self.mirror}: {errors[0]}",
                "Name another archive with --mirror, or an interpreter with --python",
            )
        return found.stdout


def _keyring() -> Path:
    """Return Debian's keyring. Raises Refused if that or a tool is missing on this machine."""
    missing = [name for name in _TOOLS if shutil.which(name) is None]
    keyring = next((path for path in _KEYRINGS if path.is_file()), None)
    if missing or keyring is None:
        raise Refused(
            f"Debian's packages cannot be fetched here: {', '.join(missing) or _KEYRINGS[-1]} is not on this machine",
            "Install apt, dpkg and debian-archive-keyring, or name an interpreter with --python",
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
