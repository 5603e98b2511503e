"""The exception with which the APIs refuse a call; the server turns it into a status and a JSON body."""

import orjson


class Refused(Exception):
    """A call is refused: it is answered with `status` and an error body.

    `type_first`: error bodies of the Telemetry API were captured with `errorType` before `errorMessage`; those of the
    other APIs have the reverse order.
    """

    def __init__(self, status: int, error_type: str, message: str, *, type_first: bool = False) -> None:
        super().__init__(f"{status} {error_type}: {message}")
        self.status = status
        self.error_type = error_type
        self.message = message
        self._type_first = type_first

    def named(self, prefix: str) -> "Refused":
        """Return the refusal as an API gives it whose error types begin with `prefix`, and come first."""
        return Refused(self.status, prefix + self.error_type, self.message, type_first=True)

    @property
    def body(self) -> bytes:
        """The error body as JSON; AWS's emulator also ends it with a newline."""
        if self._type_first:
            return orjson.dumps({"errorType": self.error_type, "errorMessage": self.message})
        return orjson.dumps({"errorMessage": self.message, "errorType": self.error_type}) + b"\n"
