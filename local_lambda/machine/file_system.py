"""What the processes of one environment find where: Lambda's file system in a room, or this machine's."""

import atexit
import functools
import secrets
import shutil
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from local_lambda.errors import LimitsUnavailable
from local_lambda.machine.reaper import reaper
from local_lambda.machine.rooms import Bind, Plan, Room, why_no_ports, why_not
from local_lambda.rules.places import Places, of_lambda
from local_lambda.runtimes import Runtime
from local_lambda.settings import Function, Platform

OWN = "own: a mount namespace"
_AS_SET = "as set"
_REMARK = "The environment shares this machine's files ({}): nothing lies at /opt, and sandbox.localdomain is no name."
_NO_PORTS = "Environments share ports ({}): one bound to all addresses or to localhost can be had by one of them only."
_SHARED_ADDRESS = "127.0.0.2"
_EXTENSIONS = Path("/opt/extensions")
# Where a room has other things than this machine.
_HIDDEN = tuple(map(Path, ("/tmp", "/opt", "/var/task", "/var/runtime", "/var/lang", "/var/tmp")))  # noqa: S108


class FileSystem:
    """The file system of one environment.

    `why_shared` is the reason if it is not its own, else ""; `enforced` says either. `remark` says what cannot work for
    lack of one, or of ports; "" if nothing lacks, or as it was asked for.

    `extensions` are the executables by name; those of `opt` are in its folder `extensions`.
    Raises LimitsUnavailable if a file system of its own was asked for and cannot be had.
    """

    def __init__(
        self, function: Function, platform: Platform, runtime: Runtime, opt: Path | None, extensions: Mapping[str, Path]
    ) -> None:
        reason = _why_shared(platform)
        if reason and platform.file_system == "own":
            raise LimitsUnavailable(f"A file system of the environment's own cannot be had: {reason}.")
        self.why_shared = reason
        self.enforced = f"shared: {reason}" if reason else OWN
        self.remark = _remark(platform, reason)
        self._runtime = runtime
        self._task = function.code.resolve()
        self.opt = opt
        self._files = {name: path.absolute() for name, path in extensions.items() if not _is_in(path, opt)}
        self._extensions = extensions
        if reason:
            self.places = self._shared(platform)
        else:
            self.places = of_lambda(platform.telemetry_host or _own_address())
            self._plan = self._plan_of(function, platform)

    def _shared(self, platform: Platform) -> Places:
        return Places(
            task=self._task,
            opt=self.opt,
            runtime=_linked(tuple(sorted(self._runtime.files.items()))),
            lang=self._runtime.lang,
            address=platform.telemetry_host or _SHARED_ADDRESS,
        )

    def _plan_of(self, function: Function, platform: Platform) -> Plan:
        runtime, places = self._runtime, self.places
        binds = [Bind(source=self._task, target=places.task)]
        if runtime.lang is not None:
            binds.append(Bind(source=runtime.lang, target=Path("/var/lang")))
        binds += [Bind(source=path, target=places.runtime / name) for name, path in runtime.files.items()]
        binds += [Bind(source=path, target=path) for path in _needed(self._files.values())]
        binds += [Bind(source=path, target=path, writable=True) for path in platform.shared_paths]
        return Plan(
            address=places.address,
            tmp_mb=function.ephemeral_mb,
            own_ports=platform.own_ports,
            opt=self.opt,
            programs=self._files,
            binds=binds,
            hidden=_installed_beside(runtime),
            names={} if runtime.lang is None else {name: Path(runtime.program).name for name in runtime.names},
        )

    async def open(self) -> Room | None:
        """Make the room, if there is to be one. Raises LimitsUnavailable."""
        if not self.places.are_lambdas:
            return None
        try:
            return await Room.open(self._plan)
        except OSError as error:
            raise LimitsUnavailable(f"The environment's file system could not be made: {error}.") from error

    def extension(self, name: str) -> Path:
        """Return the path under which an extension is executed. It is not resolved: its name is that of the file."""
        return _EXTENSIONS / name if self.places.are_lambdas else self._extensions[name].absolute()

    def here(self, path: str) -> Path:
        """Return the place on this machine of a path in the environment."""
        for place, source in ((self.places.task, self._task), (Path("/opt"), self.opt)):
            if source is not None and Path(path).is_relative_to(place):
                return source / Path(path).relative_to(place)
        return self._task / path

    def is_file(self, name: str) -> bool:
        """Whether an extension was given as a file of this machine, not in a layer."""
        return name in self._files


def _remark(platform: Platform, why_shared: str) -> str:
    if why_shared:
        return "" if why_shared == _AS_SET else _REMARK.format(why_shared)
    return _NO_PORTS.format(why_no_ports()) if platform.own_ports and why_no_ports() else ""


def has_own(platform: Platform) -> bool:
    """Whether environments have file systems of their own."""
    return not _why_shared(platform)


def _why_shared(platform: Platform) -> str:
    return _AS_SET if platform.file_system == "shared" else why_not()


def _is_in(path: Path, opt: Path | None) -> bool:
    return opt is not None and path.parent == opt / "extensions"


def _own_address() -> str:
    """Return an address for the names of one environment; none of 127.0.x.x, where others listen.

    It is odd: the even one that follows stands for localhost where an environment has ports of its own.
    """
    return f"127.{1 + secrets.randbelow(254)}.{secrets.randbelow(256)}.{1 + 2 * secrets.randbelow(126)}"


def _needed(programs: Collection[Path]) -> list[Path]:
    """Return what a room must show at its own place, since it hides it and a given program needs it.

    That is its directory, with what lies beside it; and this tool's interpreter, packages and search path, since a
    program that is given as a file is run by them.
    """
    if not programs:
        return []
    folders = [path if path.parent in _HIDDEN else path.parent for path in programs]
    own = map(Path, (sys.prefix, sys.base_prefix, *sys.path))
    wanted = {path for path in (*folders, *own) if path.is_absolute() and path.exists() and _is_hidden(path)}
    return sorted(path for path in wanted if not any(other in path.parents for other in wanted))


def _is_hidden(path: Path) -> bool:
    return path not in _HIDDEN and any(path.is_relative_to(place) for place in _HIDDEN)


def _installed_beside(runtime: Runtime) -> list[Path]:
    """Return where an interpreter finds what this machine has installed for it: on Lambda there is nothing of that."""
    if runtime.language != "python" or runtime.lang is None:
        return []
    folders = (f"lib/python{runtime.version}/site-packages", f"lib/python{runtime.version}/dist-packages")
    return [Path("/var/lang") / folder for folder in (*folders, "lib/python3/dist-packages")]


@functools.cache
def _linked(files: tuple[tuple[str, Path], ...]) -> Path:
    """Return a private directory with links to `files`, by name: it stands for /var/runtime, for all environments."""
    folder = Path(tempfile.mkdtemp(prefix="local-lambda-runtime-"))
    reaper.add("tree", str(folder))
    atexit.register(_remove, folder)
    for name, path in files:
        (folder / name).symlink_to(path)
    return folder


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    reaper.remove("tree", str(folder))
