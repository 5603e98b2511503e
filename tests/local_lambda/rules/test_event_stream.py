"""The event stream of the Lambda API, read by the AWS SDK's own parser."""

import pytest
from botocore.eventstream import EventStreamBuffer

from local_lambda.rules.event_stream import invoke_complete, payload_chunk


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 300])
def test_the_sdk_reads_what_was_written(data: bytes) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(payload_chunk(data) + invoke_complete(b'{"ErrorCode":"x"}'))
    chunk, complete = list(buffer)  # its checksums are checked
    assert chunk.payload == data
    assert chunk.headers == {
        ":event-type": "PayloadChunk",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
    assert complete.payload == b'{"ErrorCode":"x"}'
    assert complete.headers[":event-type"] == "InvokeComplete"
