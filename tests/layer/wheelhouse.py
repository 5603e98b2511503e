"""Writes wheels of packages that do not exist, for the tests that put packages into a layer."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

GROUP = "telemetry_forwarder.sinks"
SINK = "def create(environ):\n    pass\n"


def wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    files: Mapping[str, str | bytes] | None = None,
    sinks: Mapping[str, str] | None = None,
    requires: Sequence[str] = (),
    extras: Sequence[str] = (),
    tag: str = "py3-none-any",
) -> Path:
    """Write a wheel into `folder`; without `files` it is one module with a `create`, called as the package."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    fields = [*(f"Requires-Dist: {one}" for one in requires), *(f"Provides-Extra: {one}" for one in extras)]
    written: dict[str, str | bytes] = dict(files or {f"{module}.py": SINK})
    written[f"{info}/METADATA"] = "\n".join(
        ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *fields, ""]
    )
    written[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    if sinks:
        lines = "".join(f"{entry} = {value}\n" for entry, value in sinks.items())
        written[f"{info}/entry_points.txt"] = f"[{GROUP}]\n{lines}"
    written[f"{info}/RECORD"] = "".join(f"{place},,\n" for place in (*written, f"{info}/RECORD"))
    path = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, content in written.items():
            archive.writestr(place, content)
    return path
