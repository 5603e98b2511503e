"""The targets of the failover: an S3 bucket with a prefix, or an SQS queue, and the type that reads them.

Imports only modules of `variables`, for the reason given in `variables.table`.
"""

from telemetry_forwarder.variables.types import Url
from telemetry_forwarder.variables.wording import Value, only


class S3Prefix(Value):
    """A place in S3: the name of a bucket, and the prefix of the keys (may be empty; no slash at either end)."""

    def __init__(self, name: str, prefix: str = "") -> None:
        self.name = name
        self.prefix = prefix

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}".rstrip("/")


class SqsQueue(Value):
    """An SQS queue, by its URL. `region` is the region in an AWS host name; None for any other host."""

    def __init__(self, url: str, region: "str | None" = None) -> None:
        self.url = url
        self.region = region

    @property
    def is_fifo(self) -> bool:
        return self.url.endswith(".fifo")

    def __str__(self) -> str:
        return self.url


class FailoverTarget:
    """The setting type of a failover target: `read` returns an S3Prefix or an SqsQueue.

    Sources, read 2026-11-23: Amazon S3 User Guide, "General purpose bucket naming rules" (3 to 63 of lower-case
    letters, digits, dots, hyphens; a letter or digit at both ends) and "Creating object key names" (safe characters);
    Amazon SQS Developer Guide, "Queue and message identifiers" (`/ACCOUNT/NAME`, a name of up to 80 characters).
    """

    label = "address"
    allowed = "`s3://BUCKET[/PREFIX]`, or the URL of an SQS queue, `https://sqs.REGION.amazonaws.com/ACCOUNT/NAME`"
    longest_prefix = 512  # a whole key may have 1024 bytes

    def read(self, text: str) -> "S3Prefix | SqsQueue":
        return self._bucket(text[5:]) if text.lower().startswith("s3://") else self._queue(text)

    def _bucket(self, text: str) -> S3Prefix:
        name, _, prefix = text.partition("/")
        prefix = prefix.strip("/")
        ends_well = name[:1].isalnum() and name[-1:].isalnum() and ".." not in name
        is_name = 3 <= len(name) <= 63 and only(name, ".-") and name == name.lower() and ends_well
        if not is_name or len(prefix) > self.longest_prefix or not only(prefix, "/!-_.*'()=") or "//" in prefix:
            raise ValueError(self.allowed)
        return S3Prefix(name, prefix)

    def _queue(self, text: str) -> SqsQueue:
        scheme, _, rest = Url().read(text).partition("://")
        authority, *path = rest.split("/")
        if len(path) != 2 or len(path[0]) != 12 or not path[0].isdigit() or not _is_queue_name(path[1]):
            raise ValueError(self.allowed)
        host = authority.partition(":")[0].split(".")
        is_of_aws = len(host) > 3 and host[0] == "sqs" and host[2] == "amazonaws"
        return SqsQueue(f"{scheme}://{rest}", host[1] if is_of_aws else None)


def _is_queue_name(name: str) -> bool:
    return 0 < len(name) <= 80 and only(name.removesuffix(".fifo"), "-_") and name != ".fifo"
