"""Publishes a layer: `python -m layer.publish FILE.zip` (see `make publish`). Prints the ARN of the new version.

The processor and the runtimes are read from the bill in the layer, so that it cannot be published for others than it
was built for.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from layer.bill import BILL, PREFIX
from layer.build import PRIVATE
from layer.commands import say
from layer.errors import Refused

NAMES = {"x86_64": "x86_64", "aarch64": "arm64"}  # the API's names of the processors
MOST_RUNTIMES = 15  # Source: AWS Lambda API Reference, PublishLayerVersion, CompatibleRuntimes; read 2026-11-23.
_MOST_DIRECT_BYTES = 50 * 1024 * 1024  # for a ZIP file in the request. Source: Lambda quotas; read 2026-11-23.


def main() -> int:
    options = parser().parse_args()
    try:
        command = call(options.archive, options.name, options.runtimes, options.region)
        if options.dry_run:
            sys.stdout.write(f"{shlex.join(command)}\n")
        else:
            sys.stdout.write(f"{publish(command)}\n")
    except Refused as refusal:
        say(f"refused: {refusal}")
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m layer.publish", description="Publish a layer.")
    found.add_argument("archive", type=Path)
    found.add_argument("--name", default="telemetry-forwarder", help="of the layer")
    found.add_argument("--runtimes", help="comma list of those to name as compatible; up to 15 may be")
    found.add_argument("--region", help="where the AWS CLI's own settings name none, or another")
    found.add_argument("--dry-run", action="store_true", help="print the call and make none")
    return found


def call(archive: Path, name: str, runtimes: str | None, region: str | None) -> list[str]:
    """Return the AWS CLI command that publishes `archive`. Raises Refused.

    If a layer serves more than 15 runtimes, the newest are named; the field helps people who search, Lambda does not
    check it.
    """
    version, told = properties(archive)
    serves = told["runtimes"].split(",")
    named = runtimes.split(",") if runtimes else serves[:MOST_RUNTIMES]
    if foreign := sorted(set(named) - set(serves)):
        raise Refused(
            f"{archive} is not made for {', '.join(foreign)}; it serves {', '.join(serves)}",
            "Name some of those with --runtimes, or build the layer anew (docs/layer.md)",
        )
    if len(named) > MOST_RUNTIMES:
        raise Refused(f"{len(named)} runtimes are named", f"Name up to {MOST_RUNTIMES} with --runtimes")
    if archive.stat().st_size > _MOST_DIRECT_BYTES:
        raise Refused(f"{archive} is over 50 MB, which Lambda takes from S3 alone", "Build a smaller one")
    return [
        "aws", "lambda", "publish-layer-version",
        "--layer-name", name,
        "--description", f"Forwards logs and platform telemetry; version {version}, Python {told['python']} inside",
        "--license-info", "Apache-2.0",
        "--zip-file", f"fileb://{archive}",
        "--compatible-architectures", NAMES[told["architecture"]],
        "--compatible-runtimes", *named,
        *(["--region", region] if region else []),
        "--query", "LayerVersionArn",
        "--output", "text",
    ]  # fmt: skip


def properties(archive: Path) -> tuple[str, dict[str, str]]:
    """Return the extension's version and the layer's properties from the bill in `archive`. Raises Refused."""
    try:
        with zipfile.ZipFile(archive) as opened:
            component = json.loads(opened.read(f"{PRIVATE}/{BILL}"))["metadata"]["component"]
        told = {entry["name"].removeprefix(PREFIX): entry["value"] for entry in component["properties"]}
        return component["version"], {name: told[name] for name in ("architecture", "python", "runtimes")}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise Refused(f"{archive} is not a layer of this builder's ({error!r})", "Run `make layer` first") from error


def publish(command: list[str]) -> str:
    """Run `command`; return the ARN that it prints. Raises Refused if it cannot run or fails."""
    if shutil.which(command[0]) is None:
        raise Refused("The AWS CLI (`aws`) is not installed", "Install it, or copy the call that DRY_RUN=1 shows")
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - aws of PATH
    if found.returncode:
        raise Refused(f"`aws lambda publish-layer-version` failed: {found.stderr.strip()}", "Nothing was published")
    return found.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
