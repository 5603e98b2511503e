"""A strict local receiver of JSON by HTTP, as people write one for themselves: it takes what it was told to take."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import orjson

from local_backends.aws_json import AwsError, check_signature
from local_backends.faults import Fault
from local_backends.intake import Intake, Refused, lines_of
from local_backends.server import Call, Reply

_TYPES = {"ndjson": "application/x-ndjson", "json_array": "application/json"}


class JsonReceiver(Intake):
    """Takes objects at `path` (with its query, if it has one), by `method`, in one form, from one sender.

    `form` is `ndjson` or `json_array`; with `member` the array is that member of an object. The sender shows `token`
    (bearer), or `login` (user name and password), or signs for `service`; None: all are taken. `id_header` has to be in
    each request; a request whose id was there before is answered with `repeated`, and nothing is stored.

    `kept` are the stored objects in order, `ids` the ids of requests, `seen_headers` the headers of stored requests.
    """

    content_types: ClassVar[tuple[str, ...]] = tuple(_TYPES.values())
    max_bytes: ClassVar[int] = 1_048_576  # as nginx has it

    def __init__(
        self,
        *,
        path: str = "/in",
        method: str = "POST",
        form: str = "ndjson",
        member: str = "",
        token: str | None = None,
        login: tuple[str, str] | None = None,
        service: str | None = None,
        id_header: str | None = "Idempotency-Key",
        answer: int = 200,
        repeated: int = 200,
        **listen: Any,
    ) -> None:
        super().__init__(**listen)
        self.path, _, self.query = path.partition("?")
        self.method = method
        self.form = form
        self.member = member
        self.token = token
        self.login = login
        self.service = service
        self.id_header = id_header
        self.answer = answer
        self.repeated = repeated
        self.objects: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.repeats = 0
        self.seen_headers: list[dict[str, str]] = []

    @property
    def kept(self) -> Sequence[dict[str, Any]]:
        return self.objects

    def is_mine(self, path: str) -> bool:
        return path == self.path

    def check_sender(self, call: Call) -> None:
        given = call.headers.get("Authorization", "")
        if self.service is not None:
            try:
                check_signature(call, self.service, None)
            except AwsError as error:
                raise Refused(403, error.message) from error
        if self.token is not None and given != f"Bearer {self.token}":
            raise Refused(401, "the token is unknown")
        if self.login is not None:
            expected = b64encode(":".join(self.login).encode()).decode()
            if given != f"Basic {expected}":
                raise Refused(401, "the user name or the password is wrong")

    def respond(self, call: Call, fault: Fault | None = None) -> Reply:
        if call.method != self.method:
            return Reply(405, self.error(405, f"only {self.method} is taken"))
        if "&".join(f"{name}={value}" for name, value in call.query.items()) != self.query:
            return Reply(400, self.error(400, "the query is another one"))
        return super().respond(replace(call, method="POST"), fault)

    def take(self, call: Call, body: bytes, fault: Fault | None) -> Reply:
        if call.headers["Content-Type"] != _TYPES[self.form]:
            raise Refused(415, "the content type does not go with the form")
        objects = self._objects_in(body)
        if self.id_header is not None:
            key = call.headers.get(self.id_header)
            if not key:
                raise Refused(400, f"without the header {self.id_header}")
            if key in self.ids:
                self.repeats += 1
                return Reply(self.repeated)
            self.ids.append(key)
        self.objects += objects
        self.seen_headers.append({name.lower(): value for name, value in call.headers.items()})
        return Reply(self.answer)

    def _objects_in(self, body: bytes) -> list[dict[str, Any]]:
        """Return the objects of a body in the form that is taken. Raises Refused."""
        if self.form == "ndjson":
            if not body.endswith(b"\n"):
                raise Refused(400, "the last line does not end")
            found: Any = lines_of(body)
        else:
            try:
                found = orjson.loads(body)
            except orjson.JSONDecodeError as error:
                raise Refused(400, f"no JSON: {error}") from error
            if self.member:
                found = found.get(self.member) if isinstance(found, dict) and len(found) == 1 else None
        if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
            raise Refused(400, "objects in the form that is taken are wanted")
        return found
