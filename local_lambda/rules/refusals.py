"""How the APIs say no: one exception that becomes a status and a JSON body."""

import orjson


class Refused(Exception):
    """A call that is answered with `status` and an error body.

    `type_first`: bodies of the Telemetry API were captured with `errorType` before `errorMessage`, others have them
    the other way round.
    """

    def __init__(self, status: int, error_type: str, message: str, *, type_first: bool = False) -> None:
        super().__init__(f"{status} {error_type}: {message}")
        self.status = status
        self.error_type = error_type
        self.message = message
        self._type_first = type_first

    @property
    def body(self) -> bytes:
        """The JSON to answer with; the newline at its end is that of AWS's emulator."""
        if self._type_first:
            return orjson.dumps({"errorType": self.error_type, "errorMessage": self.message})
        return orjson.dumps({"errorMessage": self.message, "errorType": self.error_type}) + b"\n"
