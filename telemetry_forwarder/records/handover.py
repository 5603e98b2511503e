"""Hand over the running request to the next generation of the extension in the same environment, by a file in /tmp.

After a reset Lambda sends the last lines of the ended invocation to a new process that does not know it. So the
extension writes a small file at each start of a request. It survives `kill -9`.
"""

import os
from collections.abc import Callable

import orjson
from msgspec import Struct
from msgspec.structs import asdict

# In Lambda /tmp belongs to this environment alone and is deleted with it.
DIRECTORY = "/tmp/telemetry-forwarder"  # noqa: S108
SIZE = 2048  # in bytes; each write covers all of them, so no older content remains
_IDENTITY_DIGITS = 24  # the length of a batch's identity, see `record.batch_id`


class Handover(Struct, frozen=True, kw_only=True):
    """What one generation leaves: the environment, the request that started last, and the first one. None if unknown.

    `taken` holds the identities of the batches that were taken last, concatenated. `restored` is the name of an
    environment that was restored from a snapshot. `measured` is the request whose end was measured last, where metrics
    or spans are made.

    Where traces are on: `trace_id` and `started` (its time in ms) are what Lambda told of the running request, `traced`
    is the one whose trace was sent without its report.
    """

    instance_id: str | None = None
    request_id: str | None = None
    first: str | None = None
    taken: str | None = None
    restored: str | None = None
    measured: str | None = None
    trace_id: str | None = None
    started: str | None = None
    traced: str | None = None

    def batches(self) -> list[str]:
        """Return the identities of the batches that were taken last, oldest first."""
        taken = self.taken or ""
        return [taken[at : at + _IDENTITY_DIGITS] for at in range(0, len(taken), _IDENTITY_DIGITS)]


class HandoverFile:
    """The handover file of one environment. It raises no error if the file cannot be used: it only improves ids.

    Failures are counted, and the first one is reported: `say` is called with a sentence.
    """

    def __init__(
        self, runtime_api: str, directory: str = DIRECTORY, say: Callable[[str], None] = lambda sentence: None
    ) -> None:
        """Open the file for the environment at `runtime_api`. Outside Lambda several environments share one /tmp."""
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
        """Return what the previous generation left; an empty Handover if the file holds nothing valid."""
        if self._file is None:
            return Handover()
        try:
            found = orjson.loads(os.pread(self._file, SIZE, 0))
        except ValueError:  # most likely it is empty
            return Handover()
        except OSError as error:
            self._note(error)
            return Handover()
        names = Handover.__struct_fields__
        members = found if isinstance(found, dict) else {}
        return Handover(**{name: members[name] for name in names if isinstance(members.get(name), str)})

    def write(self, handover: Handover) -> None:
        """Write `handover`; create the file again if the function has removed it."""
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
    """Return what the previous generation left. The first generation gets an empty Handover and resets the file.

    Source: captures of Lambda: a second subscription after a reset is answered `AlreadySubscribed`.
    """
    if subscription is not None and b"AlreadySubscribed" in subscription[2]:
        return handover_file.read()
    handover_file.write(Handover())
    return Handover()
