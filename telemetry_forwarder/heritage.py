"""What one generation of the extension leaves for the next in the same environment: which request was running.

After a reset Lambda hands the last lines of the invocation that ended to a process that has never heard of it. A file
of some bytes in /tmp, written at each start of a request, tells it; `kill -9` loses nothing of it.
"""

import contextlib
import os

import orjson

from telemetry_forwarder.values import asdict, dataclass

# In Lambda /tmp is of this environment alone, and gone with it.
DIRECTORY = "/tmp/telemetry-forwarder"  # noqa: S108
SIZE = 2048  # each time all of it is written over, so that nothing older shows behind it
_IDENTITY_DIGITS = 24  # of a batch, as of `enrich.batch_id`


@dataclass(frozen=True, slots=True, kw_only=True)
class Heritage:
    """What is left: the environment, the request that was started last, and the first one. None where there is none.

    `taken` are the identities of the batches that were taken last, one behind the other.
    """

    instance_id: str | None = None
    request_id: str | None = None
    first: str | None = None
    taken: str | None = None

    def batches(self) -> list[str]:
        """Return the identities of the batches that were taken last, oldest first."""
        taken = self.taken or ""
        return [taken[at : at + _IDENTITY_DIGITS] for at in range(0, len(taken), _IDENTITY_DIGITS)]


class HeritageFile:
    """The file of one environment. Does nothing, without an error, where it cannot be had: it only makes ids better."""

    def __init__(self, runtime_api: str, directory: str = DIRECTORY) -> None:
        """Open the file of the environment at `runtime_api`: elsewhere than in Lambda several share one /tmp."""
        name = "last-" + "".join(c if c.isalnum() or c in ".-" else "-" for c in runtime_api[-100:])
        self._file: int | None = None
        with contextlib.suppress(OSError):
            os.makedirs(directory, 0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(os.path.join(directory, name), flags, 0o600)

    def read(self) -> Heritage:
        """Return what the generation before left; nothing where there is nothing sound."""
        if self._file is None:
            return Heritage()
        try:
            found = orjson.loads(os.pread(self._file, SIZE, 0))
        except (OSError, ValueError):
            return Heritage()
        names = Heritage.__dataclass_fields__
        members = found if isinstance(found, dict) else {}
        return Heritage(**{name: members[name] for name in names if isinstance(members.get(name), str)})

    def write(self, heritage: Heritage) -> None:
        data = orjson.dumps(asdict(heritage)).ljust(SIZE)
        if self._file is None or len(data) > SIZE:
            return
        with contextlib.suppress(OSError):
            os.pwrite(self._file, data, 0)
