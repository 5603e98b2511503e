"""Writes what is in a layer: a bill of materials in CycloneDX JSON, a list of licences, and their texts."""

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from layer.interpreter import Interpreter

_LICENCE_NAMES = ("LICEN*", "COPYING*", "NOTICE*", "AUTHORS*", "licen*")
_SYSTEM_LICENCES = ("usr/share/doc", "usr/share/licenses")  # dpkg's and rpm's


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A third-party part of the layer: its registry name (`purl`), its licence and its files."""

    name: str
    version: str
    purl: str
    licence: str  # an SPDX expression, or the part's own wording
    texts: tuple[Path, ...] = ()
    files: tuple[Path, ...] = field(default=())
    sha256: str = ""  # of the package as it was fetched, if that is known


def of_wheels(modules: Path) -> list[Component]:
    """Describe the packages that pip or uv installed in `modules`, except our own."""
    found = []
    for info in sorted(modules.glob("*.dist-info")):
        head = HeaderParser().parsestr((info / "METADATA").read_text(encoding="utf-8"))
        name, version = head["Name"].lower(), head["Version"]
        if name != "telemetry-forwarder":
            # Beside the metadata, and in the package: what it was made of may be somebody else's (isal/isa-l/LICENSE).
            places = (info, modules / name.replace("-", "_"))
            texts = [path for place in places for path in _licences_in(place)]
            found.append(
                Component(
                    name=name,
                    version=version,
                    purl=f"pkg:pypi/{name}@{version}",
                    licence=head["License-Expression"] or _short(head) or "NOASSERTION",
                    texts=tuple(texts),
                )
            )
    return found


def _licences_in(folder: Path) -> list[Path]:
    return sorted({path for words in _LICENCE_NAMES for path in folder.rglob(words) if path.is_file()})


def _short(head: Message) -> str:
    """Return the licence from older metadata: a licence of one line, else the classifiers."""
    classifiers = [line.rpartition(" :: ")[2] for line in head.get_all("Classifier", []) if line.startswith("License")]
    line = head["License"] or ""
    return line if line and "\n" not in line else " AND ".join(classifiers)


def of_interpreter(root: Path, python: Interpreter, files: list[Path]) -> Component:
    """Describe `python`; `files` are its files in the layer, `root` is its root directory (/)."""
    texts = [python.stdlib / "LICENSE.txt", python.program.parents[1] / "LICENSE.txt"]
    package = _package_of(python.program, root)
    return Component(
        name="cpython",
        version=python.version,
        purl=package.purl if package else f"pkg:generic/cpython@{python.version}",
        licence="Python-2.0.1",
        texts=tuple(text for text in texts if text.is_file())[:1] or (package.texts if package else ()),
        files=tuple(files),
        sha256=package.sha256 if package else "",
    )


def of_libraries(root: Path, brought: dict[Path, Path]) -> list[Component]:
    """Describe shared libraries, grouped by system package. `brought` maps each copy to its original."""
    packages: dict[str, tuple[_Package, list[Path]]] = {}
    for copy, origin in sorted(brought.items()):
        package = _package_of(origin, root) or _Package(copy.name, "", f"pkg:generic/{copy.name}", "NOASSERTION")
        packages.setdefault(package.purl, (package, []))[1].append(copy)
    return [
        Component(
            name=package.name,
            version=package.version,
            purl=package.purl,
            licence=package.licence,
            texts=package.texts,
            files=tuple(copies),
            sha256=package.sha256,
        )
        for package, copies in packages.values()
    ]


@dataclass(frozen=True, slots=True)
class _Package:
    """A package of the operating system."""

    name: str
    version: str
    purl: str
    licence: str
    texts: tuple[Path, ...] = ()
    sha256: str = ""


def _package_of(path: Path, root: Path = Path("/")) -> _Package | None:
    """Return the dpkg or rpm package, installed in `root`, that `path` belongs to; None if neither knows the file."""
    dpkg, rpm = f"--admindir={root / 'var/lib/dpkg'}", f"--root={root}"
    for name in _names_of(Path("/") / path.relative_to(root)):
        if owner := _ask("dpkg-query", dpkg, "--search", name):
            package = owner.split(":")[0].split(",")[0]
            # A system's own database has no hashes of packages; layer/debian.py writes one that has.
            shown = _ask("dpkg-query", dpkg, "--show", "--showformat=${Version} ${SHA256}\n", package).split("\n")[0]
            version, _, sha256 = shown.partition(" ")
            text = root / _SYSTEM_LICENCES[0] / package / "copyright"
            texts: tuple[Path, ...] = (text,) if text.is_file() else ()
            return _Package(
                package, version, f"pkg:deb/{_distribution(root)}/{package}@{version}", _of_debian(text), texts, sha256
            )
    if owner := _ask(
        "rpm",
        rpm,
        "-qf",
        "--queryformat",
        "%{NAME}\t%{VERSION}-%{RELEASE}\t%{LICENSE}\n",
        str(Path("/") / path.relative_to(root)),
    ):
        package, version, licence = owner.split("\n")[0].split("\t")
        texts = tuple(sorted(path for path in (root / _SYSTEM_LICENCES[1] / package).glob("*") if path.is_file()))
        return _Package(package, version, f"pkg:rpm/{_distribution(root)}/{package}@{version}", licence, texts)
    return None


def _names_of(path: Path) -> tuple[str, ...]:
    """Return the names under which a package may list `path`: /lib may be a link to /usr/lib, or was one."""
    name = str(path)
    return (name, name.removeprefix("/usr") if name.startswith("/usr/") else f"/usr{name}")


def _ask(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return found.stdout.strip() if found.returncode == 0 else ""


def _distribution(root: Path) -> str:
    release = root / "etc/os-release"
    match = re.search(r'^ID="?([\w.-]+)', release.read_text(), re.MULTILINE) if release.is_file() else None
    return match[1] if match else "linux"


def _of_debian(text: Path) -> str:
    """Return the licences listed in a copyright file in Debian's format; a file in free form only has its text."""
    if not text.is_file():
        return "NOASSERTION"
    named = re.findall(r"^License:[ \t]*(\S[^\n]*)$", text.read_text(errors="replace"), re.MULTILINE)
    return "; ".join(sorted(set(named))) or "see its text"


