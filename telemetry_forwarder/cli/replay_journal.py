"""What a replay has sent, line by line on disk, so that the next one sends nothing twice.

Each line is a JSON object: what was sent of a parcel (numbers of its lines, from 0, first and last of each run), or
that nothing is left of it. It is written in the moment in which the answer has been read, before anything else is sent.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import orjson

FORM = 1


class JournalError(Exception):
    """The file cannot be used; the text names it and says why."""


class Journal:
    """What has been sent to one destination. `open_journal` makes it; to note raises JournalError."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sent: dict[str, set[int]] = {}
        self._done: set[str] = set()

    def is_done(self, digest: str) -> bool:
        """Say whether nothing of the parcel `digest` is left to be sent."""
        return digest in self._done

    def sent(self, digest: str) -> frozenset[int]:
        """Return the numbers of the lines of the parcel that were sent."""
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
        """Write the first line of a new file: whom it is about."""
        self._write({"replay": FORM, "to": to})

    def take(self, entry: Any) -> None:
        """Take an entry that was read. Raises LookupError, TypeError or ValueError for what is none."""
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
def open_journal(path: Path, to: str) -> Iterator[Journal]:
    """Open the journal about the destination `to`, made if it is missing; held alone until the block ends.

    A last line that is torn off (the process was killed) is dropped. Raises JournalError for a file that is another
    destination's, that is none, or that another replay uses.
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
        journal = Journal(file)
        _read(journal, file, path, to)
        yield journal


def _read(journal: Journal, file: IO[bytes], path: Path, to: str) -> None:
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


def runs(numbers: Iterable[int]) -> list[list[int]]:
    """Return the runs in ascending `numbers`, each as its first and its last."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def default_path(to: str, state_home: str | None) -> Path:
    """Return where the journal about `to` is unless it is said otherwise: below `$XDG_STATE_HOME`."""
    folder = Path(state_home) if state_home else Path.home() / ".local" / "state"
    mark = blake2b(to.encode(), digest_size=6).hexdigest()
    return folder / "telemetry-forwarder" / f"replay-{to.partition(' ')[0]}-{mark}.jsonl"
