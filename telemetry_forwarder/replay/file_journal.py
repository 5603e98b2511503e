"""The journal of the command: a file of what was sent, so that the next replay sends nothing twice.

The first line names the destination. Each further line is a JSON object about one parcel: the numbers of the lines that
were sent (from 0, as first and last of each run), or that the parcel is done. A line is written as soon as an answer
has been read, before the next request is sent.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import orjson

from telemetry_forwarder.replay.journal import JournalError, runs

FORM = 1


class FileJournal:
    """A Journal in a file, of one replay at a time. Use `open_journal` to make one.

    Each note is written at once, and a process that is killed afterwards loses none.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sent: dict[str, set[int]] = {}
        self._done: set[str] = set()

    async def open(self, digest: str) -> None:
        """Do nothing: all was read at the start, and the file is locked against others."""

    async def save(self) -> None:
        """Do nothing: what was noted is written."""

    def is_done(self, digest: str) -> bool:
        return digest in self._done

    def sent(self, digest: str) -> frozenset[int]:
        return frozenset(self._sent.get(digest, ()))

    def note_sent(self, digest: str, numbers: Iterable[int]) -> None:
        found = sorted(numbers)
        if found:
            self._sent.setdefault(digest, set()).update(found)
            self._write({"parcel": digest, "sent": runs(found)})

    def note_done(self, digest: str) -> None:
        self._done.add(digest)
        self._sent.pop(digest, None)
        self._write({"parcel": digest, "done": True})

    def begin(self, to: str) -> None:
        """Write the first line of a new file, which names the destination `to`."""
        self._write({"replay": FORM, "to": to})

    def take(self, entry: Any) -> None:
        """Add an entry read from the file. Raises LookupError, TypeError or ValueError if it is not a valid entry."""
        digest = entry["parcel"]
        if not isinstance(digest, str):
            raise TypeError(digest)
        if entry.get("done") is True:
            self._done.add(digest)
            return
        for first, last in entry["sent"]:
            self._sent.setdefault(digest, set()).update(range(first, last + 1))

    def _write(self, entry: object) -> None:
        try:
            self._file.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
            self._file.flush()
        except OSError as error:
            raise JournalError(f"{self._file.name} cannot be written to: {error.strerror}.") from error


@contextmanager
def open_journal(path: Path, to: str) -> Iterator[FileJournal]:
    """Open the journal of the destination `to`, creating it if it is missing; the file is locked inside the context.

    An incomplete last line, from a killed process, is dropped. Raises JournalError if the file belongs to another
    destination, is no journal, or is in use by another replay.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise JournalError(f"{path} cannot be written to: {error.strerror}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalError(f"{path} is in use: another replay to this destination is running.") from error
        journal = FileJournal(file)
        _read(journal, file, path, to)
        yield journal


def _read(journal: FileJournal, file: IO[bytes], path: Path, to: str) -> None:
    file.seek(0)
    lines = file.read().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        os.truncate(file.fileno(), sum(map(len, lines[:-1])))
        lines.pop()
    if not lines:
        journal.begin(to)
        return
    try:
        head = orjson.loads(lines[0])
        if head["replay"] != FORM:
            raise ValueError
        if head["to"] != to:
            raise JournalError(f"{path} is about another destination, {head['to']}, and not about {to}.")
        for line in lines[1:]:
            journal.take(orjson.loads(line))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise JournalError(f"{path} is not a state file of `telemetry-forwarder replay`.") from error


def default_path(to: str, state_home: str | None) -> Path:
    """Return the default path of the journal of `to`, below `state_home` ($XDG_STATE_HOME) or `~/.local/state`."""
    folder = Path(state_home) if state_home else Path.home() / ".local" / "state"
    mark = blake2b(to.encode(), digest_size=6).hexdigest()
    return folder / "telemetry-forwarder" / f"replay-{to.partition(' ')[0]}-{mark}.jsonl"
