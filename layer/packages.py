"""Fetches the packages that a user puts into a layer, and what they need that the layer has not.

Each is named by a word: the directory of a project, a wheel, an archive of sources, a requirement (`their-sink>=2`) or
a file of requirements, with hashes or without. What a word names must publish a sink. Versions are chosen as pip would
choose them for the layer's Python, but the layer's own packages are given: nothing replaces them.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

from packaging import tags
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from layer import locked
from layer.commands import say
from layer.errors import Refused
from layer.interpreter import Interpreter
from layer.wheels import latest_glibc, normal, pip_for, requirements, target_environment

GROUP = "telemetry_forwarder.sinks"
_ROUNDS = 30  # in each, at least one more package is known, or the version of one is changed
_ADVICE = (
    f'Add [project.entry-points."{GROUP}"] with a line such as `lines = "lines_sink:create"` to its pyproject.toml'
)


@dataclass(slots=True, kw_only=True)
class Package:
    """One that is to be put into a layer: its files as pip lays them, and where it is from."""

    folder: Path
    name: str
    version: str
    requires: tuple[str, ...]
    sinks: tuple[str, ...]  # the names of those that it publishes
    sha256: str
    is_local: bool  # from a file or a directory, and not of an index
    is_wanted: bool = False  # named by the user, and not only needed

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def sinks_of(found: Distribution) -> tuple[str, ...]:
    return tuple(entry.name for entry in found.entry_points if entry.group == GROUP)


@dataclass(slots=True)
class _Asked:
    """What is to be had of one package, who asked for it, and the file or the pinned lines that it must be."""

    by: list[tuple[str, Requirement]] = field(default_factory=list)
    wheel: Path | None = None
    pin: str = ""

    def is_met_by(self, version: str) -> bool:
        return all(one.specifier.contains(version, prereleases=True) for _, one in self.by)

    def unmet(self, version: str) -> tuple[str, Requirement]:
        return next((who, one) for who, one in self.by if not one.specifier.contains(version, prereleases=True))


def fetch(
    words: Sequence[str], target: Interpreter, present: Mapping[str, Distribution], scratch: Path
) -> list[Package]:
    """Fetch what `words` name into directories in `scratch`, with what it needs beside `present`. Raises Refused.

    `present` are the distributions in the layer by their normal name.
    """
    return _Fetching(target, present, scratch).run(words)


class _Fetching:
    def __init__(self, target: Interpreter, present: Mapping[str, Distribution], scratch: Path) -> None:
        self._target, self._present, self._scratch = target, present, scratch
        self._markers = target_environment(target.minor, target.arch)
        self._roots: dict[str, list[Requirement]] = {}  # by word
        self._wheels: dict[str, Path] = {}  # by normal name, as are the following
        self._pins: dict[str, tuple[str, str]] = {}  # the file, and its lines
        self._fetched: dict[str, Package] = {}

    def run(self, words: Sequence[str]) -> list[Package]:
        for word in dict.fromkeys(words):
            self._roots[word] = list(self._read(word))
        for _ in range(_ROUNDS):
            wanted = self._wanted()
            if not (missing := [name for name in wanted if self._is_missing(name, wanted[name])]):
                break
            for name in missing:
                self._fetched[name] = self._fetch(name, wanted[name])
        else:
            raise Refused(f"No versions that fit together were found in {_ROUNDS} rounds", "Name versions that do")
        found = [package for name, package in self._fetched.items() if name in wanted]
        for word, asked in self._roots.items():
            self._must_be_a_sink(word, {normal(one.name) for one in asked})
        return found

    # --- what the words mean ----------------------------------------------------------------------------------------

    def _read(self, word: str) -> Iterator[Requirement]:
        """Yield the requirements that `word` stands for; remember the wheel or the pins that they must be."""
        path = Path(word)
        if "://" in word:
            raise Refused(f"{word} is an address", "Fetch what is there, and name the file")
        if path.is_dir():
            yield self._of_wheel(_build(path, self._scratch), word)
        elif path.suffix == ".whl" and path.is_file():
            yield self._of_wheel(path, word)
        elif path.name.endswith((".tar.gz", ".zip")) and path.is_file():
            yield self._of_wheel(_build(path, self._scratch), word)
        elif path.is_file():
            yield from self._of_file(path)
        elif path.suffix in (".whl", ".txt", ".lock") or word.endswith(".tar.gz") or word.startswith((".", "/", "~")):
            raise Refused(f"{word} is not there", f"Name a file or a directory; this one is {Path.cwd()}")
        else:
            yield _requirement(word, word)

    def _of_wheel(self, wheel: Path, word: str) -> Requirement:
        try:
            name, version, _, made_for = parse_wheel_filename(wheel.name)
        except InvalidWheelFilename as error:
            raise Refused(f"{word} has not the name of a wheel ({error})", "Name it as it was built") from error
        self._must_fit(wheel, made_for, word)
        if str(name) in self._wheels:
            raise Refused(f"{self._wheels[str(name)].name} and {wheel.name} are one package", "Name one of them")
        self._wheels[str(name)] = wheel
        return Requirement(f"{name}=={version}")

    def _must_fit(self, wheel: Path, made_for: Iterable[tags.Tag], word: str) -> None:
        number = self._target.number
        allowed = {*tags.cpython_tags(number, platforms=self._platforms())}
        allowed |= {*tags.compatible_tags(number, interpreter=f"cp{number[0]}{number[1]}", platforms=self._platforms())}
        if allowed.isdisjoint(made_for):
            told = ", ".join(sorted(map(str, made_for)))
            if str(wheel) != word:  # it was just built here
                raise Refused(
                    f"{word} has parts that are compiled: what was built of it is for {told}, as this machine is",
                    f"Name a wheel of it that is made for Python {self._target.minor} and manylinux on "
                    f"{self._target.arch} (cibuildwheel makes such)",
                )
            raise Refused(
                f"{word} is made for {told}, and the layer is for Python {self._target.minor} on {self._target.arch} "
                f"with glibc (manylinux_2_{latest_glibc(self._target)} or older)",
                "Name the wheel that is made for that",
            )

    def _platforms(self) -> list[str]:
        arch = self._target.arch
        minors = range(latest_glibc(self._target), 4, -1)
        old = ("manylinux2014", "manylinux2010", "manylinux1")
        return [f"manylinux_2_{minor}_{arch}" for minor in minors] + [f"{one}_{arch}" for one in old]

    def _of_file(self, path: Path) -> Iterator[Requirement]:
        try:
            text = "\n".join(line for line in path.read_text().splitlines() if line.strip()[:1] not in ("#", ""))
            lines = requirements(text, self._target.minor, self._target.arch)
        except (UnicodeDecodeError, ValueError) as error:
            raise Refused(
                f"{path} is no file of requirements ({error})", "Name one, or a wheel or a directory"
            ) from error
        for lines_of_one in filter(None, re.split(r"\n(?=\S)", lines.strip())):
            first = lines_of_one.split("--hash=")[0].split(" #")[0].strip(" \\\n")
            if first.startswith("-"):
                raise Refused(
                    f"{path} has the option {first.split()[0]}, and here only requirements and their hashes count",
                    "Say in pip's own settings where packages come from (PIP_INDEX_URL, PIP_FIND_LINKS)",
                )
            asked = _requirement(first, str(path))
            if "--hash=" in lines_of_one:
                self._pins[normal(asked.name)] = str(path), f"{lines_of_one}\n"
            yield asked

    # --- what is needed ---------------------------------------------------------------------------------------------

    def _wanted(self) -> dict[str, _Asked]:
        """Return what the words ask for, and what that asks for in turn, as far as it is fetched. Raises Refused."""
        wanted: dict[str, _Asked] = {}
        waiting = [(word, one) for word, asked in self._roots.items() for one in asked]
        seen = set()
        for who, one in waiting:  # grows
            name = normal(one.name)
            asked = wanted.setdefault(name, _Asked(wheel=self._wheels.get(name), pin=self._pins.get(name, ("", ""))[1]))
            asked.by.append((who, one))
            if (there := self._present.get(name)) and not asked.is_met_by(there.version):
                raise Refused(
                    f"{who} asks for {one}, and the layer has {name} {there.version}",
                    f"Name a version of {who.split(' ')[0]} that takes that one; the layer's own packages stay as they "
                    "are tested",
                )
            for extra in ("", *sorted(one.extras)):
                if (name, extra) not in seen and not (there and not extra):
                    seen.add((name, extra))
                    waiting += self._asked_by(name, extra)
        return wanted

    def _asked_by(self, name: str, extra: str) -> Iterator[tuple[str, Requirement]]:
        """Yield what the package `name` asks for, if that is known; with `extra`, what it asks for with that alone."""
        package = self._fetched.get(name)
        if (found := self._present.get(name) or package) is None:
            return
        for requirement in map(Requirement, found.requires or ()):
            applies = [
                not requirement.marker or requirement.marker.evaluate(self._markers | {"extra": one})
                for one in {"", extra}
            ]
            if any(applies) and (not extra or not all(applies)):
                yield f"{found.name} {found.version}", requirement

    def _is_missing(self, name: str, asked: _Asked) -> bool:
        if name in self._present:
            return False
        return name not in self._fetched or not asked.is_met_by(self._fetched[name].version)

    def _must_be_a_sink(self, word: str, names: set[str]) -> None:
        sinks = [package for name, package in self._fetched.items() if name in names and package.sinks]
        if already := [name for name in names if name in self._present and len(names) == 1]:
            raise Refused(
                f"{word}: the layer has {already[0]} {self._present[already[0]].version} already", "Leave it out"
            )
        if not sinks:
            raise Refused(f"{word} publishes no sink: it has no entry point in the group {GROUP}", _ADVICE)
        for package in sinks:
            package.is_wanted = True

    # --- fetching ---------------------------------------------------------------------------------------------------

    def _fetch(self, name: str, asked: _Asked) -> Package:
        """Install the package `name` alone into a directory of its own."""
        specifier = ",".join(sorted({str(part) for _, one in asked.by for part in one.specifier}))
        if asked.wheel and not asked.is_met_by(version := str(parse_wheel_filename(asked.wheel.name)[1])):
            who, one = asked.unmet(version)
            raise Refused(f"{who} asks for {one}, and {asked.wheel.name} was named", "Name a wheel that fits, or none")
        if not asked.pin and (pinned := self._pinned_that_asks(asked)):
            file, _ = self._pins[normal(pinned.split(" ")[0])]
            raise Refused(
                f"{pinned} asks for {asked.by[0][1]}, and {file} has no line of it",
                "Let the file name all that is needed, with hashes (`uv pip compile --generate-hashes`)",
            )
        folder, report = self._scratch / "packages" / name, self._scratch / "report.json"
        shutil.rmtree(folder, ignore_errors=True)
        command = [*pip_for(self._target), "--quiet", "--no-deps", "--only-binary=:all:", f"--target={folder}"]
        command += [f"--report={report}"]
        what = f"{name}{specifier}"
        if asked.wheel:
            command += [str(asked.wheel.resolve())]
        elif asked.pin:
            listed = self._scratch / "pinned.txt"
            listed.write_text(asked.pin)
            command += ["--require-hashes", f"--requirement={listed}"]
        else:
            command += [what]
        say(f"fetching {asked.wheel.name if asked.wheel else what}")
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise self._why_not(name, specifier, asked, done.stderr)
        return self._laid(folder, report, asked)

    def _pinned_that_asks(self, asked: _Asked) -> str:
        return next((who for who, _ in asked.by if normal(who.split(" ")[0]) in self._pins), "")

    def _laid(self, folder: Path, report: Path, asked: _Asked) -> Package:
        told = json.loads(report.read_text())["install"][0]["download_info"]
        sha256 = told.get("archive_info", {}).get("hashes", {}).get("sha256", "")
        if asked.wheel:
            sha256 = hashlib.sha256(asked.wheel.read_bytes()).hexdigest()
        shutil.rmtree(folder / "bin", ignore_errors=True)  # programs, which nobody calls
        (found,) = distributions(path=[str(folder)])
        return Package(
            folder=folder,
            name=found.name,
            version=found.version,
            requires=tuple(found.requires or ()),
            sinks=sinks_of(found),
            sha256=sha256,
            is_local=bool(asked.wheel),
        )

    def _why_not(self, name: str, specifier: str, asked: _Asked, said: str) -> Refused:
        """Return the refusal for a package that pip did not install, and said why."""
        who = asked.by[0][0]
        by = "" if normal(re.split(r"[^\w.-]", who)[0]) == name else f", which {who} asks for,"
        if "DO NOT MATCH THE HASHES" in said:
            return Refused(
                f"{name}{specifier} as it was fetched has none of the hashes that {self._pins[name][0]} has for it",
                "Find out who changed the package, and make the file anew only then",
            )
        if "No matching distribution found" not in said:
            return Refused(f"pip could not install {name}{specifier}{by} ({_one_line(said)})", "See what it says")
        if versions := _versions_of(name):
            return Refused(
                f"Of {name}{specifier}{by} there is no wheel for Python {self._target.minor} on {self._target.arch}; "
                f"there are, in any form, the versions {', '.join(versions[:5])}{', …' * (len(versions) > 5)}",
                "Name another version; or, if it is sources alone, fetch them (`pip download --no-deps --no-binary "
                f":all: {name}`) and name that file, which is built where nothing has to be compiled",
            )
        return Refused(
            f"There is no package {name}{by} where pip looks",
            "See how it is written; a directory is named by a path (./DIRECTORY), and PIP_INDEX_URL or PIP_FIND_LINKS "
            "name where packages come from",
        )


def _requirement(text: str, where: str) -> Requirement:
    try:
        found = Requirement(text)
    except InvalidRequirement as error:
        raise Refused(
            f"{text!r}{f' in {where}' if where != text else ''} is no requirement ({str(error).splitlines()[0]})",
            "Name a package (their-sink==1.2), a wheel, the directory of a project, or a file of requirements",
        ) from error
    if found.url:
        raise Refused(f"{text} in {where} is an address", "Fetch what is there, and name the file")
    return found


def _build(source: Path, scratch: Path) -> Path:
    """Build a wheel of a project, a directory or an archive of its sources; return its path. Raises Refused."""
    if source.is_dir() and not any((source / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise Refused(f"{source} holds no pyproject.toml", "Name the directory of a project, or a wheel")
    into = scratch / f"built-{len(list(scratch.glob('built-*')))}"
    command = [*locked.pip(sys.executable), "wheel", "--quiet", "--no-deps", f"--wheel-dir={into}"]
    if source.is_dir() and _is_there(_needs_to_build(source)):
        command.append("--no-build-isolation")  # so nothing is fetched
    say(f"building {source}")
    done = subprocess.run(  # noqa: S603
        [*command, str(source.resolve())], env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Refused(
            f"{source} could not be built ({_one_line(done.stderr or done.stdout)})",
            f"See what `pip wheel --no-deps {source}` says; where it has to be compiled, name a wheel of it",
        )
    (wheel,) = into.glob("*.whl")
    return wheel


def _needs_to_build(project: Path) -> list[str] | None:
    """Return what a project needs to be built; None if it does not say."""
    try:
        told = tomllib.loads((project / "pyproject.toml").read_text())
    except FileNotFoundError:
        return None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{project}/pyproject.toml cannot be read ({error})", "Correct it") from error
    found = told.get("build-system", {}).get("requires")
    return found if isinstance(found, list) else None


def _is_there(wanted: list[str] | None) -> bool:
    """Say whether this Python has all that is wanted."""
    try:
        return wanted is not None and all(
            one.specifier.contains(distribution(one.name).version, prereleases=True) for one in map(Requirement, wanted)
        )
    except (PackageNotFoundError, InvalidRequirement):
        return False


def _versions_of(name: str) -> list[str]:
    """Return the versions of a package that pip finds, in whatever form; [] if it finds none."""
    command = [*locked.pip(sys.executable), "index", "versions", "--ignore-requires-python", "--json", name]
    done = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)  # noqa: S603
    return json.loads(done.stdout)["versions"] if done.returncode == 0 else []


def _one_line(said: str) -> str:
    """Return what pip said is wrong, without the rest of what it said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    wrong = [line.removeprefix("ERROR: ") for line in lines if re.match(r"(ERROR|error|fatal error|\w+Error):", line)]
    return "; ".join(dict.fromkeys(wrong or lines[-1:]))[:600] or "it said nothing"


def _environment() -> dict[str, str]:
    return locked.environment(os.environ)
