"""What tells of a restore, and what it does."""

import asyncio

from telemetry_forwarder.clock import SystemClock
from telemetry_forwarder.log import Log
from telemetry_forwarder.secrets.service import SecretsService
from telemetry_forwarder.secrets.settings import secrets_from
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.variables.reading import read_all
from tests.builders import record


async def service_in(init_type: str, tasks: asyncio.TaskGroup) -> tuple[SecretsService, list[str]]:
    settings = secrets_from(read_all({"AWS_LAMBDA_INITIALIZATION_TYPE": init_type}))
    service = SecretsService(settings, Network(), tasks=tasks, clock=SystemClock(), log=Log("error"))
    dropped: list[str] = []
    drop_all = service.cache.drop_all

    def noted() -> None:
        dropped.append("all")
        drop_all()

    service.cache.drop_all = noted  # type: ignore[method-assign]
    return service, dropped


async def test_the_record_of_a_restore_drops_everything_once() -> None:
    async with asyncio.TaskGroup() as tasks:
        service, dropped = await service_in("snap-start", tasks)
        service.on_events([record(type="platform.initStart"), record(type="function")])
        assert dropped == []
        service.on_events([record(type="platform.restoreStart")])
        service.on_restore()  # the first INVOKE comes as well
        assert dropped == ["all"]
        service.stop()


async def test_without_a_snapshot_there_is_nothing_to_drop() -> None:
    async with asyncio.TaskGroup() as tasks:
        service, dropped = await service_in("on-demand", tasks)
        service.on_restore()
        assert dropped == []
