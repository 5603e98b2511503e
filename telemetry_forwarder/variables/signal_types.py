"""The types of settings of sinks, metrics, traces and OTLP; as in `types`, `read` turns a text into a value."""

from telemetry_forwarder.variables.types import Secret, Words
from telemetry_forwarder.variables.wording import only, whole, words


class SinkNames(Words):
    """A list of sinks: `kind`, or `kind:name` for a further one of a kind; names of third parties are allowed, too."""

    # Sinks have destinations as `splunk-metrics`, which the keys of failover do not tell from `splunk:metrics`.
    _TAKEN = ("logs", "metrics", "traces")

    def __init__(self, *words: str) -> None:
        super().__init__(*words, open_ended=True)
        self.allowed += "; `kind:name` for a further one of a kind, the name of letters, digits and `_`"

    def read(self, text: str) -> "tuple[str, ...]":
        found = [word.lower() for word in words(text)]
        kept = tuple(dict.fromkeys(word for word in found if self._is_one(word)))
        return whole(kept, [word for word in found if word not in kept])

    def _is_one(self, word: str) -> bool:
        kind, colon, name = word.partition(":")
        return not colon or (bool(kind and name) and only(name, "_") and name not in self._TAKEN)


class Choice:
    """Which sinks something is for, as a tuple: () for `off`, ("on",) for all that can, or their names."""

    label = "`off`, `on` or comma list"
    allowed = "`off`, `on` (every sink that can), or names of sinks"

    def read(self, text: str) -> "tuple[str, ...]":
        found = [word.lower() for word in words(text)]
        for word, meaning in _SWITCH.items():
            if word in found:
                if len(found) > 1:
                    raise ValueError(self.allowed)
                return meaning
        kept = tuple(dict.fromkeys(word for word in found if _is_name(word)))
        return whole(kept, [word for word in found if word not in kept])


_OFF: "tuple[str, ...]" = ()
_SWITCH = {
    **dict.fromkeys(("off", "false", "no", "0"), _OFF),
    **dict.fromkeys(("on", "true", "yes", "1", "all"), ("on",)),
}


def _is_name(word: str) -> bool:
    kind, colon, name = word.partition(":")
    return only(word, "-_:") and bool(kind) and ":" not in name and bool(name) is bool(colon)


class Sampling:
    """Which invocations become traces: `off`, `on`, `follow_xray`, or the share of them as a number."""

    label = "word or number"
    allowed = "`off`, `on`, `follow_xray`, or the share of invocations: a number from 0 to 1"

    def read(self, text: str) -> "str | float":
        word = text.lower()
        if word in ("off", "false", "no"):
            return "off"
        if word in ("on", "true", "yes", "all"):
            return "on"
        if word in ("follow_xray", "follow-xray"):
            return "follow_xray"
        share = Price().read(text)
        if share > 1:
            raise ValueError(self.allowed)
        return share


class Price:
    """A number that is not negative, e.g. an amount of money; digits, a point and an exponent."""

    label = "number"
    allowed = "a number such as `0.0000166667` or `1.66667e-5`, not negative"

    def read(self, text: str) -> float:
        digits = text.lower().replace("e-", "", 1).replace("e", "", 1).replace(".", "", 1)
        if not (digits.isascii() and digits.isdigit() and len(text) <= 32):  # no sign, `nan` or `inf`
            raise ValueError(self.allowed)
        number = float(text)
        if number > 1e6:
            raise ValueError(self.allowed)
        return number


class LineModes:
    """What becomes of metric lines, as pairs of a sink's name ("" for the others) and a mode."""

    label = "mode or `sink:mode` list"
    allowed = "`keep`, `strip`, `drop` or `metrics`, for all sinks or as `sink:mode,sink:mode`"
    modes = ("keep", "strip", "drop", "metrics")

    def read(self, text: str) -> "tuple[tuple[str, str], ...]":
        found = [word.lower() for word in words(text)]
        kept = []
        for word in found:
            sink, colon, mode = word.rpartition(":")
            if mode in self.modes and (not colon or _is_name(sink)):
                kept.append((sink, mode))
        wrong = [word for word in found if (word.rpartition(":")[0], word.rpartition(":")[2]) not in kept]
        return whole(tuple(dict.fromkeys(kept)), wrong)


class Namespace:
    """A namespace of CloudWatch metrics. Source: CloudWatch API Reference, PutMetricData, read 2026-11-28."""

    label = "name"
    allowed = "1 to 255 of letters, digits, `_`, `-`, `/`, `.`, `#`, `:`, not beginning with `AWS/` or `:`"

    def read(self, text: str) -> str:
        if len(text) > 255 or not only(text, "_-/.#:") or text.startswith((":", "AWS/")):
            raise ValueError(self.allowed)
        return text


class HeaderList:
    """HTTP headers in OpenTelemetry's form, kept as a Secret, because most of them are credentials."""

    label = "headers"
    allowed = "`name=value,name=value`; a comma in a value is written `%2C`"

    def read(self, text: str) -> Secret:
        from telemetry_forwarder.variables.otlp import headers_in  # loaded only if there are any

        headers_in(text)
        return Secret(text)


class Attributes:
    """Attributes in OpenTelemetry's form, as a tuple of pairs."""

    label = "attributes"
    allowed = "`key=value,key=value`; a comma or `=` in a value is written `%2C` or `%3D`, and `%` as `%25`"

    def read(self, text: str) -> "tuple[tuple[str, str], ...]":
        from telemetry_forwarder.variables.otlp import attributes_in

        return attributes_in(text)
