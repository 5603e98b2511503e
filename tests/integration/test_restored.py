"""A real extension in an environment that is restored from a snapshot has a name of its own in what it sends."""

import json
from collections.abc import Sequence

import pytest

from local_lambda import Platform
from tests.integration.world import GROUP, NUMBERED, assert_balanced, world

NAME = "2026/03/02/[7]aa11bb22cc33dd44"


@pytest.mark.parametrize("name", [NAME, None])
async def test_a_copy_of_a_snapshot_goes_by_a_name_of_its_own_in_every_sink(name: str | None) -> None:
    """The local Lambda restores what it initialised; a copy is told another name, or none under the oldest schema."""

    def rename(batch: Sequence[bytes]) -> Sequence[bytes]:
        records = [json.loads(record) for record in batch]
        for one in records:
            if one["type"] == "platform.restoreStart":
                del one["record"]["instanceId"]
                one["record"] |= {"instanceId": name} if name else {}
        return [json.dumps(one).encode() for one in records]

    async with world(platform=Platform(spoil=rename), init_type="snap-start") as w:
        snapshot = w.env.instance_id
        for first in (0, 100):
            await w.env.invoke({"first": first, "lines": 5})
        await w.env.shutdown()
        assert_balanced(w.ledgers[0])
        lines = [one for one in w.splunk.events if NUMBERED.search(str(one.event))]
        (own,) = {str(one.fields["instance_id"]) for one in lines}
        assert own == name or (name is None and own.startswith("20") and own != snapshot)
        in_datadog = [one for one in w.datadog.logs if NUMBERED.search(one.message)]
        assert {one.attributes["lambda"]["instance_id"] for one in in_datadog} == {own}
        in_stream = [one for one in w.cloudwatch.events(GROUP, own) if NUMBERED.search(one.message)]
        assert len(lines) == len(in_datadog) == len(in_stream) == 10