# --- writing --------------------------------------------------------------------------------------------------------


BILL = "sbom.cdx.json"
PREFIX = "telemetry-forwarder:"  # prefix of property names; CycloneDX demands a namespace


def write(private: Path, version: str, components: list[Component], properties: dict[str, str]) -> None:
    """Write the bill into `private`, and licenses/: the texts of each part, and README, a list of all licences.

    `properties` describe what the layer supports, for layer/publish.py.
    """
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "telemetry-forwarder",
                "name": "telemetry-forwarder",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
    }
    _complete(private, document, components, properties)


def add(private: Path, components: list[Component], properties: dict[str, str]) -> None:
    """Add to the bill in `private`, and to the licences there. `properties` replace those of the same name."""
    _complete(private, json.loads((private / BILL).read_text()), components, properties)


def _complete(private: Path, document: Any, components: list[Component], properties: dict[str, str]) -> None:
    _lay_texts(private / "licenses", components)
    told = document["metadata"]["component"]
    before = {one["name"]: one["value"] for one in told.get("properties", [])}
    after = before | {f"{PREFIX}{name}": value for name, value in properties.items()}
    told["properties"] = [{"name": name, "value": value} for name, value in after.items()]
    listed = {entry["bom-ref"]: entry for entry in document.get("components", [])}
    listed |= {one.purl: _entry(one, private) for one in components}
    document["components"] = [listed[purl] for purl in sorted(listed)]
    lines = [
        f"{one['name']} {one['version']}: {one['licenses'][0]['license']['name']}\n" for one in document["components"]
    ]
    (private / "licenses" / "README").write_text("".join(lines))
    (private / BILL).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def _lay_texts(texts: Path, components: list[Component]) -> None:
    texts.mkdir(exist_ok=True)
    for component in sorted(components, key=lambda one: one.purl):
        folder = texts / component.name
        for number, text in enumerate(component.texts):
            folder.mkdir(parents=True, exist_ok=True)
            name = text.name if not (folder / text.name).exists() else f"{number}-{text.name}"
            (folder / name).write_bytes(text.read_bytes())


def _entry(component: Component, private: Path) -> dict[str, object]:
    """Return one component in CycloneDX's format. Source: CycloneDX 1.5, JSON reference."""
    entry: dict[str, object] = {
        "type": "library",
        "bom-ref": component.purl,
        "name": component.name,
        "version": component.version,
        "purl": component.purl,
        "licenses": [{"license": {"name": component.licence}}],
    }
    if component.sha256:
        entry["hashes"] = [{"alg": "SHA-256", "content": component.sha256}]
    if component.files:
        entry["components"] = [
            {
                "type": "file",
                "name": path.relative_to(private).as_posix(),
                "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}],
            }
            for path in sorted(component.files)
        ]
    return entry
