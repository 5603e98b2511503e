"""Where the processes of an environment find what Lambda puts at fixed places. Pure."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The directories that stand for /var/task, /opt, /var/runtime and /var/lang: those themselves where the
    environment has a file system of its own, else directories of this machine. `opt` is None where there is none.

    `address` is that of sandbox.localdomain.
    """

    task: Path
    opt: Path | None
    runtime: Path
    lang: Path | None
    address: str
    are_lambdas: bool = False

    def found(self, path: str) -> Path:
        """Return where a path of a customer's variable, such as /opt/wrapper, is found."""
        for fixed, place in (("/opt", self.opt), ("/var/task", self.task), ("/var/runtime", self.runtime)):
            if place is not None and Path(path).is_relative_to(fixed):
                return place / Path(path).relative_to(fixed)
        return Path(path)


def of_lambda(address: str) -> Places:
    """Return Lambda's own places."""
    return Places(
        task=Path("/var/task"),
        opt=Path("/opt"),
        runtime=Path("/var/runtime"),
        lang=Path("/var/lang"),
        address=address,
        are_lambdas=True,
    )
