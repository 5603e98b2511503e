"""What this machine lacks of an environment in Lambda, and whether that may be the reason of an extension's trouble.

A verdict must never be about our own surroundings. So where an extension does not come up, ends, or is not to be
reached, and it names something that Lambda has and this machine has not, nothing is said against it. Whatever it
prints, and the paths in its own file, are the evidence; what it did without a word stays its own doing.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

PORT_TAKEN = "A port that it listens on is taken on this machine."
_NAMES = ("sandbox.localdomain", "sandbox")
_HOSTS = Path("/etc/hosts")
_MOST_BYTES = 64 * 1024 * 1024

_RUNTIMES = ("/var/lang/", "/var/runtime/")
_PATH = r"/(?:opt|var/(?:task|runtime|lang))/[\w@%+~.-][\w@%+~./-]*"
_PATHS, _PATHS_IN_FILES = re.compile(_PATH), re.compile(_PATH.encode(), re.ASCII)
# In the words of glibc, musl, macOS, Go, Node.js, Rust, Java and curl.
_UNRESOLVED = re.compile(
    r"name or service not known|name does not resolve|nodename nor servname|temporary failure in name resolution"
    r"|no such host|\bENOTFOUND|\bEAI_AGAIN|\bgaierror|failed to lookup address|UnknownHost|could not resolve host",
    re.IGNORECASE,
)
_MISSING = re.compile(
    r"no such file|not found|NotFound|cannot (?:open|find|access)|can't (?:open|find)|not exist|ENOENT|NoSuchFile",
    re.IGNORECASE,
)
_TAKEN = re.compile(r"address (?:is )?already in use|EADDRINUSE|only one usage of each socket address", re.IGNORECASE)
_CREDENTIALS = re.compile(
    "UnrecognizedClient|InvalidClientTokenId|InvalidSignatureException"
    "|security token included in the request is invalid"
)
# What Lambda's images and runtimes bring, as a shell or env names what it does not find.
_PROGRAM = re.compile(
    r"(?:^|[\s:'\"\u2018])(python(?:3(?:\.\d+)?)?|node|ruby|java|dotnet|bash|curl)['\"\u2019]?: (?:command )?"
    r"(?:not found|No such file or directory)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an environment had of Lambda's surroundings.

    `why_not_own`: why it had no file system and names of its own, as a sentence; "" if it had. `host`: the address of
    sandbox.localdomain; `machines_host`: where the machine's own /etc/hosts leads by that name. `opt`: what was given
    for /opt. `taken`: the ports on which something listened before. `named`: the paths in the extension's own file.
    """

    why_not_own: str
    host: str
    machines_host: str | None = None
    opt: Path | None = None
    taken: frozenset[int] = frozenset()
    named: frozenset[str] = frozenset()

    def lack_of(self, paths: Iterable[str]) -> str:
        """Return which of `paths` an extension misses here and not in Lambda, as a sentence; "" if there is none.

        Only paths in Lambda's own directories count.
        """
        for path in sorted(filter(_PATHS.match, paths)):
            if not self.why_not_own:
                if path.startswith(_RUNTIMES):
                    return f"{path} is not on this machine."
                if self.opt is None and path.startswith("/opt/") and not path.startswith("/opt/extensions/"):
                    return f"{path} was not given; name the layer that it is in."
            elif not Path(path).exists() and self._is_given(path):
                return f"{path} is not on this machine: {self.why_not_own}"
        return ""

    def _is_given(self, path: str) -> bool:
        """Whether Lambda would have it. What else lies in /opt is not known where no layer was given."""
        return self.opt is None or not path.startswith("/opt/") or (self.opt / path.removeprefix("/opt/")).exists()

    def lack_of_names(self, output: str) -> str:
        """Return that a name did not lead anywhere, as a sentence; "" if nothing hints at it."""
        found = _UNRESOLVED.search(output)
        if not found:
            return ""
        if self.misled:
            return f"{self.misled} ({found[0]})"  # in which words it was told
        return f"A name does not lead anywhere from this machine ({found[0]})."

    @property
    def misled(self) -> str:
        """That sandbox.localdomain does not lead to `host`, as a sentence; "" if it does."""
        if not self.why_not_own or self.machines_host == self.host:
            return ""
        where = f"to {self.machines_host}" if self.machines_host else "nowhere"
        return f"sandbox.localdomain leads {where} on this machine: {self.why_not_own}"


def explanation(surroundings: Surroundings, output: Sequence[str]) -> str:
    """Return what of this machine may be why an extension that wrote `output` is in trouble, as a sentence, or ""."""
    text = "".join(output)
    if _TAKEN.search(text):
        return PORT_TAKEN
    if _CREDENTIALS.search(text):
        return "It calls AWS, and the credentials here are invented; give it real ones."
    if found := _PROGRAM.search(text):
        return f"It needs {found[1]}, which this machine does not have where Lambda's runtimes do."
    missing = [path for line in text.splitlines() if _MISSING.search(line) for path in paths_in(line)]
    named = [path for path in surroundings.named if surroundings.why_not_own or not path.startswith(_RUNTIMES)]
    return surroundings.lack_of_names(text) or surroundings.lack_of({*missing, *named})


def paths_in(text: str) -> list[str]:
    """Return the paths in Lambda's own directories that a text names."""
    return _PATHS.findall(text)


def named_paths(program: Path) -> frozenset[str]:
    """Return the paths in Lambda's own directories that a program's file has in it."""
    with program.open("rb") as file:
        found = _PATHS_IN_FILES.findall(file.read(_MOST_BYTES))
    return frozenset(path.decode() for path in found)


def machines_host() -> str | None:
    """Return the address to which sandbox.localdomain leads by this machine's /etc/hosts. (DNS does not know it.)"""
    try:
        rows = _HOSTS.read_text().splitlines()
    except OSError:
        return None
    for row in rows:
        address, *names = row.partition("#")[0].split() or [""]
        if set(_NAMES) & set(names):
            return address
    return None
