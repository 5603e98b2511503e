"""What one generation of the extension leaves for the next in the same environment: which request was running.

After a reset Lambda hands the last lines of the invocation that ended to a process that has never heard of it. A file
of some bytes in /tmp, written at each start of a request, tells it; `kill -9` loses nothing of it.
"""

from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    pass

import os
from collections.abc import Callable

from telemetry_forwarder.lazy_dataclass import asdict, dataclass

# In Lambda /tmp is of this environment alone, and gone with it.
DIRECTORY = "/tmp/telemetry-forwarder"  # noqa: S108
SIZE = 2048  # each time all of it is written over, so that nothing older shows behind it
_IDENTITY_DIGITS = 24  # of a batch, as of `enrich.batch_id`


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What is left: the environment, the request that was started last, and the first one. None where there is none.

    `taken` are the identities of the batches that were taken last, one behind the other. `restored` is the name of an
    environment that was restored from a snapshot.
    """

    instance_id: str | None = None
    request_id: str | None = None
    first: str | None = None
    taken: str | None = None
    restored: str | None = None

    def batches(self) -> list[str]:
        """Return the identities of the batches that were taken last, oldest first."""
        taken = self.taken or ""
        return [taken[at : at + _IDENTITY_DIGITS] for at in range(0, len(taken), _IDENTITY_DIGITS)]


class HandoverFile:
    """The file of one environment. Raises nothing where it cannot be had: it only makes ids better.

    What fails is counted, and said once: `say` is given a sentence.
    """

    def __init__(
        self, runtime_api: str, directory: str = DIRECTORY, say: Callable[[str], None] = lambda sentence: None
    ) -> None:
        """Open the file of the environment at `runtime_api`: elsewhere than in Lambda several share one /tmp."""
        name = "last-" + "".join(c if c.isalnum() or c in ".-" else "-" for c in runtime_api[-100:])
        self.failures = 0
        self._directory = directory
        self._path = os.path.join(directory, name)
        self._say = say
        self._file: int | None = None
        try:
            self._open()
        except OSError as error:
            self._note(error)

    def read(self) -> Handover:
        """Return what the generation before left; nothing where there is nothing sound."""
        if self._file is None:
            return Handover()
        try:
            found = orjson.loads(os.pread(self._file, SIZE, 0))
        except ValueError:  # what is empty, most likely
            return Handover()
        except OSError as error:
            self._note(error)
            return Handover()
        names = Handover.__dataclass_fields__
        members = found if isinstance(found, dict) else {}
        return Handover(**{name: members[name] for name in names if isinstance(members.get(name), str)})

    def write(self, handover: Handover) -> None:
        """Leave `handover`, in another file where the function has removed ours."""
        data = orjson.dumps(asdict(handover)).ljust(SIZE)
        if len(data) > SIZE:
            return
        try:
            if self._file is None or not self._is_in_place(self._file):
                self._open()
            if self._file is not None:
                os.pwrite(self._file, data, 0)
        except OSError as error:
            self._note(error)

    def _open(self) -> None:
        os.makedirs(self._directory, 0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        file, before = os.open(self._path, flags, 0o600), self._file
        self._file = file
        if before is not None:
            os.close(before)

    def _is_in_place(self, file: int) -> bool:
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        ours = os.fstat(file)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _note(self, error: OSError) -> None:
        self.failures += 1
        if self.failures == 1:
            self._say(
                f"{self._path} cannot be used: {error.strerror or error}. After a reset the last lines of the request "
                "before may have no request id, and a batch that Lambda sends again may be forwarded again."
            )


def before(subscription: tuple[int, str, bytes] | None, handover_file: HandoverFile) -> Handover:
    """Return what the generation before left; nothing, and what may lie there is of another environment, for the first.

    Source: captures of Lambda: whoever subscribes again after a reset is answered `AlreadySubscribed`.
    """
    if subscription is not None and b"AlreadySubscribed" in subscription[2]:
        return handover_file.read()
    handover_file.write(Handover())
    return Handover()
